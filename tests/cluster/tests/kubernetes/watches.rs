//! Watches: what a watcher is told, and when it has to start over.

use std::net::Ipv4Addr;
use std::pin::pin;
use std::time::Duration;

use cluster::cluster::Cluster;
use cluster::namespace::Namespace;
use cluster::pods::NewPod;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Status;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

/// Longer than any answer takes on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// The version to watch on from.
async fn version(namespace: &Namespace<'_>) -> String {
    namespace.pods().list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap()
}

/// The first event of a watch of the namespace's pods from `version` on.
async fn first_event(namespace: &Namespace<'_>, version: &str) -> kube::Result<WatchEvent<Pod>> {
    let watch = namespace.pods().watch(&WatchParams::default(), version).await?;
    timeout(LONG, pin!(watch).next()).await.expect("an event").expect("the watch goes on")
}

fn expired(event: kube::Result<WatchEvent<Pod>>) -> Box<Status> {
    match event {
        Ok(WatchEvent::Error(status)) | Err(kube::Error::Api(status)) => status,
        other => panic!("not an error: {other:?}"),
    }
}

async fn run(namespace: &Namespace<'_>, names: &[&str]) {
    for name in names {
        namespace.run(NewPod::new(name, Ipv4Addr::new(127, 0, 4, 1))).await;
    }
}

#[tokio::test]
async fn a_streamed_list_ends_with_a_marked_bookmark() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace("streamed").await;
    run(&namespace, &["a", "b"]).await;
    let watch = namespace.pods().watch(&WatchParams::default().initial_events(), "0").await.unwrap();
    let mut watch = pin!(watch);
    let mut names = Vec::new();
    let marked = loop {
        match timeout(LONG, watch.next()).await.expect("an event").expect("the watch goes on").unwrap() {
            WatchEvent::Added(pod) => names.push(pod.metadata.name.unwrap()),
            WatchEvent::Bookmark(bookmark) => {
                break bookmark.metadata.annotations.contains_key("k8s.io/initial-events-end");
            }
            other @ (WatchEvent::Modified(_) | WatchEvent::Deleted(_) | WatchEvent::Error(_)) => {
                panic!("unexpected: {other:?}")
            }
        }
    };
    assert!(marked);
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test]
async fn a_watch_goes_on_from_the_version_of_a_list() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace("watched").await;
    run(&namespace, &["before"]).await;
    let version = version(&namespace).await;
    run(&namespace, &["after"]).await;
    let Ok(WatchEvent::Added(pod)) = first_event(&namespace, &version).await else { panic!("no pod was added") };
    assert_eq!(pod.metadata.name.as_deref(), Some("after"));
}

#[tokio::test]
async fn a_watch_from_a_compacted_version_is_gone() {
    // Without its cache the API server asks etcd, which has forgotten.
    let Some(cluster) = Cluster::start_with(&["--watch-cache=false"]).await else { return };
    let namespace = cluster.namespace("compacted").await;
    let version = version(&namespace).await;
    run(&namespace, &["a", "b"]).await;
    assert!(matches!(first_event(&namespace, &version).await, Ok(WatchEvent::Added(_))));
    cluster.compact_etcd().await;
    let status = expired(first_event(&namespace, &version).await);
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
}

#[tokio::test]
async fn a_watch_from_before_a_restart_is_gone_when_pods_changed_since() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let namespace = cluster.namespace("restarted").await;
    let name = namespace.name.clone();
    let version = version(&namespace).await;
    run(&namespace, &["a", "b"]).await;
    drop(namespace);
    cluster.restart_apiserver().await;
    let pods: kube::Api<Pod> = kube::Api::namespaced(cluster.administrator().client().await, &name);
    let watch = pods.watch(&WatchParams::default(), &version).await;
    let event = match watch {
        Ok(watch) => timeout(LONG, pin!(watch).next()).await.expect("an event").expect("the watch goes on"),
        Err(error) => Err(error),
    };
    assert_eq!(expired(event).code, 410);
}
