//! A control plane on a cluster, engines for its pods to stand for, and the waits on it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use cluster::access::Access;
use cluster::cluster::Cluster;
use cluster::kind::Kind;
use cluster::namespace::Namespace;
use cluster::pods::NewPod;
use controlplane::config::Config;
use controlplane::datastore::{EndpointView, Readiness, View};
use controlplane::runtime::{Options, Running, start};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// For what should take a second at most, on a machine that is busy with other things.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// One listener that answers at every address of the loopback device, and nowhere else: the engine of all pods.
pub(crate) struct Engines {
    pub(crate) port: u16,
}

impl Engines {
    /// Answers until the test's runtime ends.
    pub(crate) async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind_device(Some(b"lo")).unwrap();
        socket.bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
        });
        Self { port }
    }
}

/// Every question is answered as `/metrics` would be; as a list of models that is nonsense, which is known as such.
async fn answer(mut stream: tokio::net::TcpStream) {
    let body = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0.1\n";
    let reply = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut asked = [0_u8; 4096];
    while let Ok(1..) = stream.read(&mut asked).await {
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A running control plane.
pub(crate) struct Plane {
    pub(crate) running: Running,
    _folder: TempDir,
}

impl Plane {
    /// Runs with `config` as whoever has `access`.
    pub(crate) async fn start(access: &Access, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("listen: {{grpc: '127.0.0.1:0', http: '127.0.0.1:0'}}\n{config}");
        let mut config = Config::parse(&text, folder.path()).unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        access.write_kubeconfig(&kubeconfig);
        config.kubernetes.kubeconfig = Some(kubeconfig);
        let running =
            start(Options { config, config_path: None, epp: controlplane::epp::Settings::default() }).await.unwrap();
        Self { running, _folder: folder }
    }

    pub(crate) async fn until(&self, what: &str, holds: impl FnMut(&Arc<View>) -> bool) {
        self.within(SOON, what, holds).await;
    }

    pub(crate) async fn within(&self, deadline: Duration, what: &str, holds: impl FnMut(&Arc<View>) -> bool) {
        let mut view = self.running.datastore.view.clone();
        let seen = timeout(deadline, view.wait_for(holds)).await.is_ok();
        assert!(seen, "never: {what}; {:#?}", self.running.datastore.view.borrow());
    }

    pub(crate) async fn until_ready(&self) {
        let mut ready = self.running.ready.clone();
        timeout(SOON, ready.wait_for(|ready| *ready)).await.expect("ready in time").unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.running.http);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    /// Polls until what `path` answers `holds`.
    pub(crate) async fn until_get(&self, path: &str, holds: impl Fn(&str) -> bool) {
        e2e::wait::eventually(path, SOON, async || holds(&self.get(path).await)).await;
    }

    /// What the cluster says of a pool, in the API.
    pub(crate) async fn source(&self, pool: &str) -> Value {
        let pools: Vec<Value> = serde_json::from_str(&self.get("/api/v1/pools").await).unwrap();
        pools
            .into_iter()
            .find(|shown| shown["name"] == pool)
            .map(|shown| shown["kubernetes"].clone())
            .unwrap_or_default()
    }

    pub(crate) async fn stop(self) {
        timeout(SOON, self.running.stop()).await.unwrap();
    }
}

/// A cluster of this test's own with these definitions.
pub(crate) async fn cluster_with(bundles: &[&str]) -> Option<Cluster> {
    let cluster = Cluster::start().await?;
    if !bundles.is_empty() {
        cluster.install(bundles);
    }
    Some(cluster)
}

/// The account of a control plane that may read what discovery reads.
pub(crate) async fn reader(namespace: &Namespace<'_>) -> Access {
    let read: &[&str] = &["list", "watch"];
    let rules: &[(&str, &[&str], &[&str])] = &[
        ("", &["pods"], read),
        ("inference.networking.k8s.io", &["inferencepools"], read),
        ("inference.networking.x-k8s.io", &["inferencepools"], read),
        ("llm-d.ai", &["inferenceobjectives", "inferencemodelrewrites"], read),
    ];
    namespace.grant("kvasir", rules).await;
    namespace.service_account("kvasir").await
}

/// Automatic pools of all InferencePools; gone ones drain for a moment.
pub(crate) fn automatic() -> String {
    "kubernetes: {pools: {endpointPicker: '*', drainGrace: 1s, defaults: {health: {interval: 100ms}}}}".to_owned()
}

pub(crate) fn inference_pool(name: &str, labels: &Value, ports: &[u16]) -> Value {
    let ports: Vec<Value> = ports.iter().map(|port| json!({"number": port})).collect();
    json!({
        "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "targetPorts": ports,
                 "endpointPickerRef": {"name": "kvasir", "port": {"number": 9002}}},
    })
}

pub(crate) const OBJECTIVE: Kind = Kind::new("llm-d.ai/v1alpha2", "InferenceObjective", "inferenceobjectives");
pub(crate) const REWRITE: Kind = Kind::new("llm-d.ai/v1alpha2", "InferenceModelRewrite", "inferencemodelrewrites");

/// For requests to `pool`, a reference.
pub(crate) fn objective(name: &str, priority: i32, pool: &Value) -> Value {
    json!({
        "apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceObjective", "metadata": {"name": name},
        "spec": {"priority": priority, "poolRef": pool},
    })
}

/// Every request to `pool`, a reference, is for `model`.
pub(crate) fn rewrite(name: &str, model: &str, pool: &Value) -> Value {
    json!({
        "apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceModelRewrite", "metadata": {"name": name},
        "spec": {"poolRef": pool, "rules": [{"targets": [{"modelRewrite": model}]}]},
    })
}

pub(crate) async fn create(namespace: &Namespace<'_>, kind: Kind, object: Value) {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    namespace.of(kind).create(&PostParams::default(), &object).await.unwrap();
}

pub(crate) async fn change(namespace: &Namespace<'_>, kind: Kind, name: &str, change: Value) {
    let api = namespace.of(kind);
    api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
}

/// A ready pod of `app: vllm`, at an address of its own on loopback.
pub(crate) fn pod(number: u16) -> NewPod {
    let [high, low] = number.to_be_bytes();
    NewPod::new(&format!("p{number}"), Ipv4Addr::new(127, 9, high, low)).label("app", "vllm")
}

pub(crate) fn endpoints<'a>(view: &'a View, pool: &str) -> &'a [EndpointView] {
    view.pools.iter().find(|shown| shown.name == pool).map(|pool| pool.endpoints.as_slice()).unwrap_or_default()
}

/// Addresses without the port, and whether they take requests, are draining, or neither.
pub(crate) fn states(view: &View, pool: &str) -> Vec<(String, &'static str)> {
    let state = |readiness: &Readiness| match readiness {
        Readiness::Ready => "ready",
        Readiness::Draining => "draining",
        Readiness::Unhealthy(_) => "unhealthy",
    };
    endpoints(view, pool).iter().map(|e| (e.labels["pod"].clone(), state(&e.readiness))).collect()
}

/// As `states` gives them.
pub(crate) fn are(expected: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    expected.iter().map(|(pod, state)| ((*pod).to_owned(), *state)).collect()
}
