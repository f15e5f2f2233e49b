//! The running control plane over simulated engines on real sockets: what it knows of them from their KV events alone.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on must fail")]

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use controlplane::config::watch::load;
use controlplane::runtime::{Options, Running, start};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use vllm_sim::cluster::{Cluster, ClusterConfig};
use vllm_sim::kv_events::KvEventsOptions;
use vllm_sim::language::{LanguageConfig, write_builtin};

const DEADLINE: Duration = Duration::from_secs(60);

/// A control plane with exact residency over a file of endpoints.
struct Rig {
    folder: PathBuf,
    running: Running,
}

impl Rig {
    async fn start(name: &str, listen: &str, endpoints: &[SocketAddr]) -> Self {
        let folder = std::env::temp_dir().join(format!("kvasir-engines-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("model")).unwrap();
        write_builtin(&folder.join("model")).unwrap();
        let config = format!(
            "listen: {{grpc: '127.0.0.1:0', http: '127.0.0.1:0'{listen}}}
pools:
- name: p
  models: [sim-model]
  discovery: {{static: {{endpoints: {}}}}}
  exact: {{model: ./model}}
",
            json!(endpoints)
        );
        let path = folder.join("kvasir.yaml");
        std::fs::write(&path, config).unwrap();
        let running = start(Options {
            config: load(&path).unwrap(),
            config_path: None,
            epp: controlplane::epp::Settings::default(),
        })
        .await
        .unwrap();
        Self { folder, running }
    }

    async fn get(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.running.http);
        client().get(url).send().await.unwrap().text().await.unwrap()
    }

    async fn prefixes(&self) -> Value {
        let table: Value = serde_json::from_str(&self.get("/api/v1/table").await).unwrap();
        table["pools"][0]["prefixes"].clone()
    }

    /// Polls until what is known of prefixes satisfies `holds`.
    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let polling = async {
            while !holds(&self.prefixes().await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, polling).await.is_err() {
            panic!("never: {what}; {}", self.prefixes().await);
        }
    }

    async fn stop(self) {
        self.running.stop().await;
        std::fs::remove_dir_all(self.folder).unwrap();
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// An engine; dropping it ends it.
struct Engine {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Engine {
    async fn start(at: SocketAddr, endpoint: String, topic: String, non_canonical: f64) -> Self {
        let kv_events = KvEventsOptions { enable_kv_cache_events: true, endpoint, topic, ..KvEventsOptions::default() };
        let config = ClusterConfig {
            host: at.ip(),
            port: at.port(),
            speedup: 20.0,
            kv_events,
            language: LanguageConfig { non_canonical, ..LanguageConfig::default() },
            ..ClusterConfig::default()
        };
        let cluster = Cluster::start(config).await.unwrap();
        let address = *cluster.addresses().first().unwrap();
        Self { address, task: tokio::spawn(cluster.serve()) }
    }

    async fn post(&self, path: &str, body: Value) {
        let sent = client().post(format!("http://{}{path}", self.address)).json(&body).send().await.unwrap();
        assert!(sent.status().is_success(), "{}", sent.status());
    }

    async fn chat(&self, prompt: &str, max_tokens: u32) {
        let messages = json!([{"role": "user", "content": prompt}]);
        self.post(
            "/v1/chat/completions",
            json!({"model": "sim-model", "max_tokens": max_tokens, "messages": messages}),
        )
        .await;
    }
}

/// Free a moment ago.
fn free_port(ip: &str) -> SocketAddr {
    let ip: IpAddr = ip.parse().unwrap();
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

/// Asks for one thing after another: an engine connects when it likes, what it published before is lost.
async fn asking(engine: &Engine, about: &str, done: impl AsyncFn() -> bool) {
    let asking = async {
        for number in 0_u64.. {
            if done().await {
                return;
            }
            engine.chat(&prompt(&format!("{about} {number}")), 1).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap();
}

fn prompt(about: &str) -> String {
    format!("tell me about {about} ").repeat(20)
}

/// What is known of one; `Null` before the pool is published.
fn engine(prefixes: &Value, address: SocketAddr) -> &Value {
    let mut engines = prefixes["engines"].as_array().into_iter().flatten();
    engines.find(|engine| engine["address"] == address.to_string()).unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_that_connect_are_known_by_their_topics_and_lost_batches_void_what_was_known() {
    let (one, two) = (free_port("127.0.0.1"), free_port("127.0.0.2"));
    let rig = Rig::start("connect", ", events: '127.0.0.1:0'", &[one, two]).await;
    let gate = rig.running.events.unwrap();
    let connects = async |at, topic: String| Engine::start(at, format!("tcp://{gate}"), topic, 0.0).await;
    // One names itself with its port, the other without.
    let first = connects(one, format!("kv@{one}@sim-model")).await;
    let second = connects(two, "kv@127.0.0.2@sim-model".to_owned()).await;
    let stranger = connects("127.0.0.1:0".parse().unwrap(), "kv@10.9.9.9:8000@sim-model".to_owned()).await;
    rig.until("the model is loaded", |prefixes| prefixes["mode"] == "exact").await;
    let followed = |prefixes: &Value, at| engine(prefixes, at)["followed"] == true;

    asking(&first, "wolves", async || followed(&rig.prefixes().await, one)).await;
    rig.until("blocks of the first", |prefixes| engine(prefixes, one)["blocks"].as_u64() >= Some(5)).await;
    let prefixes = rig.prefixes().await;
    assert!(!followed(&prefixes, two) && engine(&prefixes, two)["blocks"] == 0, "{prefixes}");
    asking(&second, "ravens", async || followed(&rig.prefixes().await, two)).await;
    rig.until("blocks of the second", |p| engine(p, two)["blocks"].as_u64() >= Some(5)).await;
    let unknown = async || {
        let metrics = rig.get("/metrics").await;
        let count = |line: &str| line.strip_prefix("kvasir_kv_event_unknown_messages_total ")?.parse::<u64>().ok();
        metrics.lines().find_map(count) > Some(0)
    };
    asking(&stranger, "giants", unknown).await;

    let (before, resets) = (rig.prefixes().await, |p: &Value| p["totals"]["resets"].as_u64().unwrap());
    first.post("/sim/fault", json!({"kind": "lose_events", "next": 1})).await;
    for about in ["serpents", "dwarves"] {
        first.chat(&prompt(about), 1).await;
    }
    rig.until("what was known is void", |p| resets(p) > resets(&before)).await;
    let known = |p: &Value, at| engine(p, at)["blocks"].as_u64().unwrap();
    assert!(known(&rig.prefixes().await, one) < known(&before, one) + 5);
    assert!(known(&rig.prefixes().await, two) >= known(&before, two));
    drop((first, second, stranger));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_text_is_checked_while_requests_go_on() {
    for (name, rate) in [("clean", 0.0), ("slips", 0.1)] {
        let any = "127.0.0.1:0".parse().unwrap();
        let only = Engine::start(any, "tcp://*:0".to_owned(), String::new(), rate).await;
        let rig = Rig::start(name, "", &[only.address]).await;
        let followed = async || engine(&rig.prefixes().await, only.address)["followed"] == true;
        asking(&only, "serpents", followed).await;
        for about in ["wolves", "ravens", "giants", "dwarves"] {
            only.chat(&prompt(about), 200).await;
        }
        let total = |prefixes: &Value, what: &str| prefixes["totals"][what].as_u64().unwrap();
        let answered = |p: &Value| total(p, "canonical") + total(p, "alarms");
        if rate > 0.0 {
            rig.until("every answer is found out", |p| total(p, "alarms") >= 4).await;
        } else {
            rig.until("every block is confirmed", |p| answered(p) >= 40).await;
            assert_eq!(total(&rig.prefixes().await, "alarms"), 0);
        }
        drop(only);
        rig.stop().await;
    }
}
