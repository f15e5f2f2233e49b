//! What happens to pods happens to endpoints.

use cluster::cluster::Cluster;
use cluster::namespace::Namespace;
use cluster::pods::Ready;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::fixture::{
    Engines, Plane, are, automatic, change, cluster_with, create, endpoints, inference_pool, pod, reader, states,
};
use cluster::kind::POOL;

struct Scene<'a> {
    namespace: Namespace<'a>,
    plane: Plane,
    pool: String,
}

/// A namespace with pods 1 and 2, an InferencePool for them, and a control plane that serves both.
async fn scene<'a>(cluster: &'a Cluster, prefix: &str, ports: &[u16]) -> Scene<'a> {
    let namespace = cluster.namespace(prefix).await;
    create(&namespace, POOL, inference_pool("llama", &json!({"app": "vllm"}), ports)).await;
    namespace.run(pod(1)).await;
    namespace.run(pod(2)).await;
    let plane = Plane::start(&reader(&namespace).await, &automatic()).await;
    plane.until_ready().await;
    let pool = format!("{}/llama", namespace.name);
    Scene { namespace, plane, pool }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_their_pods() {
    let Some(cluster) = cluster_with(&["inference-extension", "llm-d"]).await else { return };
    let engines = Engines::start().await;
    let Scene { namespace, plane, pool } = scene(&cluster, "pods", &[engines.port]).await;
    let until = async |what: &str, expected: &[(&str, &'static str)]| {
        plane.until(what, |view| states(view, &pool) == are(expected)).await;
    };
    until("both are ready", &[("p1", "ready"), ("p2", "ready")]).await;

    namespace.set_ready("p1", Ready::No).await;
    until("an unready one drains", &[("p1", "draining"), ("p2", "ready")]).await;
    namespace.set_ready("p1", Ready::Yes).await;
    until("and comes back", &[("p1", "ready"), ("p2", "ready")]).await;

    namespace.run(pod(3).ready(Ready::No)).await;
    namespace.run(pod(4)).await;
    until("one that only starts is none", &[("p1", "ready"), ("p2", "ready"), ("p4", "ready")]).await;

    namespace.terminate("p2").await;
    until("one that terminates drains", &[("p1", "ready"), ("p2", "draining"), ("p4", "ready")]).await;
    namespace.remove("p2").await;
    until("and is gone in the end", &[("p1", "ready"), ("p4", "ready")]).await;

    let label = Patch::Merge(json!({"metadata": {"labels": {"app": "other"}}}));
    namespace.pods().patch("p4", &PatchParams::default(), &label).await.unwrap();
    until("one that is no longer selected is gone", &[("p1", "ready")]).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_the_pools_ports_and_the_pods_active_ones() {
    let Some(cluster) = cluster_with(&["inference-extension", "llm-d"]).await else { return };
    let Scene { namespace, plane, pool } = scene(&cluster, "ports", &[7001, 7002]).await;
    let ports = |view: &controlplane::datastore::View| {
        let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
        endpoints(view, &pool).iter().map(|e| (e.labels["pod"].clone(), port(&e.address))).collect::<Vec<_>>()
    };
    let pairs = |expected: &[(&str, &str)]| {
        expected.iter().map(|(pod, port)| ((*pod).to_owned(), (*port).to_owned())).collect::<Vec<_>>()
    };
    let all = pairs(&[("p1", "7001"), ("p1", "7002"), ("p2", "7001"), ("p2", "7002")]);
    plane.until("every port of every pod", |view| ports(view) == all).await;

    let annotate = async |annotations: Value| {
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        namespace.pods().patch("p2", &PatchParams::default(), &patch).await.unwrap();
    };
    annotate(json!({"inference.networking.k8s.io/active-ports": "7002"})).await;
    let restricted = pairs(&[("p1", "7001"), ("p1", "7002"), ("p2", "7002")]);
    plane.until("only the active port", |view| ports(view) == restricted).await;
    annotate(json!({"llm-d.ai/active-ports": "7001,7002"})).await;
    plane.until("the new name wins", |view| ports(view) == all).await;

    change(&namespace, POOL, "llama", json!({"spec": {"targetPorts": [{"number": 7002}]}})).await;
    let one = pairs(&[("p1", "7002"), ("p2", "7002")]);
    plane.until("the pool's new ports", |view| ports(view) == one).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_group_only_the_leader_is_an_endpoint() {
    let Some(cluster) = cluster_with(&["inference-extension", "llm-d"]).await else { return };
    let Scene { namespace, plane, pool } = scene(&cluster, "groups", &[7001]).await;
    let index = "leaderworkerset.sigs.k8s.io/worker-index";
    namespace.run(pod(3).label(index, "1")).await;
    namespace.run(pod(4).label(index, "0")).await;
    let pods = |view: &controlplane::datastore::View| {
        endpoints(view, &pool).iter().map(|e| e.labels["pod"].clone()).collect::<Vec<_>>()
    };
    plane.until("the leader and the others", |view| pods(view) == ["p1", "p2", "p4"]).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_found_without_an_inference_pool() {
    let Some(cluster) = cluster_with(&[]).await else { return };
    let namespace = cluster.namespace("selected").await;
    let far = cluster.namespace("far").await;
    namespace.run(pod(1)).await;
    far.run(pod(2)).await;
    let config = format!(
        "pools:
- {{name: near, discovery: {{kubernetes: {{selector: {{app: vllm}}, ports: [7001]}}}}}}
- {{name: far, discovery: {{kubernetes: {{selector: {{app: vllm}}, ports: [7001], namespace: {}}}}}}}
",
        far.name
    );
    let near = namespace.service_account("kvasir").await;
    cluster.apply(&format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {{name: k}}, roleRef: \
         {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}, subjects: \
         [{{kind: ServiceAccount, name: kvasir, namespace: {}}}]}}",
        namespace.name
    ));
    let plane = Plane::start(&near, &config).await;
    plane.until_ready().await;
    let pods = |view: &controlplane::datastore::View, pool: &str| {
        endpoints(view, pool).iter().map(|e| e.labels["pod"].clone()).collect::<Vec<_>>()
    };
    plane.until("each namespace's own", |view| pods(view, "near") == ["p1"] && pods(view, "far") == ["p2"]).await;
    plane.stop().await;
}
