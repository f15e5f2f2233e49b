//! What happens to InferencePools and their definitions happens to pools.

use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::fixture::{
    Engines, OBJECTIVE, Plane, REWRITE, SOON, are, automatic, change, cluster_with, create, inference_pool, objective,
    pod, reader, rewrite, states,
};
use cluster::kind::{ALPHA_POOL, POOL};
use cluster::namespace::Namespace;
use e2e::wait::eventually;

fn names(view: &controlplane::datastore::View) -> Vec<&str> {
    view.pools.iter().map(|pool| pool.name.as_str()).collect()
}

/// What the first pool's gateways are told of objectives.
fn priorities(view: &controlplane::datastore::View) -> Vec<(&str, i32)> {
    let objectives = view.pools.iter().flat_map(|pool| &pool.settings.objectives);
    objectives.map(|one| (one.name.as_str(), one.priority)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_come_with_their_inference_pool_and_drain_when_it_goes() {
    let Some(cluster) = cluster_with(&["inference-extension", "llm-d"]).await else { return };
    let engines = Engines::start().await;
    let namespace = cluster.namespace("automatic").await;
    namespace.run(pod(1)).await;
    let plane = Plane::start(&reader(&namespace).await, &automatic()).await;
    plane.until_ready().await;
    assert!(plane.running.datastore.view.borrow().pools.is_empty());

    create(&namespace, POOL, inference_pool("llama", &json!({"app": "vllm"}), &[engines.port])).await;
    let pool = format!("{}/llama", namespace.name);
    plane.until("a pool", |view| states(view, &pool) == are(&[("p1", "ready")])).await;

    let reference = json!({"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "llama"});
    create(&namespace, OBJECTIVE, objective("batch", -10, &reference)).await;
    create(&namespace, REWRITE, rewrite("canary", "llama-2", &reference)).await;
    plane
        .until_get("/api/v1/pools", |text| {
            let shown: Value = serde_json::from_str(text).unwrap();
            let source = &shown[0]["kubernetes"];
            source["objectives"] == json!([{"name": "batch", "priority": -10}])
                && source["rewrites"][0]["rules"][0]["targets"][0]["modelRewrite"] == "llama-2"
        })
        .await;
    plane.until("gateways know its priority", |view| priorities(view) == [("batch", -10)]).await;
    change(&namespace, OBJECTIVE, "batch", json!({"spec": {"priority": -20}})).await;
    plane.until("and its next one", |view| priorities(view) == [("batch", -20)]).await;
    let other = json!({"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "qwen"});
    change(&namespace, OBJECTIVE, "batch", json!({"spec": {"poolRef": other}})).await;
    plane.until("another pool's is not this one's", |view| priorities(view).is_empty()).await;

    rules_reach_the_published_table(&plane, &namespace).await;
    let api = namespace.of(POOL);
    api.delete("llama", &DeleteParams::default()).await.unwrap();
    plane.until("its endpoints drain", |view| states(view, &pool) == are(&[("p1", "draining")])).await;
    plane.until("and it goes", |view| view.pools.is_empty()).await;
    plane.stop().await;
}

/// Asks what a gateway would do with a request for a model that only a rule knows; then the rule changes, and goes.
async fn rules_reach_the_published_table(plane: &Plane, namespace: &Namespace<'_>) {
    let called = async || {
        let body = json!({"model": "client's", "messages": []}).to_string();
        let url = format!("http://{}/api/v1/explain", plane.running.http);
        let told = reqwest::Client::new().post(url).body(body).send().await.unwrap().bytes().await.unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        (told["model"].clone(), told["rewritten_from"].clone())
    };
    eventually("a rule", SOON, async || called().await == (json!("llama-2"), json!("client's"))).await;
    let rules = json!({"spec": {"rules": [{"targets": [{"modelRewrite": "llama-3"}]}]}});
    change(namespace, REWRITE, "canary", rules).await;
    eventually("another rule", SOON, async || called().await.0 == "llama-3").await;
    namespace.of(REWRITE).delete("canary", &DeleteParams::default()).await.unwrap();
    eventually("no rule", SOON, async || called().await == (json!("client's"), Value::Null)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_version_that_is_served_is_used_whenever_it_comes() {
    let Some(cluster) = cluster_with(&[]).await else { return };
    let namespace = cluster.namespace("versions").await;
    namespace.run(pod(1)).await;
    let plane = Plane::start(&reader(&namespace).await, &automatic()).await;
    // Nothing is defined: that is known, and no reason to wait.
    plane.until_ready().await;
    assert!(plane.running.datastore.view.borrow().pools.is_empty());

    cluster.install(&["inference-extension-alpha"]);
    let old = json!({
        "apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferencePool", "metadata": {"name": "old"},
        "spec": {"selector": {"app": "vllm"}, "targetPortNumber": 7001, "extensionRef": {"name": "kvasir"}},
    });
    create(&namespace, ALPHA_POOL, old).await;
    let old = format!("{}/old", namespace.name);
    plane.until("the old kind's", |view| names(view) == [old.as_str()]).await;

    cluster.install(&["inference-extension"]);
    create(&namespace, POOL, inference_pool("new", &json!({"app": "vllm"}), &[7001])).await;
    let new = format!("{}/new", namespace.name);
    plane.until("the new kind's", |view| names(view) == [new.as_str()]).await;

    let gone = ["delete", "customresourcedefinition", "inferencepools.inference.networking.k8s.io", "--wait=false"];
    cluster.kubectl(&gone, "").unwrap();
    plane.until("the old kind's again", |view| names(view) == [old.as_str()]).await;
    plane.stop().await;
}

/// InferencePools without a schema: anything may be in them.
const LOOSE: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: inferencepools.inference.networking.k8s.io
  annotations: {api-approved.kubernetes.io: unapproved}
spec:
  group: inference.networking.k8s.io
  names: {kind: InferencePool, plural: inferencepools, singular: inferencepool, listKind: InferencePoolList}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_pool_hinders_no_other_and_keeps_its_last_good_word() {
    let Some(cluster) = cluster_with(&[]).await else { return };
    cluster.apply(LOOSE);
    let wait = ["wait", "--for=condition=Established", "customresourcedefinition", "--all", "--timeout=60s"];
    cluster.kubectl(&wait, "").unwrap();
    let namespace = cluster.namespace("malformed").await;
    namespace.run(pod(1)).await;
    let nonsense = json!({"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": {"name": "nonsense"}, "spec": 7});
    create(&namespace, POOL, nonsense).await;
    create(&namespace, POOL, inference_pool("good", &json!({"app": "vllm"}), &[7001])).await;
    let plane = Plane::start(&reader(&namespace).await, &automatic()).await;
    plane.until_ready().await;
    let good = format!("{}/good", namespace.name);
    plane.until("the good one", |view| names(view) == [good.as_str()] && states(view, &good).len() == 1).await;
    let counted =
        |number: u32| format!("kvasir_kubernetes_malformed_objects_total{{kind=\"InferencePool\"}} {number}\n");
    plane.until_get("/metrics", |text| text.contains(&counted(1))).await;

    change(&namespace, POOL, "good", json!({"spec": {"targetPorts": "all"}})).await;
    plane.until_get("/metrics", |text| text.contains(&counted(2))).await;
    assert_eq!(states(&plane.running.datastore.view.borrow(), &good).len(), 1);
    let fault = plane.source(&good).await["fault"].to_string();
    assert!(fault.contains("malformed: spec.targetPorts"), "{fault}");
    plane.stop().await;
}
