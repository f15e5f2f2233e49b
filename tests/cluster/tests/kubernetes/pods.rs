//! Pods whose status a test writes in the kubelet's place.

use std::net::Ipv4Addr;

use cluster::cluster::Cluster;
use cluster::kind::Kind;
use cluster::pods::{NewPod, Ready};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use crate::refusal;

fn readiness(pod: &Pod) -> String {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    conditions.into_iter().find(|condition| condition.type_ == "Ready").expect("a condition Ready").status
}

#[tokio::test]
async fn a_pod_may_have_a_loopback_address() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace("pods").await;
    namespace.run(NewPod::new("engine", Ipv4Addr::new(127, 0, 3, 7)).label("app", "llm")).await;
    let pod = namespace.pods().get("engine").await.unwrap();
    assert_eq!(pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()), Some("127.0.3.7"));
    assert_eq!(readiness(&pod), "True");
}

#[tokio::test]
async fn an_endpoint_slice_may_not_have_a_loopback_address() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace("slices").await;
    let kind = Kind::new("discovery.k8s.io/v1", "EndpointSlice", "endpointslices");
    let endpoints =
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.3.7"]}], "ports": [{"port": 8000}]});
    let slice = kind.object("engines", endpoints);
    let refused = refusal(namespace.of(kind).create(&PostParams::default(), &slice).await);
    assert!(refused.message.contains("loopback"), "{}", refused.message);
}

#[tokio::test]
async fn a_change_of_readiness_leaves_the_address_alone() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace("readiness").await;
    namespace.run(NewPod::new("engine", Ipv4Addr::new(127, 0, 3, 8)).ready(Ready::No)).await;
    assert_eq!(readiness(&namespace.pods().get("engine").await.unwrap()), "False");
    namespace.set_ready("engine", Ready::Yes).await;
    let pod = namespace.pods().get("engine").await.unwrap();
    assert_eq!(readiness(&pod), "True");
    assert_eq!(pod.status.and_then(|status| status.pod_ip).as_deref(), Some("127.0.3.8"));
}

#[tokio::test]
async fn a_terminating_pod_stays_ready_until_it_is_removed() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace("terminating").await;
    namespace.run(NewPod::new("engine", Ipv4Addr::new(127, 0, 3, 9))).await;
    namespace.terminate("engine").await;
    let pod = namespace.pods().get("engine").await.unwrap();
    assert!(pod.metadata.deletion_timestamp.is_some());
    assert_eq!(readiness(&pod), "True");
    namespace.remove("engine").await;
    assert!(namespace.pods().get_opt("engine").await.unwrap().is_none());
}

#[tokio::test]
async fn a_thousand_pods_are_there_when_they_are_said_to_be() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace("many").await;
    let pods = (0..1000_u32).map(|number| {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + number);
        NewPod::new(&format!("engine-{number}"), address).label("app", "llm")
    });
    namespace.run_many(pods).await;
    let all = namespace.pods().list(&ListParams::default().labels("app=llm")).await.unwrap();
    assert_eq!(all.items.len(), 1000);
    assert!(all.items.iter().all(|pod| readiness(pod) == "True"));
}
