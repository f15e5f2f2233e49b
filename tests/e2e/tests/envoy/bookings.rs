//! What is in flight is known to all workers, and whatever ends a request gives its booking back.

use bytes::Bytes;
use e2e::client::{Answer, Version};
use e2e::prompts::{chat, prose, streamed};
use e2e::shared_stack::Shared;
use e2e::stack::Stack;
use e2e::wait::{SOON, eventually};
use serde_json::json;
use tokio::task::JoinSet;

async fn in_flight(stack: &Stack) -> (f64, u64) {
    (stack.gateway().stat("kvasir_in_flight").await, stack.sim.in_flight().await.iter().sum())
}

/// Requests in flight at all pods, as the decision saw them.
fn seen_by(answer: &Answer) -> u64 {
    let decision = answer.decision();
    let candidates = decision["candidates"].as_array().unwrap();
    candidates.iter().map(|row| row["waiting"].as_u64().unwrap() + row["decoding"].as_u64().unwrap()).sum()
}

async fn all_comes_back(stack: &Stack) {
    eventually("nothing is in flight", SOON, async || in_flight(stack).await == (0.0, 0)).await;
}

in_all_modes! {
    async fn a_client_that_leaves_before_the_first_byte_gives_its_booking_back(mode) {
        let Some(stack) = Shared::of(mode).alone().await else { return };
        for address in &stack.sim.addresses {
            stack.sim.fault(address, json!({"kind": "stall"})).await;
        }
        for version in [Version::Http1, Version::Http2] {
            let mut waiting = JoinSet::new();
            for number in 0..12 {
                let client = stack.client(version);
                waiting.spawn(async move { client.ask(&prose(2000 + number, 500)).await });
            }
            eventually("12 are booked", SOON, async || in_flight(&stack).await.0 > 11.5).await;
            waiting.shutdown().await;
            eventually("the gateway's bookings are back", SOON, async || in_flight(&stack).await.0 < 0.5).await;
        }
        stack.sim.reset().await;
        all_comes_back(&stack).await;
    }

    async fn a_client_that_leaves_in_mid_stream_gives_its_booking_back(mode) {
        let Some(stack) = Shared::of(mode).alone().await else { return };
        for version in [Version::Http1, Version::Http2] {
            let mut streams = Vec::new();
            for number in 0..12 {
                let body = streamed(&prose(2100 + number, 500), 100_000);
                let mut response = stack.client(version).open_chat(&body).await;
                let first: Option<Bytes> = response.chunk().await.unwrap();
                assert!(first.is_some_and(|chunk| chunk.starts_with(b"data: ")));
                streams.push(response);
            }
            eventually("12 are in flight", SOON, async || {
                let (gateway, engines) = in_flight(&stack).await;
                gateway > 11.5 && engines == 12
            })
            .await;
            drop(streams);
            all_comes_back(&stack).await;
        }
    }

    async fn an_engine_that_dies_in_mid_stream_gives_the_booking_back(mode) {
        let Some(stack) = Shared::of(mode).alone().await else { return };
        for address in &stack.sim.addresses {
            stack.sim.fault(address, json!({"kind": "die_mid_stream", "after_chunks": 3})).await;
        }
        let client = stack.client(Version::Http1);
        for number in 0..4 {
            let mut response = client.open_chat(&streamed(&prose(2200 + number, 500), 100)).await;
            assert_eq!(response.status(), 200);
            let mut text = Vec::new();
            let broken = loop {
                match response.chunk().await {
                    Ok(Some(chunk)) => text.extend_from_slice(&chunk),
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            assert!(broken, "a cut stream must not look whole: {}", String::from_utf8_lossy(&text));
        }
        all_comes_back(&stack).await;
    }

    async fn every_worker_sees_what_the_others_have_in_flight(mode) {
        const REQUESTS: u64 = 48;
        let Some(stack) = Shared::of(mode).alone().await else { return };
        let mut streams = Vec::new();
        for number in 0..REQUESTS {
            // Each on a connection of its own, so that all workers have some.
            streams.push(stack.client(Version::Http1).open_chat(&streamed(&prose(2300 + number, 500), 100_000)).await);
        }
        let per_engine = stack.sim.in_flight().await;
        assert_eq!(per_engine.iter().sum::<u64>(), REQUESTS, "{per_engine:?}");
        let (least, most) = (per_engine.iter().min().unwrap(), per_engine.iter().max().unwrap());
        let last = streams.last().unwrap().headers()["x-kvasir-decision"].to_str().unwrap();
        assert!(most - least <= 3, "12 each would be even: {per_engine:?}, {last}");
        for number in 0..8 {
            let asked = stack.client(Version::Http1).send_chat(&chat(&prose(2400 + number, 100), 1)).await;
            let seen = seen_by(&asked);
            // The one before may still be on its way out.
            assert!((REQUESTS..=REQUESTS + 2).contains(&seen), "{seen} seen of {REQUESTS}: {}", asked.decision());
        }
        drop(streams);
        all_comes_back(&stack).await;
    }

    async fn a_stream_arrives_event_by_event(mode) {
        let Some(stack) = Shared::of(mode).alone().await else { return };
        let mut response = stack.client(Version::Http1).open_chat(&streamed("hello", 20_000)).await;
        let mut text = String::new();
        while text.matches("data: ").count() < 3 {
            text.push_str(&String::from_utf8_lossy(&response.chunk().await.unwrap().expect("more events")));
        }
        assert_eq!(in_flight(&stack).await.1, 1, "the engine is not done, and yet there are events");
        drop(response);
        all_comes_back(&stack).await;
    }
}
