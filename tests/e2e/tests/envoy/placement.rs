//! The right pod: the one that holds the prompt's prefix, by that pod's own word, unless load demands another.

use std::collections::{BTreeMap, BTreeSet};

use e2e::client::{Answer, Client, Version};
use e2e::prompts::{chat, prose, streamed};
use e2e::shared_stack::Shared;
use e2e::stack::{Mode, Stack};
use e2e::wait::{SOON, eventually};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Prompts of this size have some 45 prefix chunks of 256 bytes.
const PROMPT: usize = 12_000;
const CHUNKS: f64 = 45.0;

async fn first_sight(client: &Client, seed: u64) -> String {
    let first = client.ask(&prose(seed, PROMPT)).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert!(first.cached_share() < 0.05, "nobody has seen it: {:?}", first.usage());
    first.engine().to_owned()
}

/// The same beginning, whole and streamed.
async fn goes_home(client: &Client, seed: u64, home: &str) {
    let longer = format!("{} and then some more words", prose(seed, PROMPT));
    for body in [chat(&longer, 4), streamed(&longer, 4)] {
        let again = client.send_chat(&body).await;
        assert_eq!((again.status, again.engine()), (200, home), "{}", again.decision());
        assert!(again.cached_share() > 0.9, "{:?}", again.usage());
    }
}

in_all_modes! {
    async fn a_repeated_prefix_goes_to_the_pod_that_holds_it_whichever_worker_takes_it(mode) {
        let Some(stack) = Shared::of(mode).alone().await else { return };
        let before = stack.gateway().stat("kvasir_resident_chunks").await;
        let mut homes = BTreeMap::new();
        for seed in 300..308 {
            homes.insert(seed, first_sight(&stack.client(Version::Http1), seed).await);
        }
        let engines: BTreeSet<&String> = homes.values().collect();
        assert!(engines.len() > 1, "idle engines are drawn from: {engines:?}");
        eventually("the table has the new prefixes", SOON, async || {
            stack.gateway().stat("kvasir_resident_chunks").await >= before + 8.0 * CHUNKS
        })
        .await;
        for (seed, home) in homes {
            // Each new connection is taken by some worker.
            for _ in 0..3 {
                goes_home(&stack.client(Version::Http1), seed, &home).await;
            }
        }
    }

    async fn on_one_connection_a_prefix_is_known_at_once(mode) {
        let Some(stack) = Shared::of(mode).alone().await else { return };
        let client = stack.client(Version::Http2);
        for seed in 200..208 {
            let home = first_sight(&client, seed).await;
            goes_home(&client, seed, &home).await;
        }
    }

    async fn a_burst_of_unique_prompts_spreads_over_the_pods(mode) {
        let Some(stack) = Shared::of(mode).alone().await else { return };
        let bodies = (0..64).map(|number| chat(&prose(400 + number, 2000), 16));
        let answers = at_once(&stack, bodies).await;
        let counts = requests_per_engine(&answers);
        assert_eq!(counts.len(), 4, "{counts:?}");
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        assert!(*least >= 11 && *most <= 21, "16 each would be even: {counts:?}, {}", answers[63].decision());
    }

    async fn a_hot_prefix_under_overload_spills_to_other_pods(mode) {
        let Some(stack) = Shared::of(mode).alone().await else { return };
        let prefix = prose(500, PROMPT);
        let home = stack.client(Version::Http1).ask(&prefix).await.engine().to_owned();
        let bodies = (0..128).map(|number| chat(&format!("{prefix}{}", prose(510 + number, 1000)), 64));
        let counts = requests_per_engine(&at_once(&stack, bodies).await);
        let at_home = counts.get(&home).copied().unwrap_or(0);
        assert!(counts.len() > 1 && at_home < 110, "one pod alone would be slower for everybody: {counts:?}");
        assert!(at_home > 0, "the prefix is still worth something: {counts:?}");
    }
}

async fn at_once(stack: &Stack, bodies: impl Iterator<Item = Value>) -> Vec<Answer> {
    let mut asking = JoinSet::new();
    for body in bodies {
        let client = stack.client(Version::Http1);
        asking.spawn(async move { client.send_chat(&body).await });
    }
    let answers = asking.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    answers
}

fn requests_per_engine(answers: &[Answer]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.engine().to_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_stays_with_its_pod_whatever_it_asks_and_a_forged_one_harms_nobody() {
    // More endpoints than an explanation lists.
    let stack = Stack::new().engines(12).workers(1).pool("session: {header: x-session}").start().await;
    let Some(stack) = stack else { return };
    let client = stack.client(Version::Http1);
    let first = client.ask(&prose(600, 400)).await;
    let session = first.header("x-session").to_owned();
    assert!(!session.is_empty(), "{first:?}");
    let with = async |session: &str, seed: u64| {
        let body = chat(&prose(seed, 400), 4).to_string();
        e2e::client::answer(client.post("/v1/chat/completions", body).header("x-session", session)).await
    };
    for seed in 610..620 {
        let again = with(&session, seed).await;
        assert_eq!((again.status, again.engine()), (200, first.engine()), "{}", again.decision());
        assert_eq!(again.header("x-session"), session);
        assert_eq!(again.decision()["decided_by"], "session");
    }
    for forged in ["ffffffffffffffff", "not-hex", "", "127.0.0.1:22"] {
        assert_eq!(with(forged, 630).await.status, 200, "{forged}");
    }
    let models: BTreeSet<String> = {
        let mut engines = BTreeSet::new();
        for _ in 0..40 {
            let listed = client.get("/v1/models").await;
            assert_eq!((listed.status, &listed.json()["data"][0]["id"]), (200, &json!("sim-model")));
            engines.insert(listed.engine().to_owned());
        }
        engines
    };
    assert!(models.len() > 4, "what has no prompt goes to any idle pod: {models:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dialects_share_what_a_pod_holds() {
    let Some(stack) = Shared::of(Mode::Hold).share().await else { return };
    let client = stack.client(Version::Http2);
    let prompt = prose(700, PROMPT);
    let first = client.ask(&prompt).await;
    let bodies = [
        (
            "/v1/messages",
            json!({"model": "sim-model", "max_tokens": 4, "messages": [{"role": "user", "content": prompt}]}),
        ),
        ("/v1/responses", json!({"model": "sim-model", "max_output_tokens": 4, "input": prompt})),
    ];
    for (path, body) in bodies {
        let again = e2e::client::answer(client.post(path, body.to_string())).await;
        assert_eq!((again.status, again.engine()), (200, first.engine()), "{path}: {}", again.decision());
    }
}
