//! Two Envoys behind one control plane are one gateway: what one learned and booked, the other knows.

use e2e::client::{Answer, Version};
use e2e::prompts::{chat, prose, streamed};
use e2e::stack::Stack;
use e2e::wait::{SOON, eventually};

const PROMPT: usize = 12_000;

fn seen_by(answer: &Answer) -> u64 {
    let decision = answer.decision();
    let candidates = decision["candidates"].as_array().unwrap();
    candidates.iter().map(|row| row["waiting"].as_u64().unwrap() + row["decoding"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_gateway_learned_the_other_knows() {
    let Some(stack) = Stack::new().gateways(2).start().await else { return };
    let (a, b) = (&stack.gateways[0], &stack.gateways[1]);
    let seeds = 5000..5008;
    let mut homes = Vec::new();
    for seed in seeds.clone() {
        homes.push(a.client(Version::Http1).ask(&prose(seed, PROMPT)).await.engine().to_owned());
    }
    eventually("the other has the prefixes", SOON, async || b.stat("kvasir_resident_chunks").await >= 8.0 * 45.0).await;
    for (seed, home) in seeds.zip(&homes) {
        let found = b.client(Version::Http1).ask(&prose(seed, PROMPT)).await;
        assert_eq!(found.engine(), home, "{}", found.decision());
        assert!(found.cached_share() > 0.9, "{:?}", found.usage());
        let matched = found.candidate(home).unwrap()["matched_tokens"].as_f64();
        assert!(matched > Some(2000.0), "its explanation says why: {}", found.decision());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_gateway_has_in_flight_the_other_sees() {
    const REQUESTS: u64 = 16;
    let Some(stack) = Stack::new().gateways(2).start().await else { return };
    let (a, b) = (&stack.gateways[0], &stack.gateways[1]);
    let mut streams = Vec::new();
    for number in 0..REQUESTS {
        streams.push(a.client(Version::Http1).open_chat(&streamed(&prose(5100 + number, 500), 100_000)).await);
    }
    let client = b.client(Version::Http1);
    let probe = async || seen_by(&client.send_chat(&chat(&prose(5200, 100), 1)).await);
    eventually("the other sees all of it, once", SOON, async || probe().await == REQUESTS).await;
    drop(streams);
    eventually("and that it ended", SOON, async || probe().await == 0).await;
    // Two requests at two gateways at once, again and again: were they blind to each other, half would collide.
    let mut collisions = 0;
    for round in 0..20 {
        let held = a.client(Version::Http1).open_chat(&streamed(&prose(5300 + round, 500), 100_000)).await;
        let home = held.headers()["x-sim-engine"].to_str().unwrap().to_owned();
        eventually("the other sees it", SOON, async || probe().await == 1).await;
        let other = b.client(Version::Http1).ask(&prose(5400 + round, 500)).await;
        collisions += u32::from(other.engine() == home);
        drop(held);
        eventually("and that it ended", SOON, async || probe().await == 0).await;
    }
    assert!(collisions <= 1, "{collisions} of 20 went to the busy pod while three were idle");
}
