//! What is done to pods by way of the API server.

use std::time::{Duration, Instant};

use cluster::cluster::Cluster;
use cluster::pods::Ready;
use e2e::client::Version;
use e2e::prompts::{prose, streamed};
use e2e::wait::{SOON, wait_for};
use reqwest::Response;

use crate::scene::{Scene, define, name};
use crate::traffic::quantile;

const ROUNDS: usize = 20;
/// The bars are 1 s and 250 ms on a quiet machine.
const ADDED: Duration = Duration::from_secs(5);
const LEFT: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_turns_ready_gets_requests_and_one_that_turns_unready_gets_none() {
    let Some(cluster) = Cluster::shared().await else { return };
    define(cluster);
    let namespace = cluster.namespace("ready").await;
    let Some(mut scene) = Scene::start(&namespace, 2).await else { return };
    let traffic = scene.traffic(&[1, 2]).await;
    scene.add(&namespace, 3).await;
    traffic.until_more().await;
    assert_eq!(scene.received(3).await, 0, "it is not ready yet");
    let patched = Instant::now();
    namespace.set_ready("p3", Ready::Yes).await;
    let added = traffic.until_answered_by(&scene.address(3), patched).await;
    eprintln!("new pod: first answer {added:.0?} after its status patch");
    assert!(added < ADDED, "{added:?}");

    let (mut left, mut back) = (Vec::new(), Vec::new());
    for pod in [1, 2, 3].into_iter().cycle().take(ROUNDS) {
        let engine = scene.address(pod);
        traffic.until_more().await;
        traffic.until_answered_by(&engine, Instant::now()).await;
        let patched = Instant::now();
        namespace.set_ready(&name(pod), Ready::No).await;
        left.push(traffic.until_left_alone(&engine, patched).await);
        let patched = Instant::now();
        namespace.set_ready(&name(pod), Ready::Yes).await;
        back.push(traffic.until_answered_by(&engine, patched).await);
    }
    for (what, times) in [("unready: last request", &mut left), ("ready again: first answer", &mut back)] {
        times.sort_unstable();
        let (p50, p99) = (quantile(times, 500), quantile(times, 990));
        eprintln!("{what} {p50:.0?} p50, {p99:.0?} p99, {:.0?} most after the status patch", times[ROUNDS - 1]);
    }
    assert!(left[ROUNDS - 1] < LEFT, "{left:?}");
    assert!(back[ROUNDS - 1] < ADDED, "{back:?}");
    assert_eq!(traffic.stop("readiness").await.len(), 3);
}

/// A streamed answer of many seconds, by this engine.
async fn long_answer(scene: &Scene, pod: u8) -> Response {
    let (client, engine) = (scene.stack.client(Version::Http2), scene.address(pod));
    let mut seed = 1000 * u64::from(pod);
    wait_for("a stream from the pod", SOON, async || {
        seed += 1;
        let response = client.open_chat(&streamed(&prose(seed, 300), 400)).await;
        (response.headers().get("x-sim-engine")? == engine.as_str()).then_some(response)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_finishes_what_it_has_and_gets_no_more() {
    let Some(cluster) = Cluster::shared().await else { return };
    define(cluster);
    let namespace = cluster.namespace("deleted").await;
    let Some(mut scene) = Scene::start(&namespace, 3).await else { return };
    let traffic = scene.traffic(&[1, 2, 3]).await;
    // As many on the others: else it would be left alone for being the busiest.
    let mut streams = Vec::new();
    for pod in [1, 2, 3, 1, 2, 3] {
        streams.push(long_answer(&scene, pod).await);
    }
    let deleted = Instant::now();
    namespace.terminate("p2").await;
    let left = traffic.until_left_alone(&scene.address(2), deleted).await;
    eprintln!("deleted pod: last request {left:.0?} after its deletion");
    assert!(left < LEFT, "{left:?}");
    let received = scene.received(2).await;
    assert!(scene.engine(2).in_flight().await[0] >= 2, "the streams are still there");
    for stream in streams {
        let text = stream.text().await.expect("a whole answer");
        assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    }
    traffic.until_more().await;
    assert_eq!(scene.received(2).await, received, "no more came");
    scene.finish(&namespace, 2).await;
    traffic.until_more().await;
    assert_eq!(traffic.stop("deletion").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_costs_no_request() {
    let Some(cluster) = Cluster::shared().await else { return };
    define(cluster);
    let namespace = cluster.namespace("rollout").await;
    let Some(mut scene) = Scene::start(&namespace, 3).await else { return };
    let traffic = scene.traffic(&[1, 2, 3]).await;
    for old in 1..=3 {
        let fresh = old + 3;
        scene.add(&namespace, fresh).await;
        namespace.set_ready(&name(fresh), Ready::Yes).await;
        traffic.until_answered_by(&scene.address(fresh), Instant::now()).await;
        let deleted = Instant::now();
        namespace.terminate(&name(old)).await;
        traffic.until_left_alone(&scene.address(old), deleted).await;
        scene.finish(&namespace, old).await;
    }
    traffic.until_more().await;
    assert_eq!(traffic.stop("rollout").await.len(), 6);
}
