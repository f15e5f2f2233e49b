//! Prompts of `/v1/completions` that come as token ids: the same prefix as the text that they stand for.

use e2e::client::{Answer, Version, answer};
use e2e::prompts::prose;
use e2e::stack::{Mode, Stack};
use e2e::wait::{SOON, eventually};
use serde_json::{Value, json};

/// Some 90 chunks.
const PROMPT: usize = 12_000;
/// Nearly all of its tokens.
const MOST: f64 = 3_000.0;

/// A stack whose engines are followed and whose gateway decodes token ids.
async fn decoding(mode: Mode) -> Option<Stack> {
    let stack = Stack::new().mode(mode).exact().start().await?;
    eventually("all engines are followed", SOON, async || {
        let prefixes = stack.control().api("/api/v1/table").await["pools"][0]["prefixes"].clone();
        let engines = prefixes["engines"].as_array().cloned().unwrap_or_default();
        engines.len() == 4 && engines.iter().all(|engine| engine["followed"] == true)
    })
    .await;
    eventually("every worker decodes", SOON, async || {
        for _ in 0..12 {
            if ask(&stack, &json!([65, 66, 67])).await.decision()["prefix"] != "exact" {
                return false;
            }
        }
        true
    })
    .await;
    Some(stack)
}

/// On a connection of its own.
async fn ask(stack: &Stack, prompt: &Value) -> Answer {
    let body = json!({"model": "sim-model", "max_tokens": 1, "prompt": prompt});
    answer(stack.client(Version::Http1).post("/v1/completions", body.to_string())).await
}

/// Sends a prompt to an engine past the gateway.
async fn behind_its_back(address: &str, prompt: &Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({"model": "sim-model", "max_tokens": 1, "prompt": prompt});
    let sent = client.post(format!("http://{address}/v1/completions")).json(&body).send().await.unwrap();
    assert_eq!(sent.status(), 200);
}

/// What the engine makes of a text.
async fn ids(stack: &Stack, text: &str) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/tokenize", stack.sim.addresses[0]);
    let told: Value = client.post(url).json(&json!({"prompt": text})).send().await.unwrap().json().await.unwrap();
    told["tokens"].clone()
}

fn matched(answer: &Answer, address: &str) -> f64 {
    answer.candidate(address).and_then(|candidate| candidate["matched_tokens"].as_f64()).unwrap_or(-1.0)
}

in_all_modes! {
    async fn a_text_is_found_by_its_token_ids_and_the_other_way_round(mode) {
        let Some(stack) = decoding(mode).await else { return };
        for (seed, home) in (0..).zip(stack.sim.addresses.clone()) {
            let text = prose(seed, PROMPT);
            let tokens = ids(&stack, &text).await;
            assert!(tokens.as_array().map(Vec::len) > Some(2_000), "{tokens}");
            let (placed, asked) = if seed % 2 == 0 { (json!(text), tokens) } else { (tokens, json!(text)) };
            behind_its_back(&home, &placed).await;
            eventually("the other form is found where the first one was computed", SOON, async || {
                let explained = explain(&stack, &asked).await;
                let rows = explained["candidates"].as_array().cloned().unwrap_or_default();
                rows.iter().any(|row| row["endpoint"] == *home && row["matched_tokens"].as_f64() > Some(MOST))
            })
            .await;
            let version = explain(&stack, &asked).await["table_version"].as_u64();
            eventually("every worker has the table", SOON, async || {
                for _ in 0..12 {
                    let decision = stack.client(Version::Http1).get("/v1/models").await.decision();
                    if decision["table_version"].as_u64() < version {
                        return false;
                    }
                }
                true
            })
            .await;
            let answer = ask(&stack, &asked).await;
            assert_eq!(answer.decision()["prefix"], "exact", "{}", answer.decision());
            assert_eq!(answer.engine(), home, "{}", answer.decision());
            assert!(matched(&answer, &home) > MOST, "{}", answer.decision());
            assert!(answer.cached_share() > 0.95, "{:?}", answer.usage());
        }
    }
}

/// What the control plane would decide: it has no routes of its own to believe in.
async fn explain(stack: &Stack, prompt: &Value) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/v1/explain?path=/v1/completions", stack.control().http);
    let body = json!({"model": "sim-model", "max_tokens": 1, "prompt": prompt});
    client.post(url).json(&body).send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_nobody_knows_are_learned_with_the_reason() {
    let Some(stack) = decoding(Mode::Hold).await else { return };
    let answer = ask(&stack, &json!([65, 4_000_000_000_u32])).await;
    let prefix = answer.decision()["prefix"].clone();
    assert!(prefix.as_str().unwrap().contains("a token id that the vocabulary does not know"), "{prefix}");
}
