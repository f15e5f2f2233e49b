//! What the socket tests share: a small cluster, a client, and polling with a deadline.

use std::time::Duration;

use serde_json::{Value, json};
use vllm_sim::cluster::{Cluster, ClusterConfig};
use vllm_sim::engine::EngineConfig;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A running cluster and a client to talk to it.
pub(crate) struct Rig {
    pub(crate) cluster: Cluster,
    pub(crate) client: reqwest::Client,
}

/// Two engines, 50 times faster than real ones, one adapter.
pub(crate) async fn rig() -> Rig {
    rig_with(|_| {}).await
}

pub(crate) async fn rig_with(adjust: impl FnOnce(&mut ClusterConfig)) -> Rig {
    let mut config = ClusterConfig {
        engines: 2,
        admin_port: Some(0),
        loras: vec!["adapter-a".to_owned()],
        speedup: 50.0,
        ..ClusterConfig::default()
    };
    adjust(&mut config);
    Rig { cluster: Cluster::start(config).await.unwrap(), client: client() }
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap()
}

/// An engine that answers at once.
pub(crate) fn instant_engine(config: &mut ClusterConfig) {
    config.speedup = 1e6;
    config.engine = EngineConfig { num_gpu_blocks: 2000, ..EngineConfig::default() };
}

impl Rig {
    pub(crate) fn url(&self, engine: usize, path: &str) -> String {
        format!("http://{}{path}", self.cluster.addresses()[engine])
    }

    pub(crate) fn admin(&self, path: &str) -> String {
        format!("http://{}{path}", self.cluster.admin().unwrap())
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        self.client.post(self.url(0, path)).json(body).send().await.unwrap()
    }

    /// A successful answer's body.
    pub(crate) async fn ask(&self, path: &str, body: &Value) -> Value {
        let response = self.post(path, body).await;
        assert_eq!(response.status(), 200, "{path} {body}");
        response.json().await.unwrap()
    }

    pub(crate) async fn state(&self, engine: usize) -> Value {
        let url = self.admin(&format!("/engines/{engine}/state"));
        self.client.get(url).send().await.unwrap().json().await.unwrap()
    }

    pub(crate) async fn fault(&self, engine: usize, fault: &Value) {
        let url = self.admin(&format!("/engines/{engine}/fault"));
        assert_eq!(self.client.post(url).json(fault).send().await.unwrap().status(), 200, "{fault}");
    }

    pub(crate) async fn reset(&self, engine: usize) {
        let url = self.admin(&format!("/engines/{engine}/reset"));
        assert_eq!(self.client.post(url).send().await.unwrap().status(), 200);
    }

    pub(crate) async fn scrape(&self, engine: usize) -> String {
        self.client.get(self.url(engine, "/metrics")).send().await.unwrap().text().await.unwrap()
    }

    /// Polls an engine's state until it satisfies `wanted`.
    pub(crate) async fn until(&self, engine: usize, wanted: impl Fn(&Value) -> bool) -> Value {
        let started = std::time::Instant::now();
        loop {
            let state = self.state(engine).await;
            if wanted(&state) {
                return state;
            }
            assert!(started.elapsed() < DEADLINE, "still {state}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A chat body of one user message.
pub(crate) fn chat(content: &str, max_tokens: u32) -> Value {
    json!({"model": "sim-model", "max_tokens": max_tokens, "messages": [{"role": "user", "content": content}]})
}

/// The same, streamed.
pub(crate) fn streamed(content: &str, max_tokens: u32) -> Value {
    let mut body = chat(content, max_tokens);
    body["stream"] = true.into();
    body
}

/// The value of the first series that starts with `name` followed by a brace.
pub(crate) fn series(page: &str, name: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")));
    line.unwrap_or_else(|| panic!("no {name}")).rsplit(' ').next().unwrap().parse().unwrap()
}
