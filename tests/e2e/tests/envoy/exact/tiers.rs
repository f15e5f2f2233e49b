//! What the device evicted and a slower memory took is still worth going to; what nobody has any more is not.

use e2e::prompts::prose;
use e2e::stack::{Mode, Stack};
use e2e::wait::{SOON, eventually};
use serde_json::Value;

use super::{
    PROMPT, ask, behind_its_back, every_worker_has_the_table, explain, followed_with, held, prefixes, reloadable,
};

/// A device that holds some five prompts, and a host memory that holds some ten more.
const SMALL: [&str; 6] = ["--api-delay-ms", "2", "--num-gpu-blocks", "1200", "--cpu-blocks", "2400"];

/// More prompts than the device holds.
const FLOOD: u64 = 8;

async fn flood(home: &str, first: u64, prompts: u64) {
    for seed in first..first + prompts {
        behind_its_back(home, &prose(seed, PROMPT), |_| {}).await;
    }
}

async fn an_offloaded_prefix_draws_its_requests(flags: &[&str]) {
    let stack = Stack::new().sim(&[&SMALL, flags].concat());
    let Some(stack) = followed_with(stack).await else { return };
    let home = stack.sim.addresses[3].clone();
    let prompt = prose(1, PROMPT);
    behind_its_back(&home, &prompt, |_| {}).await;
    eventually("the device holds it", SOON, async || held(&explain(&stack, &prompt).await, &home) > 2000.0).await;

    flood(&home, 100, FLOOD).await;
    eventually("host memory holds it", SOON, async || {
        let explained = explain(&stack, &prompt).await;
        held(&explained, &home) < 1.0 && reloadable(&explained, &home) > 2000.0
    })
    .await;
    every_worker_has_the_table(&stack).await;
    let answer = ask(&stack, &prompt, |_| {}).await;
    assert_eq!(answer.engine(), home, "{}", answer.decision());
    assert!(answer.cached_share() > 0.95, "{:?}", answer.usage());

    // It is back on the device; what it pushes out and what follows fills both memories with other prompts.
    flood(&home, 200, 3 * FLOOD).await;
    eventually("neither holds it", SOON, async || {
        let explained = explain(&stack, &prompt).await;
        held(&explained, &home) < 1.0 && reloadable(&explained, &home) < 1.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offloaded_prefix_is_found_by_the_hash_alone() {
    an_offloaded_prefix_draws_its_requests(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offloaded_prefix_is_found_by_its_tokens() {
    an_offloaded_prefix_draws_its_requests(&["--self-describing-kv-events"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_share_neither_with_each_other_nor_with_their_base() {
    let flags = ["--api-delay-ms", "2", "--lora", "french", "--lora", "german"];
    let Some(stack) = followed_with(Stack::new().sim(&flags).mode(Mode::State)).await else { return };
    let home = stack.sim.addresses[1].clone();
    let prompt = prose(3, PROMPT);
    let with = |adapter: &'static str| move |body: &mut Value| body["model"] = adapter.into();
    behind_its_back(&home, &prompt, with("french")).await;
    eventually("the adapter's blocks are known", SOON, async || {
        let engines = prefixes(&stack).await["engines"].as_array().cloned().unwrap_or_default();
        engines.iter().any(|engine| engine["blocks"].as_u64() > Some(100))
    })
    .await;
    every_worker_has_the_table(&stack).await;
    let own = ask(&stack, &prompt, with("french")).await;
    assert_eq!((own.engine(), own.decision()["prefix"].as_str()), (home.as_str(), Some("exact")), "{}", own.decision());
    assert!(held(&own.decision(), &home) > 2000.0, "{}", own.decision());
    for other in ["german", "sim-model"] {
        let answer = ask(&stack, &prompt, with(other)).await;
        assert_eq!(answer.decision()["prefix"], "exact");
        let all = &stack.sim.addresses;
        assert!(all.iter().all(|address| held(&answer.decision(), address) < 1.0), "{}", answer.decision());
    }
}
