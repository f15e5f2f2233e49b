//! Engines with a sliding window beside full attention: a prefix counts as far as the engine can go on from it, and not
//! because its blocks are there.

use e2e::prompts::prose;
use e2e::stack::{Mode, Stack};
use e2e::wait::{SOON, eventually};

use super::{PROMPT, ask, behind_its_back, every_worker_has_the_table, explain, followed_with, held, known, prefixes};

/// All blocks of some sixty prompts, and the windows at the ends of eight.
const HYBRID: [&str; 6] = ["--api-delay-ms", "2", "--sliding-window", "128", "--side-blocks", "64"];

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_found_where_a_hybrid_engine_can_go_on_and_not_once_its_checkpoint_is_gone() {
    let Some(stack) = followed_with(Stack::new().sim(&HYBRID).mode(Mode::Hold)).await else { return };
    let home = stack.sim.addresses[2].clone();
    let prompt = prose(1, PROMPT);
    behind_its_back(&home, &prompt, |_| {}).await;
    eventually("the prompt's end is known", SOON, async || held(&explain(&stack, &prompt).await, &home) > 2000.0).await;
    every_worker_has_the_table(&stack).await;
    let answer = ask(&stack, &prompt, |_| {}).await;
    assert_eq!(answer.engine(), home, "{}", answer.decision());
    assert!(answer.cached_share() > 0.95, "{:?}", answer.usage());

    eventually("it is shown as hybrid", SOON, async || {
        let engines = prefixes(&stack).await["engines"].as_array().cloned().unwrap_or_default();
        let shown = engines.iter().any(|engine| engine["address"] == *home && engine["hybrid"] == true);
        shown && known(&stack).await["reason"].as_str().is_some_and(|reason| reason.contains("hybrid"))
    })
    .await;

    // All blocks of its first half are there; no window ends in it.
    let fork = format!("{} and then something else", &prompt[..PROMPT / 2]);
    let explained = explain(&stack, &fork).await;
    assert!(held(&explained, &home) < 1.0, "{explained}");

    for seed in 100..110 {
        behind_its_back(&home, &prose(seed, PROMPT), |_| {}).await;
    }
    eventually("its window is gone", SOON, async || held(&explain(&stack, &prompt).await, &home) < 1.0).await;
    let blocks = |engines: &serde_json::Value| {
        let of = |engine: &&serde_json::Value| engine["address"] == *home;
        engines["engines"].as_array().and_then(|all| all.iter().find(of)?["blocks"].as_u64()).unwrap_or(0)
    };
    assert!(blocks(&prefixes(&stack).await) > 2000, "full attention still has every block");
    every_worker_has_the_table(&stack).await;
    let again = ask(&stack, &prompt, |_| {}).await;
    assert!(again.cached_share() < 0.05, "{:?} by {}", again.usage(), again.engine());
}
