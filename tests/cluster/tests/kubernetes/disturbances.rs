//! An API server that goes away and comes back.

use std::net::Ipv4Addr;

use cluster::cluster::Cluster;
use cluster::pods::NewPod;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

#[tokio::test]
async fn objects_and_tokens_outlive_the_api_server() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let namespace = cluster.namespace("restart").await;
    namespace.run(NewPod::new("engine", Ipv4Addr::new(127, 0, 5, 1))).await;
    let account = namespace.service_account("kvasir").await;
    namespace.grant("kvasir", &[("", &["pods"], &["get"])]).await;
    let name = namespace.name.clone();
    drop(namespace);

    let pods: Api<Pod> = Api::namespaced(account.client().await, &name);
    e2e::wait::eventually("the grant is in force", e2e::wait::SOON, async || pods.get("engine").await.is_ok()).await;
    cluster.stop_apiserver();
    assert!(!matches!(pods.get("engine").await, Ok(_) | Err(kube::Error::Api(_))));
    cluster.start_apiserver().await;
    // The same client: its connection was lost, its token was not.
    pods.get("engine").await.unwrap();
}
