//! A namespace with an InferencePool, ready pods with their engines, a control plane and an Envoy. The engines of a pod are
//! processes: what a kubelet would do to them, tests do.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use cluster::cluster::Cluster;
use cluster::kind::POOL;
use cluster::namespace::Namespace;
use cluster::pods::{NewPod, Ready};
use cluster::ports::free_port;
use e2e::binaries::Binaries;
use e2e::sim::Sim;
use e2e::stack::Stack;
use e2e::wait::{SOON, eventually};
use kube::api::PostParams;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::traffic::Traffic;

/// What discovery needs to be granted, and nothing else: groups, resources, verbs.
const RULES: [(&str, &[&str], &[&str]); 3] = [
    ("", &["pods"], &["list", "watch"]),
    ("inference.networking.k8s.io", &["inferencepools"], &["list", "watch"]),
    ("llm-d.ai", &["inferenceobjectives", "inferencemodelrewrites"], &["list", "watch"]),
];

/// Tests measure times on a machine with few cores, so they take turns.
static TURN: Mutex<()> = Mutex::const_new(());

/// Everything but the cluster.
pub(crate) struct Scene {
    pub(crate) stack: Stack,
    engines: BTreeMap<u8, (Sim, TempDir)>,
    binaries: Binaries,
    port: u16,
    _turn: MutexGuard<'static, ()>,
}

/// The definitions that a control plane looks at.
pub(crate) fn define(cluster: &Cluster) {
    cluster.install(&["inference-extension", "llm-d"]);
}

/// The name of the pod with this number.
pub(crate) fn name(pod: u8) -> String {
    format!("p{pod}")
}

impl Scene {
    /// Pods 1 to `pods` run and serve; `None` when binaries are missing.
    pub(crate) async fn start(namespace: &Namespace<'_>, pods: u8) -> Option<Self> {
        let turn = TURN.lock().await;
        let binaries = Binaries::find()?;
        let port = free_port();
        let pool = json!({"spec": {
            "selector": {"matchLabels": {"app": "vllm"}},
            "targetPorts": [{"number": port}],
            "endpointPickerRef": {"name": "kvasir", "port": {"number": 9002}},
        }});
        namespace.of(POOL).create(&PostParams::default(), &POOL.object("llama", pool)).await.unwrap();
        namespace.grant("kvasir", &RULES).await;
        let kubeconfig = namespace.cluster().folder().file(&format!("{}.kubeconfig", namespace.name));
        namespace.service_account("kvasir").await.write_kubeconfig(kubeconfig.as_ref());
        let mut engines = BTreeMap::new();
        for pod in 1..=pods {
            engines.insert(pod, engine(&binaries, pod, port).await);
            namespace.run(new(pod)).await;
        }
        let stack = Stack::new().engines(0).discovery("{kubernetes: {inferencePool: llama}}");
        let stack = stack.control_plane(&["--kubeconfig", &kubeconfig]).start().await?;
        Some(Self { stack, engines, binaries, port, _turn: turn })
    }

    /// Requests without end, from now on; returns when each of these pods has answered some.
    pub(crate) async fn traffic(&self, pods: &[u8]) -> Traffic {
        let traffic = Traffic::start(self.stack.gateway());
        for pod in pods {
            traffic.until_answered_by(&self.address(*pod), std::time::Instant::now()).await;
        }
        traffic
    }

    /// Where the pod's engine is.
    pub(crate) fn address(&self, pod: u8) -> String {
        address(pod, self.port).to_string()
    }

    /// The pod's engine.
    pub(crate) fn engine(&self, pod: u8) -> &Sim {
        &self.engines[&pod].0
    }

    /// A pod that is not ready yet, although its engine is.
    pub(crate) async fn add(&mut self, namespace: &Namespace<'_>, pod: u8) {
        namespace.run(new(pod).ready(Ready::No)).await;
        self.start_engine(pod).await;
    }

    /// Starts the engine of a pod.
    pub(crate) async fn start_engine(&mut self, pod: u8) {
        self.engines.insert(pod, engine(&self.binaries, pod, self.port).await);
    }

    /// Kills the engine of a pod, without notice.
    pub(crate) fn kill_engine(&mut self, pod: u8) {
        self.engines.remove(&pod).expect("its engine runs");
    }

    /// How many requests the pod's engine has got from clients.
    pub(crate) async fn received(&self, pod: u8) -> u64 {
        self.engine(pod).states().await[0]["requests"]["received"].as_u64().unwrap()
    }

    /// What a kubelet does to a pod that terminates: its engine ends when its requests have, and then it is gone.
    pub(crate) async fn finish(&mut self, namespace: &Namespace<'_>, pod: u8) {
        eventually("its requests end", SOON, async || self.engine(pod).in_flight().await == [0]).await;
        self.kill_engine(pod);
        namespace.remove(&name(pod)).await;
        let address = self.address(pod);
        eventually("it is gone", SOON, async || self.stack.control().state_of(&address).await.is_none()).await;
    }
}

fn new(pod: u8) -> NewPod {
    NewPod::new(&name(pod), address(pod, 0).ip()).label("app", "vllm")
}

fn address(pod: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(127, 7, 0, pod), port).into()
}

async fn engine(binaries: &Binaries, pod: u8, port: u16) -> (Sim, TempDir) {
    let folder = tempfile::Builder::new().prefix("kvasir-pod-").tempdir().unwrap();
    let flags = ["--api-delay-ms", "2"].map(str::to_owned);
    (Sim::start_at(binaries, folder.path(), address(pod, port), &flags).await, folder)
}
