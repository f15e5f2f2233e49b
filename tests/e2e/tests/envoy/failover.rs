//! Endpoints that fail although their health checks pass: left alone, tried, admitted again; and a storm that leaves nothing
//! behind.

use std::time::Duration;

use e2e::client::{Answer, Version, try_answer};
use e2e::prompts::{chat, prose, streamed};
use e2e::stack::{Mode, Stack};
use e2e::wait::{SOON, eventually};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Why `endpoint` was no candidate.
fn dropped(answer: &Answer, endpoint: &str) -> Option<String> {
    let decision = answer.decision();
    let row = decision["dropped"].as_array()?.iter().find(|row| row["endpoint"] == endpoint)?.clone();
    row["reason"].as_str().map(str::to_owned)
}

/// One worker, so that there is one circuit for each endpoint.
async fn one_worker(mode: Mode, pool: &str) -> Option<Stack> {
    let builder = Stack::new().engines(3).workers(1).mode(mode);
    if pool.is_empty() { builder.start().await } else { builder.pool(pool).start().await }
}

in_all_modes! {
    async fn a_pod_that_answers_500_is_left_alone_then_tried_then_back(mode) {
        let Some(stack) = one_worker(mode, "").await else { return };
        let (client, prompt) = (stack.client(Version::Http1), prose(3000, 12_000));
        let home = client.ask(&prompt).await.engine().to_owned();
        stack.sim.fault(&home, json!({"kind": "error", "status": 500})).await;
        for _ in 0..3 {
            assert_eq!(client.ask(&prompt).await.status, 500);
        }
        let spared = client.ask(&prompt).await;
        assert_eq!((spared.status, dropped(&spared, &home).as_deref()), (200, Some("circuit_open")), "{spared:?}");
        // Only the request that tries it fails, and the endpoint is left alone for longer.
        let mut failed = 0;
        eventually("it is tried once", SOON, async || {
            failed += usize::from(client.ask(&prompt).await.status == 500);
            failed == 1
        })
        .await;
        for _ in 0..5 {
            assert_eq!(client.ask(&prompt).await.status, 200);
        }
        assert!(stack.gateway().stat("kvasir_circuits_closed_total").await < 0.5);
        stack.sim.reset().await;
        eventually("back", SOON, async || {
            let answer = client.ask(&prompt).await;
            assert_eq!(answer.status, 200);
            answer.candidate(&home).is_some_and(|row| row["circuit"].is_null())
        })
        .await;
        eventually("counted", SOON, async || {
            let gateway = stack.gateway();
            gateway.stat("kvasir_circuits_opened_total").await > 1.5
                && gateway.stat("kvasir_circuits_closed_total").await > 0.5
        })
        .await;
    }
}

in_both_modes! {
    async fn a_pod_that_never_answers_is_passed_over_after_the_first_token_timeout(mode) {
        let Some(stack) = one_worker(mode, "failover: {firstTokenTimeout: 500ms}").await else { return };
        let client = stack.client(Version::Http2);
        let prompt = prose(3010, 12_000);
        let home = client.send_chat(&streamed(&prompt, 4)).await.engine().to_owned();
        stack.sim.fault(&home, json!({"kind": "stall"})).await;
        let saved = client.send_chat(&streamed(&prompt, 4)).await;
        assert_eq!(saved.status, 200, "{saved:?}");
        assert_ne!(saved.engine(), home);
        let next = client.send_chat(&streamed(&prompt, 4)).await;
        assert_eq!((next.status, dropped(&next, &home).as_deref()), (200, Some("circuit_open")), "{next:?}");
        stack.sim.reset().await;
        eventually("back", SOON, async || {
            client.send_chat(&streamed(&prompt, 4)).await.candidate(&home).is_some()
        })
        .await;
        eventually("the stall is counted", SOON, async || stack.gateway().stat("kvasir_stalls_total").await > 0.5).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_learns_of_a_failing_pod_from_another() {
    let Some(stack) = Stack::new().engines(3).workers(1).gateways(2).start().await else { return };
    let [first, second] = [0, 1].map(|at| stack.gateways[at].client(Version::Http1));
    let prompt = prose(3020, 12_000);
    let home = first.ask(&prompt).await.engine().to_owned();
    stack.sim.fault(&home, json!({"kind": "error", "status": 500})).await;
    for _ in 0..3 {
        assert_eq!(first.ask(&prompt).await.status, 500);
    }
    eventually("the other leaves it alone", Duration::from_secs(2), async || {
        dropped(&second.get("/v1/models").await, &home).as_deref() == Some("failing")
    })
    .await;
    stack.sim.reset().await;
    eventually("both take it again", SOON, async || {
        first.ask(&prompt).await.candidate(&home).is_some() && second.ask(&prompt).await.candidate(&home).is_some()
    })
    .await;
}

/// Work that the control plane has in its books.
async fn booked(stack: &Stack) -> u64 {
    let table = stack.control().api("/api/v1/table").await;
    let of = |row: &Value| row["waiting"].as_u64().unwrap() + row["decoding"].as_u64().unwrap();
    table["pools"][0]["endpoints"].as_array().unwrap().iter().map(of).sum()
}

const STORM: u64 = 3000;
const AT_A_TIME: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_with_aborts_and_a_pod_that_dies_leaves_nothing_booked() {
    let flow = "flowControl: {}";
    let Some(stack) = Stack::new().engines(3).pool(flow).start().await else { return };
    let client = stack.client(Version::Http2);
    let (mut storm, mut sent, mut served, mut failed) = (JoinSet::new(), 0, 0_u64, 0_u64);
    let victim = stack.sim.addresses[0].clone();
    while sent < STORM || !storm.is_empty() {
        while sent < STORM && storm.len() < AT_A_TIME {
            let (client, number) = (client.clone(), sent);
            storm.spawn(async move { one_of_the_storm(&client, number).await });
            sent += 1;
            match sent {
                1000 => stack.sim.fault(&victim, json!({"kind": "kill"})).await,
                2000 => stack.sim.reset().await,
                _ => {}
            }
        }
        match storm.join_next().await.unwrap().unwrap() {
            Some(true) => served += 1,
            Some(false) => failed += 1,
            None => {}
        }
    }
    // What the dying pod had begun to answer is lost, nothing else.
    assert!(served > STORM * 8 / 10 && failed < AT_A_TIME as u64, "{served} served, {failed} failed");
    eventually("nothing is booked", SOON, async || {
        stack.gateway().stat("kvasir_in_flight").await < 0.5 && booked(&stack).await == 0
    })
    .await;
    stack.wait_until_quiet().await;
}

/// Every tenth client leaves, sooner or later. Was it served? `None`: it left.
async fn one_of_the_storm(client: &e2e::client::Client, number: u64) -> Option<bool> {
    let prompt = prose(3100 + number % 50, 2000);
    let body = if number.is_multiple_of(2) { streamed(&prompt, 16) } else { chat(&prompt, 16) };
    let request = try_answer(client.post("/v1/chat/completions", body.to_string()));
    let served = |answer: reqwest::Result<Answer>| answer.is_ok_and(|answer| answer.status == 200);
    if number.is_multiple_of(10) {
        let patience = Duration::from_millis(number * 7 % 150);
        return tokio::time::timeout(patience, request).await.ok().map(served);
    }
    Some(served(request.await))
}
