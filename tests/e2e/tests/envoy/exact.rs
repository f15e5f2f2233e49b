//! Exact residency: where a prefix is comes from the engines' own events, not from what the gateway did.

use e2e::client::{Answer, Version};
use e2e::prompts::{chat, prose};
use e2e::stack::{Builder, Mode, Stack};
use e2e::wait::{SOON, eventually};
use serde_json::{Value, json};

mod hybrid;
mod tiers;

/// Some 45 chunks.
const PROMPT: usize = 12_000;

async fn prefixes(stack: &Stack) -> Value {
    stack.control().api("/api/v1/table").await["pools"][0]["prefixes"].clone()
}

/// A stack whose engines are all followed.
async fn followed(mode: Mode) -> Option<Stack> {
    followed_with(Stack::new().mode(mode)).await
}

async fn followed_with(builder: Builder) -> Option<Stack> {
    let stack = builder.exact().start().await?;
    eventually("all engines are followed", SOON, async || {
        let prefixes = prefixes(&stack).await;
        let engines = prefixes["engines"].as_array().cloned().unwrap_or_default();
        prefixes["mode"] == "exact" && engines.len() == 4 && engines.iter().all(|engine| engine["followed"] == true)
    })
    .await;
    eventually("gateways render", SOON, async || ask(&stack, "hello", |_| {}).await.decision()["prefix"] == "exact")
        .await;
    Some(stack)
}

async fn ask(stack: &Stack, prompt: &str, change: impl Fn(&mut Value)) -> Answer {
    let mut body = chat(prompt, 1);
    change(&mut body);
    stack.client(Version::Http1).send_chat(&body).await
}

/// Sends a prompt to an engine past the gateway.
async fn behind_its_back(address: &str, prompt: &str, change: impl Fn(&mut Value)) {
    let mut body = chat(prompt, 1);
    change(&mut body);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let sent = client.post(format!("http://{address}/v1/chat/completions")).json(&body).send().await.unwrap();
    assert_eq!(sent.status(), 200);
}

/// Prompt tokens that the decision saw on the device of `address`.
fn matched(answer: &Answer, address: &str) -> f64 {
    answer.candidate(address).and_then(|candidate| candidate["matched_tokens"].as_f64()).unwrap_or(-1.0)
}

in_all_modes! {
    async fn a_prefix_placed_behind_the_gateways_back_is_found_until_the_engine_drops_it(mode) {
        let Some(stack) = followed(mode).await else { return };
        for (seed, home) in (0..).zip(stack.sim.addresses.clone()) {
            let prompt = prose(seed, PROMPT);
            behind_its_back(&home, &prompt, |_| {}).await;
            eventually("the prefix is known", SOON, async || held(&explain(&stack, &prompt).await, &home) > 2000.0).await;
            every_worker_has_the_table(&stack).await;
            let answer = ask(&stack, &format!("{prompt} and more"), |_| {}).await;
            assert_eq!(answer.engine(), home, "{}", answer.decision());
            assert!(answer.cached_share() > 0.95, "{:?}", answer.usage());
            assert!(matched(&answer, &home) > 2000.0, "{}", answer.decision());
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let reset = client.post(format!("http://{home}/reset_prefix_cache")).send().await.unwrap();
            assert!(reset.status().is_success(), "{reset:?}");
            // The engine tells of it with its next step only.
            behind_its_back(&home, &prose(100 + seed, 1000), |_| {}).await;
            eventually("nobody holds it any more", SOON, async || {
                let explained = explain(&stack, &prompt).await;
                let candidates = explained["candidates"].as_array().cloned().unwrap_or_default();
                candidates.len() == 4 && candidates.iter().all(|candidate| candidate["matched_tokens"] == 0.0)
            })
            .await;
        }
    }
}

/// Returns when requests on new connections, which some worker takes, are decided on the table of now or a later one.
async fn every_worker_has_the_table(stack: &Stack) {
    let now = explain(stack, "which version?").await["table_version"].as_u64().unwrap();
    eventually("every worker has the table", SOON, async || {
        for _ in 0..12 {
            let decision = stack.client(Version::Http1).get("/v1/models").await.decision();
            if decision["table_version"].as_u64() < Some(now) {
                return false;
            }
        }
        true
    })
    .await;
}

/// Prompt tokens on the device of `address`, of an explained decision.
fn held(decision: &Value, address: &str) -> f64 {
    tokens(decision, address, "matched_tokens")
}

/// Prompt tokens in the slower memories of `address`.
fn reloadable(decision: &Value, address: &str) -> f64 {
    tokens(decision, address, "reload_tokens")
}

fn tokens(decision: &Value, address: &str, field: &str) -> f64 {
    let rows = decision["candidates"].as_array().cloned().unwrap_or_default();
    let row = rows.iter().find(|row| row["endpoint"] == *address).cloned();
    row.and_then(|row| row[field].as_f64()).unwrap_or(-1.0)
}

/// What the control plane would decide: it has no routes of its own to believe in.
async fn explain(stack: &Stack, prompt: &str) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/v1/explain", stack.control().http);
    client.post(url).json(&chat(prompt, 1)).send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_with_a_salt_share_with_nobody() {
    let Some(stack) = followed(Mode::Hold).await else { return };
    let prompt = prose(9, PROMPT);
    let home = stack.sim.addresses[2].clone();
    let salted = |body: &mut Value| body["cache_salt"] = json!("tenant-a");
    behind_its_back(&home, &prompt, salted).await;
    eventually("the tenant's blocks are known", SOON, async || {
        let engines = prefixes(&stack).await["engines"].as_array().cloned().unwrap_or_default();
        engines.iter().any(|engine| engine["blocks"].as_u64() > Some(100))
    })
    .await;
    every_worker_has_the_table(&stack).await;
    let own = ask(&stack, &prompt, salted).await;
    assert_eq!(own.engine(), home, "{}", own.decision());
    assert!(matched(&own, &home) > 2000.0, "{}", own.decision());
    for other in [json!("tenant-b"), Value::Null] {
        let answer = ask(&stack, &prompt, |body| {
            if other.is_null() {
                return;
            }
            body["cache_salt"] = other.clone();
        })
        .await;
        assert!(stack.sim.addresses.iter().all(|address| matched(&answer, address) < 1.0), "{}", answer.decision());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_events_are_replayed_and_a_restarted_engine_holds_nothing() {
    let Some(stack) = followed(Mode::Hold).await else { return };
    let home = stack.sim.addresses[1].clone();
    stack.sim.fault(&home, json!({"kind": "lose_events", "next": 2})).await;
    let prompt = prose(5, PROMPT);
    behind_its_back(&home, &prompt, |_| {}).await;
    // One more step that is lost, and one that shows it.
    behind_its_back(&home, &prose(6, 1000), |_| {}).await;
    behind_its_back(&home, &prose(7, 1000), |_| {}).await;
    eventually("the lost prefix is found all the same", SOON, async || {
        held(&explain(&stack, &prompt).await, &home) > 2000.0
    })
    .await;
    eventually("the loss is counted", SOON, async || {
        prefixes(&stack).await["totals"]["missing_batches"].as_u64() > Some(0)
    })
    .await;
    stack.sim.fault(&home, json!({"kind": "restart_events"})).await;
    behind_its_back(&home, &prose(8, 1000), |_| {}).await;
    eventually("its first life is forgotten", SOON, async || {
        prefixes(&stack).await["totals"]["resets"].as_u64() > Some(0)
    })
    .await;
}

/// A chat template that is not the one that the pool is configured with: what stands before a message's text differs.
const ANOTHER_TEMPLATE: &str =
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}[/]\n{% endfor %}[assistant] ";

async fn known(stack: &Stack) -> Value {
    stack.control().api("/api/v1/pools").await[0]["prefixes"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_that_render_otherwise_make_the_pool_learn_and_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("another.jinja");
    std::fs::write(&template, ANOTHER_TEMPLATE).unwrap();
    let flags = ["--api-delay-ms", "2", "--chat-template", template.to_str().unwrap()];
    let Some(stack) = followed_with(Stack::new().sim(&flags)).await else { return };
    for seed in 0..24 {
        assert_eq!(ask(&stack, &prose(500 + seed, PROMPT), |_| {}).await.status, 200);
    }
    eventually("the pool learns", SOON, async || known(&stack).await["mode"] == "learned").await;
    let told = known(&stack).await;
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.contains("kvasir render --compare") && reason.contains("byte 0 on"), "{told}");
    assert!(told["doubt"]["unconfirmed"].as_u64() >= Some(16), "{told}");
    eventually("gateways no longer render", SOON, async || {
        ask(&stack, "hello", |_| {}).await.decision()["prefix"] != "exact"
    })
    .await;
    let prompt = prose(900, PROMPT);
    let first = ask(&stack, &prompt, |_| {}).await.engine().to_owned();
    eventually("routes are learned", SOON, async || held(&explain(&stack, &prompt).await, &first) > 2000.0).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let metrics = client.get(format!("http://{}/metrics", stack.control().http)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("kvasir_prefix_doubted{pool=\"llama\"} 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_that_render_alike_are_confirmed_and_predicted_to_the_block() {
    let Some(stack) = followed(Mode::Hold).await else { return };
    for seed in 0..72 {
        let prompt = prose(1000 + seed % 48, 4000);
        let answer = ask(&stack, &prompt, |body| {
            if seed % 3 == 0 {
                body["cache_salt"] = json!("tenant-a");
            }
        })
        .await;
        assert_eq!(answer.status, 200);
    }
    eventually("all of it was judged", SOON, async || {
        let totals = prefixes(&stack).await["totals"].clone();
        let count = |name: &str| totals[name].as_u64().unwrap_or(0);
        let judged = count("confirmed_prompts") + count("unconfirmed_prompts");
        judged >= 48 && judged + count("skipped_prompts") >= 72
    })
    .await;
    let all = prefixes(&stack).await;
    assert_eq!(
        (all["mode"].as_str(), all["totals"]["unconfirmed_prompts"].as_u64()),
        (Some("exact"), Some(0)),
        "{all}"
    );
    let truth = known(&stack).await["truth"].clone();
    assert!(truth["judged"].as_u64() >= Some(72), "{truth}");
    assert_eq!(truth["wrong_routes"], 0, "{truth}");
    // The engine counts whole blocks of 16, and the last of a prompt never; a chunk of 128 bytes may end up to 32 tokens
    // before its last block does.
    assert!(truth["recent"]["over_p99"].as_u64() <= Some(16), "{truth}");
    assert!(truth["recent"]["under_p99"].as_u64() <= Some(64), "{truth}");
}
