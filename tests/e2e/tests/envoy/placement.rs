//! The right pod: the one that holds the prompt's prefix, by that pod's own word, unless load demands another.

use std::collections::{BTreeMap, BTreeSet};

use e2e::client::{Answer, Client, Version};
use e2e::prompts::{chat, prose, streamed};
use e2e::shared_stack::Shared;
use e2e::stack::{Mode, Stack};
use e2e::wait::{SOON, eventually};
use tokio::task::JoinSet;

/// Prompts of this size have some 30 prefix chunks.
const PROMPT: usize = 4000;

async fn repeated_prefixes_hit(mode: Mode, version: Version, seed: u64) {
    let Some(stack) = Shared::of(mode).share().await else { return };
    let client = stack.client(version);
    let mut engines = BTreeSet::new();
    for number in 0..8 {
        let prompt = prose(seed + number, PROMPT);
        let first = client.ask(&prompt).await;
        assert_eq!(first.status, 200, "{first:?}");
        assert!(first.cached_share() < 0.05, "nobody has seen {:?}", first.usage());
        eventually_learned(&stack, &client, &prompt, first.engine()).await;
        let longer = format!("{prompt} and then some more words {number}");
        for body in [chat(&longer, 4), streamed(&longer, 4)] {
            let again = client.send_chat(&body).await;
            assert_eq!((again.status, again.engine()), (200, first.engine()), "{:?}", again.decision());
            assert!(again.cached_share() > 0.9, "{:?}", again.usage());
        }
        engines.insert(first.engine().to_owned());
    }
    assert!(engines.len() > 1, "idle engines are drawn from");
}

/// What one worker sent where takes a report and a table to reach the others.
async fn eventually_learned(stack: &Stack, client: &Client, prompt: &str, engine: &str) {
    eventually("the prefix is known to be there", SOON, async || {
        // A GET would not match anything: ask with the prompt itself, on a connection of its own.
        let _ = client;
        let other = stack.client(Version::Http1);
        let seen = other.send_chat(&chat(prompt, 1)).await;
        seen.candidate(engine).is_some_and(|row| row["matched_tokens"].as_f64() > Some(0.0))
    })
    .await;
}
