//! KV events over real sockets: order, replay, loss, restarts, ranks, and the late word of a cleared cache.

use serde_json::{Value, json};
use tokio::net::TcpListener;
use vllm_sim::cluster::ClusterConfig;
use vllm_sim::kv_events::KvEventsOptions;

use crate::rig::{DEADLINE, Rig, chat, instant_engine, rig_with, series};
use crate::zmtp::{Batch, Peer};

/// A publisher and a replay socket on free ports.
fn publishing(config: &mut ClusterConfig) {
    instant_engine(config);
    config.engines = 1;
    config.kv_events = KvEventsOptions {
        enable_kv_cache_events: true,
        endpoint: "tcp://*:0".to_owned(),
        replay_endpoint: Some("tcp://*:0".to_owned()),
        topic: "kv@pod".to_owned(),
        ..KvEventsOptions::default()
    };
}

async fn get(rig: &Rig, path: &str) -> Value {
    rig.client.get(rig.url(0, path)).send().await.unwrap().json().await.unwrap()
}

async fn endpoint(rig: &Rig, rank: &str, name: &str) -> String {
    get(rig, "/kv_event_sources").await[rank][name].as_str().unwrap().to_owned()
}

async fn numbers(subscriber: &mut Peer) -> Vec<u64> {
    subscriber.batches().await.iter().map(|batch| batch.number).collect()
}

#[tokio::test]
async fn a_subscriber_hears_every_batch_and_replay_repeats_them_word_for_word() {
    let rig = rig_with(publishing).await;
    let mut subscriber = Peer::subscribe(&endpoint(&rig, "0", "endpoint").await).await;
    rig.ask("/v1/chat/completions", &chat(&"x".repeat(200), 40)).await;
    let batches = subscriber.batches().await;
    assert!(batches.len() >= 3, "the prompt and what the answer fills: {}", batches.len());
    assert!(batches.iter().zip(0..).all(|(batch, number)| batch.number == number && batch.topic == b"kv@pod"));
    assert!(batches.iter().all(|batch| batch.says("BlockStored")));
    let mut dealer = Peer::dealer(&endpoint(&rig, "0", "replay_endpoint").await).await;
    for start in [0, 1] {
        let replies = dealer.replay(start).await;
        let heard = batches.iter().filter(|batch| batch.number >= start);
        let expected: Vec<Vec<Vec<u8>>> = heard
            .map(|batch| {
                vec![Vec::new(), b"kv@pod".to_vec(), batch.number.to_be_bytes().to_vec(), batch.payload.clone()]
            })
            .collect();
        assert_eq!(replies, expected);
    }
    assert_eq!(dealer.replay(1_000_000).await, Vec::<Vec<Vec<u8>>>::new());
}

#[tokio::test]
async fn replay_keeps_the_last_batches_only_and_old_versions_leave_out_the_topic() {
    let rig = rig_with(|config| {
        publishing(config);
        config.kv_events.buffer_steps = 2;
        config.vllm_version = "0.19.1".parse().unwrap();
    })
    .await;
    rig.ask("/v1/chat/completions", &chat(&"x".repeat(200), 64)).await;
    let published = rig.state(0).await["kv_batches"][0].as_u64().unwrap();
    let replies = Peer::dealer(&endpoint(&rig, "0", "replay_endpoint").await).await.replay(0).await;
    let numbers: Vec<&[u8]> = replies.iter().map(|reply| reply[1].as_slice()).collect();
    assert_eq!(numbers, [(published - 2).to_be_bytes(), (published - 1).to_be_bytes()]);
    assert!(replies.iter().all(|reply| reply.len() == 3 && reply[0].is_empty()));
}

#[tokio::test]
async fn lost_batches_leave_a_gap_that_replay_fills() {
    let rig = rig_with(publishing).await;
    let mut subscriber = Peer::subscribe(&endpoint(&rig, "0", "endpoint").await).await;
    rig.fault(0, &json!({"kind": "lose_events", "next": 2})).await;
    rig.ask("/v1/chat/completions", &chat(&"x".repeat(200), 64)).await;
    assert_eq!(numbers(&mut subscriber).await.first(), Some(&2));
    let replies = Peer::dealer(&endpoint(&rig, "0", "replay_endpoint").await).await.replay(0).await;
    assert_eq!(replies[0][2], 0_u64.to_be_bytes());
}

#[tokio::test]
async fn a_restarted_publisher_cuts_its_subscribers_and_begins_at_zero() {
    let rig = rig_with(publishing).await;
    let source = endpoint(&rig, "0", "endpoint").await;
    for fault in ["restart_events", "kill"] {
        let mut subscriber = Peer::subscribe(&source).await;
        rig.ask("/v1/chat/completions", &chat(&format!("{fault} {}", "x".repeat(200)), 20)).await;
        assert_eq!(numbers(&mut subscriber).await.first(), Some(&0), "before {fault}");
        rig.fault(0, &json!({"kind": fault})).await;
        assert!(subscriber.message().await.is_none(), "{fault} cuts the connection");
        rig.reset(0).await;
    }
}

#[tokio::test]
async fn a_publisher_dials_a_host() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = format!("tcp://{}", listener.local_addr().unwrap());
    let rig = rig_with(|config| {
        publishing(config);
        config.kv_events.endpoint = dialled.clone();
    })
    .await;
    let mut subscriber = Peer::accept(&listener).await;
    rig.ask("/v1/chat/completions", &chat(&"x".repeat(200), 1)).await;
    assert_eq!(numbers(&mut subscriber).await, [0]);
    assert_eq!(endpoint(&rig, "0", "endpoint").await, dialled);
}

#[tokio::test]
async fn a_sleeping_engine_refuses_work_and_says_late_that_its_cache_is_gone() {
    let rig = rig_with(publishing).await;
    let mut subscriber = Peer::subscribe(&endpoint(&rig, "0", "endpoint").await).await;
    let body = chat(&"x".repeat(200), 1);
    rig.ask("/v1/chat/completions", &body).await;
    subscriber.batches().await;
    assert_eq!(rig.ask("/sleep?level=2", &json!({})).await["status"], "sleeping");
    assert_eq!(get(&rig, "/is_sleeping").await["is_sleeping"], true);
    assert_eq!(rig.client.get(rig.url(0, "/health")).send().await.unwrap().status(), 200);
    assert_eq!(rig.post("/v1/chat/completions", &body).await.status(), 503);
    let page = rig.scrape(0).await;
    for (state, value) in [("awake", 0), ("weights_offloaded", 0), ("discard_all", 1)] {
        let line =
            format!("vllm:engine_sleep_state{{engine=\"0\",model_name=\"sim-model\",sleep_state=\"{state}\"}} {value}");
        assert!(page.contains(&line), "{line}");
    }
    assert!(subscriber.batches().await.is_empty(), "nothing is published between steps");
    assert_eq!(rig.ask("/wake_up", &json!({})).await["status"], "awake");
    assert_eq!(rig.ask("/v1/chat/completions", &body).await["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let told: Vec<Batch> = subscriber.batches().await;
    assert!(told[0].says("AllBlocksCleared") && told[0].says("BlockStored"));
}

#[tokio::test]
async fn sleep_gives_up_what_runs_and_a_reset_waits_for_it() {
    let rig = rig_with(|config| {
        publishing(config);
        config.speedup = 1.0;
    })
    .await;
    let url = rig.url(0, "/v1/chat/completions");
    let running = tokio::spawn(rig.client.post(url).json(&chat("x", 20_000)).send());
    rig.until(0, |state| state["running"] == 1).await;
    assert_eq!(rig.ask("/reset_prefix_cache", &json!({})).await["success"], false);
    rig.ask("/sleep", &json!({})).await;
    let answer: Value = tokio::time::timeout(DEADLINE, running).await.unwrap().unwrap().unwrap().json().await.unwrap();
    assert_eq!(answer["choices"][0]["finish_reason"], "abort");
    assert_eq!(rig.ask("/reset_prefix_cache", &json!({})).await["success"], true);
}

#[tokio::test]
async fn each_rank_has_its_own_cache_publisher_and_metrics() {
    let rig = rig_with(|config| {
        publishing(config);
        config.data_parallel = 2;
    })
    .await;
    let body = chat(&"x".repeat(200), 1);
    let ask = async |rank: &str| {
        let request = rig.client.post(rig.url(0, "/v1/chat/completions")).header("X-data-parallel-rank", rank);
        let answer: Value = request.json(&body).send().await.unwrap().json().await.unwrap();
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    let mut second = Peer::subscribe(&endpoint(&rig, "1", "endpoint").await).await;
    assert_eq!(ask("0").await, 0);
    assert!(second.batches().await.is_empty());
    assert_eq!(ask("1").await, 0);
    let told = second.batches().await;
    assert_eq!((told.len(), told[0].payload.last()), (1, Some(&1)), "the batch ends with its rank");
    assert!(ask("1").await > 0);
    let page = rig.scrape(0).await;
    assert!(
        page.contains("vllm:prefix_cache_queries_total{engine=\"1\"")
            && series(&page, "vllm:prefix_cache_hits_total") < 1.0
    );
}

#[tokio::test]
async fn without_events_there_are_no_sources() {
    let rig = rig_with(instant_engine).await;
    assert_eq!(get(&rig, "/kv_event_sources").await, json!({}));
}
