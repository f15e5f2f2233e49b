//! Discovery, scraping, health, admin HTTP, reload.

use std::sync::atomic::Ordering;
use std::time::Duration;

use controlplane::datastore::Readiness;
use serde_json::Value;

use crate::rig::{Engine, Rig, config, first, ready_count};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_are_discovered_scraped_and_shown() {
    let engine = Engine::start().await;
    let rig = Rig::start("shown", "", &format!("[{{address: '{}', labels: {{zone: a}}}}]", engine.address)).await;
    rig.until("ready with load", |view| {
        first(view).is_some_and(|e| e.readiness == Readiness::Ready && e.load.is_some() && e.models.is_some())
    })
    .await;
    rig.until_get("/readyz", |status, _| status == 200).await;
    assert_eq!(rig.get("/healthz").await.0, 200);
    engine.waiting.store(7, Ordering::Relaxed);
    rig.until("the new load", |view| first(view).and_then(|e| e.load.as_ref()).is_some_and(|l| l.waiting == 7)).await;
    let endpoints: Value = serde_json::from_str(&rig.get("/api/v1/endpoints?pool=p").await.1).unwrap();
    assert_eq!(endpoints[0]["state"], "ready");
    assert_eq!(endpoints[0]["load"]["waiting"], 7);
    assert_eq!(endpoints[0]["labels"]["zone"], "a");
    let pools: Value = serde_json::from_str(&rig.get("/api/v1/pools").await.1).unwrap();
    assert_eq!(pools[0]["models"][1]["base"], "llama");
    assert_eq!(rig.get("/api/v1/endpoints?pool=none").await.0, 404);
    let metrics = rig.get("/metrics").await.1;
    assert!(metrics.contains("kvasir_pool_endpoints{pool=\"p\",state=\"ready\"} 1"), "{metrics}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sick_pod_is_ejected_and_comes_back_and_keeps_its_load() {
    let engine = Engine::start().await;
    let rig = Rig::start("sick", "", &format!("[{}]", engine.address)).await;
    rig.until("ready", |view| ready_count(view) == 1).await;
    engine.well.store(false, Ordering::Relaxed);
    rig.until("ejected", |view| {
        first(view).is_some_and(|e| matches!(e.readiness, Readiness::Unhealthy(_)) && e.load.is_some())
    })
    .await;
    engine.well.store(true, Ordering::Relaxed);
    rig.until("back", |view| ready_count(view) == 1).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_refuses_connections_is_ejected_and_a_new_one_at_its_address_is_admitted() {
    let engine = Engine::start().await;
    let address = engine.address;
    let rig = Rig::start("refuses", "", &format!("[{address}]")).await;
    rig.until("ready", |view| ready_count(view) == 1).await;
    engine.task.abort();
    let Err(ended) = engine.task.await else { panic!("the fixture ended by itself") };
    assert!(ended.is_cancelled());
    rig.until("ejected", |view| ready_count(view) == 0).await;
    let again = tokio::net::TcpListener::bind(address).await.unwrap();
    let _engine = Engine::serve(again);
    rig.until("back", |view| ready_count(view) == 1).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_endpoints_file_is_followed_and_a_bad_one_changes_nothing() {
    let (a, b) = (Engine::start().await, Engine::start().await);
    let rig = Rig::start("followed", "", &format!("[{}]", a.address)).await;
    rig.until("one", |view| ready_count(view) == 1).await;
    rig.write("endpoints.yaml", &format!("[{}, {}]", a.address, b.address));
    rig.until("two", |view| ready_count(view) == 2).await;
    std::fs::write(rig.folder.join("endpoints.yaml"), "[nonsense").unwrap();
    rig.until_get("/metrics", |_, text| text.contains("kvasir_discovery_up{pool=\"p\"} 0")).await;
    assert_eq!(ready_count(&rig.running.datastore.view.borrow()), 2);
    std::fs::write(rig.folder.join("endpoints.yaml"), format!("[{{address: '{}', draining: true}}]", b.address))
        .unwrap();
    rig.until("one, draining", |view| first(view).is_some_and(|e| e.readiness == Readiness::Draining)).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_configuration_is_applied_without_forgetting_and_a_bad_one_is_refused() {
    let engine = Engine::start().await;
    let rig = Rig::start("reload", "", &format!("[{}]", engine.address)).await;
    rig.until("ready", |view| ready_count(view) == 1).await;
    rig.write("kvasir.yaml", &config("choices: 5"));
    rig.until("five choices, still ready", |view| {
        view.pools.first().is_some_and(|pool| pool.settings.choices == 5) && ready_count(view) == 1
    })
    .await;
    rig.write("kvasir.yaml", &config("choices: 50"));
    rig.until_get("/metrics", |_, text| text.contains("kvasir_config_reloads_total{outcome=\"refused\"} 1")).await;
    assert_eq!(rig.running.datastore.view.borrow().pools[0].settings.choices, 5);
    let second = "- {name: q, discovery: {static: {endpoints: []}}}\n";
    rig.write("kvasir.yaml", &format!("{}{second}", config("")));
    rig.until("a second pool", |view| view.pools.len() == 2 && ready_count(view) == 1).await;
    rig.write("kvasir.yaml", &config(""));
    rig.until("one pool again", |view| view.pools.len() == 1 && ready_count(view) == 1).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_endpoint_is_scraped_ever_less_often() {
    let engine = Engine::start().await;
    let rig = Rig::start("idle", "", &format!("[{}]", engine.address)).await;
    rig.until("ready", |view| ready_count(view) == 1).await;
    let before = engine.scrapes.load(Ordering::Relaxed);
    // A measurement over a fixed time, not a wait for a condition.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = engine.scrapes.load(Ordering::Relaxed) - before;
    assert!((5..=20).contains(&idle), "{idle} scrapes in 2 s at 20 ms busy, 200 ms idle");
    rig.stop().await;
}
