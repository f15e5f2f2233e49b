//! An API server that is away, forgets, or refuses.

use cluster::pods::Ready;
use serde_json::json;

use crate::fixture::{Engines, Plane, are, automatic, cluster_with, create, inference_pool, pod, reader, states};
use cluster::kind::POOL;

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_the_last_state_stays_and_afterwards_the_new_one_is_had() {
    let Some(mut cluster) = cluster_with(&["inference-extension", "llm-d"]).await else { return };
    let engines = Engines::start().await;
    let (plane, pool, name) = {
        let namespace = cluster.namespace("away").await;
        create(&namespace, POOL, inference_pool("llama", &json!({"app": "vllm"}), &[engines.port])).await;
        namespace.run(pod(1)).await;
        namespace.run(pod(2)).await;
        let plane = Plane::start(&reader(&namespace).await, &automatic()).await;
        (plane, format!("{}/llama", namespace.name), namespace.name.clone())
    };
    let up = |value: u8| format!("kvasir_discovery_up{{pool=\"{pool}\"}} {value}\n");
    plane.until("both", |view| states(view, &pool) == are(&[("p1", "ready"), ("p2", "ready")])).await;
    plane.until_get("/metrics", |text| text.contains(&up(1))).await;

    cluster.stop_apiserver();
    plane.until_get("/metrics", |text| text.contains(&up(0))).await;
    assert_eq!(states(&plane.running.datastore.view.borrow(), &pool), are(&[("p1", "ready"), ("p2", "ready")]));
    assert!(*plane.running.ready.borrow());

    cluster.start_apiserver().await;
    plane.until_get("/metrics", |text| text.contains(&up(1))).await;
    let pods = kube::Api::<k8s_openapi::api::core::v1::Pod>::namespaced(cluster.administrator().client().await, &name);
    let now = kube::api::DeleteParams::default().grace_period(0);
    pods.delete("p2", &now).await.unwrap();
    plane.until("what changed since", |view| states(view, &pool) == are(&[("p1", "ready")])).await;

    // The version that it knows is forgotten while it cannot look: others have changed much since.
    cluster.namespace("elsewhere").await.run_many((10..30).map(pod)).await;
    cluster.stop_apiserver();
    plane.until_get("/metrics", |text| text.contains(&up(0))).await;
    cluster.compact_etcd().await;
    cluster.start_apiserver().await;
    plane.until_get("/metrics", |text| text.contains(&up(1))).await;
    pods.delete("p1", &now).await.unwrap();
    plane.until("what changed after the compaction", |view| states(view, &pool).is_empty()).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_starts_without_a_server_is_not_ready_until_it_is_there() {
    let Some(mut cluster) = cluster_with(&["inference-extension", "llm-d"]).await else { return };
    let engines = Engines::start().await;
    let (access, pool) = {
        let namespace = cluster.namespace("late").await;
        create(&namespace, POOL, inference_pool("llama", &json!({"app": "vllm"}), &[engines.port])).await;
        namespace.run(pod(1)).await;
        (reader(&namespace).await, format!("{}/llama", namespace.name))
    };
    cluster.stop_apiserver();
    let plane = Plane::start(&access, &automatic()).await;
    let cluster_lost = |known: &std::sync::Arc<controlplane::kubernetes::cluster::Cluster>| {
        let name = pool.split('/').next().unwrap();
        known.pods.fault(name).is_some() && known.pools.fault(name).is_some()
    };
    tokio::time::timeout(crate::fixture::SOON, plane.running.cluster.clone().wait_for(cluster_lost))
        .await
        .unwrap()
        .unwrap();
    assert!(!*plane.running.ready.borrow());
    assert_eq!(plane.get("/readyz").await, "not ready\n");
    cluster.start_apiserver().await;
    plane.until_ready().await;
    assert_eq!(states(&plane.running.datastore.view.borrow(), &pool).len(), 1);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_pods_is_named_and_heals_when_it_is_given() {
    let Some(cluster) = cluster_with(&["inference-extension", "llm-d"]).await else { return };
    let namespace = cluster.namespace("forbidden").await;
    namespace.run(pod(1)).await;
    namespace.run(pod(2).ready(Ready::No)).await;
    create(&namespace, POOL, inference_pool("llama", &json!({"app": "vllm"}), &[7001])).await;
    let access = namespace.service_account("kvasir").await;
    let config = "pools: [{name: p, discovery: {kubernetes: {inferencePool: llama}}}]";
    let plane = Plane::start(&access, config).await;
    let told = |known: &std::sync::Arc<controlplane::kubernetes::cluster::Cluster>| {
        let expected = "pods is forbidden: User \"system:serviceaccount:";
        known.pods.fault(&namespace.name).is_some_and(|fault| fault.starts_with(expected))
    };
    tokio::time::timeout(crate::fixture::SOON, plane.running.cluster.clone().wait_for(told)).await.unwrap().unwrap();
    assert!(!*plane.running.ready.borrow());
    reader(&namespace).await;
    plane.until_ready().await;
    plane.until("its pod", |view| states(view, "p").len() == 1).await;
    plane.stop().await;
}
