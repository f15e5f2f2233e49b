//! The API server is away, for 20 s or `KVASIR_OUTAGE_SECONDS`, in which traffic goes on; what changes afterwards is followed.

use std::time::{Duration, Instant};

use cluster::cluster::Cluster;
use cluster::pods::Ready;
use e2e::wait::{SOON, eventually};

use crate::scene::{Scene, define};

const OUTAGE: Duration = Duration::from_secs(20);

fn outage() -> Duration {
    std::env::var("KVASIR_OUTAGE_SECONDS").map_or(OUTAGE, |seconds| Duration::from_secs(seconds.parse().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_is_away_no_request_fails_and_its_return_is_followed() {
    let Some(mut cluster) = Cluster::start().await else { return };
    define(&cluster);
    let (mut scene, name) = {
        let namespace = cluster.namespace("away").await;
        let Some(scene) = Scene::start(&namespace, 3).await else { return };
        (scene, namespace.name.clone())
    };
    let traffic = scene.traffic(&[1, 2, 3]).await;
    let stopped = Instant::now();
    cluster.stop_apiserver();
    // Engines may fail meanwhile as at any time.
    scene.kill_engine(1);
    let unhealthy = Some("unhealthy".to_owned());
    let first = scene.address(1);
    eventually("it is known", SOON, async || scene.stack.control().state_of(&first).await == unhealthy).await;
    scene.start_engine(1).await;
    let away = outage();
    eventually("the outage lasts", away + SOON, async || stopped.elapsed() >= away).await;
    for pod in 1..=3 {
        traffic.until_answered_by(&scene.address(pod), Instant::now()).await;
    }

    cluster.start_apiserver().await;
    eprintln!("API server: away for {:.0?}", stopped.elapsed());
    let namespace = cluster.existing_namespace(&name).await;
    let patched = Instant::now();
    namespace.set_ready("p2", Ready::No).await;
    let draining = Some("draining".to_owned());
    let second = scene.address(2);
    eventually("it is followed", SOON, async || scene.stack.control().state_of(&second).await == draining).await;
    let left = traffic.until_left_alone(&second, patched).await;
    eprintln!("API server back: last request {left:.0?} after a status patch right then");
    scene.add(&namespace, 4).await;
    let patched = Instant::now();
    namespace.set_ready("p4", Ready::Yes).await;
    let added = traffic.until_answered_by(&scene.address(4), patched).await;
    eprintln!("API server back: a new pod's first answer {added:.0?} after its status patch");
    assert_eq!(traffic.stop("API server away").await.len(), 4);
}
