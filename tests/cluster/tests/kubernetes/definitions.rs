//! Definitions of others, as they are published, and what their rules refuse.

use std::sync::OnceLock;

use cluster::cluster::Cluster;
use cluster::kind::{ALPHA_POOL, Kind, LEADER_WORKER_SET, POOL};
use cluster::namespace::Namespace;
use kube::api::{DynamicObject, PostParams};
use kube::core::Status;
use serde_json::{Value, json};

use crate::refusal;

/// The shared cluster with the definitions of these tests.
async fn cluster() -> Option<&'static Cluster> {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    let cluster = Cluster::shared().await?;
    INSTALLED.get_or_init(|| cluster.install(&["inference-extension", "inference-extension-alpha", "lws"]));
    Some(cluster)
}

async fn create(namespace: &Namespace<'_>, kind: Kind, spec: Value) -> kube::Result<DynamicObject> {
    namespace.of(kind).create(&PostParams::default(), &kind.object("test", json!({"spec": spec}))).await
}

async fn refused(namespace: &Namespace<'_>, kind: Kind, spec: Value) -> Box<Status> {
    refusal(create(namespace, kind, spec).await)
}

fn pool(ports: &[u16]) -> Value {
    let ports: Vec<_> = ports.iter().map(|port| json!({"number": port})).collect();
    json!({"selector": {"matchLabels": {"app": "llm"}}, "targetPorts": ports})
}

#[tokio::test]
async fn a_pool_needs_no_endpoint_picker_since_1_6() {
    let Some(cluster) = cluster().await else { return };
    let namespace = cluster.namespace("pool").await;
    let created = create(&namespace, POOL, pool(&[8000, 8001])).await.unwrap();
    assert_eq!(created.data.pointer("/spec/appProtocol"), Some(&json!("http")));
}

#[tokio::test]
async fn a_pool_of_1_3_needs_an_endpoint_picker() {
    // The same definition in another version: it cannot be in the shared cluster.
    let Some(cluster) = Cluster::start().await else { return };
    cluster.install(&["inference-extension-old"]);
    let namespace = cluster.namespace("pool").await;
    let refused = refused(&namespace, POOL, pool(&[8000])).await;
    assert!(refused.is_invalid() && refused.message.contains("endpointPickerRef"), "{}", refused.message);
}

#[tokio::test]
async fn a_pool_with_bad_ports_or_without_labels_is_refused() {
    let Some(cluster) = cluster().await else { return };
    let namespace = cluster.namespace("pool").await;
    let nine: Vec<u16> = (8000..8009).collect();
    let no_labels = json!({"selector": {"matchLabels": {}}, "targetPorts": [{"number": 8000}]});
    let cases = [
        (pool(&[8000, 8000]), "unique"),
        (pool(&[]), "at least 1"),
        (pool(&nine), "at most 8"),
        (no_labels, "at least 1"),
    ];
    for (spec, reason) in cases {
        let refused = refused(&namespace, POOL, spec).await;
        assert!(refused.is_invalid() && refused.message.contains(reason), "{reason}: {}", refused.message);
    }
}

#[tokio::test]
async fn a_picker_of_kind_service_needs_a_port() {
    let Some(cluster) = cluster().await else { return };
    let namespace = cluster.namespace("pool").await;
    let mut spec = pool(&[8000]);
    spec["endpointPickerRef"] = json!({"name": "picker"});
    let refused = refused(&namespace, POOL, spec).await;
    assert!(refused.message.contains("port is required"), "{}", refused.message);
}

#[tokio::test]
async fn the_alpha_pool_has_its_own_group_and_shape() {
    let Some(cluster) = cluster().await else { return };
    let namespace = cluster.namespace("pool").await;
    let alpha = json!({"selector": {"app": "llm"}, "targetPortNumber": 8000, "extensionRef": {"name": "picker"}});
    create(&namespace, ALPHA_POOL, alpha).await.unwrap();
    assert!(refused(&namespace, ALPHA_POOL, pool(&[8000])).await.is_invalid());
}

#[tokio::test]
async fn only_the_controllers_webhook_minds_the_size_of_a_group() {
    let Some(cluster) = cluster().await else { return };
    let namespace = cluster.namespace("lws").await;
    let template = json!({"spec": {"containers": [{"name": "engine", "image": "engine"}]}});
    let group = json!({"size": 0, "workerTemplate": template});
    let bad = json!({"replicas": 2, "startupPolicy": "Never", "leaderWorkerTemplate": group});
    assert!(refused(&namespace, LEADER_WORKER_SET, bad).await.is_invalid());
    create(&namespace, LEADER_WORKER_SET, json!({"replicas": 2, "leaderWorkerTemplate": group})).await.unwrap();
    let scale = namespace.of(LEADER_WORKER_SET).get_scale("test").await.unwrap();
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(2));
}
