//! Pods as a kubelet would report them. There is none here: a pod gets its address and readiness from `run`, and one that is
//! deleted gracefully stays in `Terminating` until it is removed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::namespace::{Namespace, from_json};

/// Requests under way at the same time when many pods are made.
const TOGETHER: usize = 32;

/// Does a pod take requests?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Its condition `Ready` is true.
    Yes,
    /// Its condition `Ready` is false.
    No,
}

/// A pod to run.
#[derive(Clone, Debug)]
pub struct NewPod {
    name: String,
    address: IpAddr,
    ready: Ready,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl NewPod {
    /// A ready pod without labels.
    #[must_use]
    pub fn new(name: &str, address: impl Into<IpAddr>) -> Self {
        let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
        Self { name: name.to_owned(), address: address.into(), ready: Ready::Yes, labels, annotations }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets its readiness.
    #[must_use]
    pub const fn ready(mut self, ready: Ready) -> Self {
        self.ready = ready;
        self
    }

    fn object(&self) -> Value {
        json!({
            "metadata": {"name": self.name, "labels": self.labels, "annotations": self.annotations},
            "spec": {"nodeName": "node", "containers": [{"name": "engine", "image": "engine"}]},
        })
    }

    fn status(&self) -> Value {
        json!({"status": {
            "phase": "Running",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "conditions": [condition(self.ready)],
        }})
    }

    async fn run(self, pods: Api<Pod>) -> kube::Result<()> {
        pods.create(&PostParams::default(), &from_json(self.object())).await?;
        pods.patch_status(&self.name, &PatchParams::default(), &Patch::Strategic(self.status())).await?;
        Ok(())
    }
}

fn condition(ready: Ready) -> Value {
    json!({"type": "Ready", "status": if ready == Ready::Yes { "True" } else { "False" }})
}

impl Namespace<'_> {
    /// Its pods.
    #[must_use]
    pub fn pods(&self) -> Api<Pod> {
        self.api()
    }

    /// Creates a pod and reports it as running.
    ///
    /// # Panics
    /// When the API server refuses.
    pub async fn run(&self, pod: NewPod) {
        pod.run(self.pods()).await.unwrap();
    }

    /// Many pods, several at a time.
    ///
    /// # Panics
    /// When the API server refuses one.
    pub async fn run_many(&self, pods: impl IntoIterator<Item = NewPod>) {
        let mut under_way: JoinSet<kube::Result<()>> = JoinSet::new();
        for pod in pods {
            if under_way.len() == TOGETHER {
                under_way.join_next().await.expect("some are under way").unwrap().unwrap();
            }
            under_way.spawn(pod.run(self.pods()));
        }
        for ended in under_way.join_all().await {
            ended.unwrap();
        }
    }

    /// Reports a pod as ready, or not.
    ///
    /// # Panics
    /// When the API server refuses.
    pub async fn set_ready(&self, pod: &str, ready: Ready) {
        // Strategic: it changes the one condition and keeps the others.
        let change = Patch::Strategic(json!({"status": {"conditions": [condition(ready)]}}));
        self.pods().patch_status(pod, &PatchParams::default(), &change).await.unwrap();
    }

    /// Asks a pod to end: it is `Terminating` from now on, and stays so.
    ///
    /// # Panics
    /// When the API server refuses.
    pub async fn terminate(&self, pod: &str) {
        self.pods().delete(pod, &DeleteParams::default()).await.unwrap();
    }

    /// Removes a pod at once.
    ///
    /// # Panics
    /// When the API server refuses.
    pub async fn remove(&self, pod: &str) {
        self.pods().delete(pod, &DeleteParams::default().grace_period(0)).await.unwrap();
    }
}
