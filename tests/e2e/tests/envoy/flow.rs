//! Requests that wait in the gateway: for how long, in what order, and what becomes of those that may not go.

use bytes::Bytes;
use e2e::client::{Answer, Client, Version, answer};
use e2e::prompts::{chat, prose, streamed};
use e2e::stack::{Mode, Stack};
use e2e::wait::{SOON, eventually};
use reqwest::Response;
use serde_json::Value;
use tokio::task::JoinHandle;

/// One request at a time; batch work gives up soon.
const FLOW: &str = "flowControl: {hold: {concurrency: {requests: 1}}, bands: [{priority: 10, ttl: 60s, deadline: false}, \
                    {priority: 0, ttl: 60s, deadline: false}, {priority: -10, ttl: 300ms, deadline: false}]}";
const OBJECTIVES: &str = "objectives: {vip: 10, batch: -10}";

async fn one_engine(mode: Mode, workers: u32) -> Option<Stack> {
    Stack::new().engines(1).workers(workers).mode(mode).pool(FLOW).pool(OBJECTIVES).start().await
}

/// Keeps the engine busy until it is dropped.
async fn occupy(stack: &Stack) -> Response {
    let mut response = stack.client(Version::Http1).open_chat(&streamed(&prose(1, 500), 100_000)).await;
    let first: Option<Bytes> = response.chunk().await.unwrap();
    assert!(first.is_some_and(|chunk| chunk.starts_with(b"data: ")));
    // The other workers have heard of it.
    eventually("it is booked", SOON, async || stack.gateway().stat("kvasir_in_flight").await > 0.5).await;
    response
}

fn ask(client: Client, objective: &'static str, body: Value) -> JoinHandle<Answer> {
    tokio::spawn(async move {
        let request = client.post("/v1/chat/completions", body.to_string());
        let request = request.header("x-llm-d-inference-objective", objective).header("x-kvasir-explain", "1");
        answer(request).await
    })
}

async fn until_queued(stack: &Stack, requests: f64) {
    eventually("it waits", SOON, async || stack.gateway().stat("kvasir_flow_queued_total").await >= requests).await;
}

async fn all_comes_back(stack: &Stack) {
    eventually("nothing is in flight", SOON, async || {
        let engines: u64 = stack.sim.in_flight().await.iter().sum();
        stack.gateway().stat("kvasir_in_flight").await < 0.5 && engines == 0
    })
    .await;
}

in_both_modes! {
    async fn a_request_waits_for_its_turn_and_loses_nothing_of_its_body(mode) {
        let Some(stack) = one_engine(mode, 2).await else { return };
        let busy = occupy(&stack).await;
        let long = prose(2, 120_000);
        let waiting = [
            ask(stack.client(Version::Http1), "", chat(&prose(3, 500), 4)),
            ask(stack.client(Version::Http2), "", chat(&long, 4)),
        ];
        until_queued(&stack, 2.0).await;
        assert_eq!(stack.sim.in_flight().await, [1]);
        drop(busy);
        let mut tokens = Vec::new();
        for answer in waiting {
            let answer = answer.await.unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(answer.decision()["waited_ms"].as_f64().unwrap() > 0.0, "{}", answer.decision());
            tokens.push(answer.usage()["prompt_tokens"].as_u64().unwrap());
        }
        let again = stack.client(Version::Http1).send_chat(&chat(&long, 4)).await;
        assert_eq!(again.usage()["prompt_tokens"].as_u64(), Some(tokens[1]), "the engine got all of it");
        all_comes_back(&stack).await;
    }

    async fn who_may_not_wait_longer_is_refused_in_its_own_dialect_and_no_engine_sees_it(mode) {
        let Some(stack) = one_engine(mode, 2).await else { return };
        let busy = occupy(&stack).await;
        let refused = ask(stack.client(Version::Http1), "batch", chat("hello", 4)).await.unwrap();
        assert_eq!(refused.status, 429, "{refused:?}");
        assert_eq!(refused.header("x-llm-d-request-dropped-reason"), "rejected-ttl-expired");
        let seconds: u64 = refused.header("retry-after").parse().unwrap();
        assert!((5..=90).contains(&seconds), "{seconds}");
        assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
        assert_eq!(stack.sim.in_flight().await, [1]);
        drop(busy);
        all_comes_back(&stack).await;
    }

    async fn the_more_important_goes_first(mode) {
        let Some(stack) = one_engine(mode, 1).await else { return };
        let busy = occupy(&stack).await;
        let plain = ask(stack.client(Version::Http1), "", chat(&prose(4, 500), 4));
        until_queued(&stack, 1.0).await;
        let vip = ask(stack.client(Version::Http1), "vip", chat(&prose(5, 500), 4));
        until_queued(&stack, 2.0).await;
        drop(busy);
        let waited = async |asking: JoinHandle<Answer>| {
            let answer = asking.await.unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.decision()["candidates"][0]["waiting"].as_u64().unwrap();
            answer.header("x-kvasir-decision").to_owned()
        };
        let (plain, vip) = (waited(plain).await, waited(vip).await);
        let ms = |decision: &str| serde_json::from_str::<Value>(decision).unwrap()["waited_ms"].as_f64().unwrap();
        assert!(ms(&vip) < ms(&plain), "{vip} {plain}");
        all_comes_back(&stack).await;
    }

    async fn who_leaves_while_it_waits_is_never_sent(mode) {
        let Some(stack) = one_engine(mode, 2).await else { return };
        let busy = occupy(&stack).await;
        for version in [Version::Http1, Version::Http2] {
            let gone = ask(stack.client(version), "", chat(&prose(6, 500), 4));
            until_queued(&stack, if version == Version::Http1 { 1.0 } else { 2.0 }).await;
            gone.abort();
        }
        let before = stack.gateway().stat("kvasir_requests_total").await;
        drop(busy);
        all_comes_back(&stack).await;
        let next = stack.client(Version::Http1).send_chat(&chat(&prose(7, 500), 4)).await;
        assert_eq!(next.status, 200);
        eventually("the next one is counted", SOON, async || {
            stack.gateway().stat("kvasir_requests_total").await >= before + 1.0
        })
        .await;
        assert!(stack.gateway().stat("kvasir_requests_total").await < before + 1.5, "those that left were never sent");
    }
}
