//! What happens to engines before the API server knows.

use std::time::Instant;

use cluster::cluster::Cluster;
use e2e::wait::{SOON, eventually};

use crate::scene::{Scene, define};

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_under_load_costs_no_request_and_comes_back() {
    let Some(cluster) = Cluster::shared().await else { return };
    define(cluster);
    let namespace = cluster.namespace("killed").await;
    let Some(mut scene) = Scene::start(&namespace, 3).await else { return };
    let traffic = scene.traffic(&[1, 2, 3]).await;
    for pod in 1..=3 {
        let engine = scene.address(pod);
        eventually("it has requests", SOON, async || scene.engine(pod).in_flight().await[0] > 0).await;
        let killed = Instant::now();
        scene.kill_engine(pod);
        let unhealthy = Some("unhealthy".to_owned());
        eventually("it is known", SOON, async || scene.stack.control().state_of(&engine).await == unhealthy).await;
        eprintln!("killed engine: known {:.0?} later", killed.elapsed());
        traffic.until_more().await;
        scene.start_engine(pod).await;
        let back = traffic.until_answered_by(&engine, Instant::now()).await;
        eprintln!("restarted engine: first answer after {back:.0?}");
    }
    assert_eq!(traffic.stop("killed engines").await.len(), 3);
}
