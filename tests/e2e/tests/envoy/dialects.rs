//! The engines' own APIs: token ids find the pod that holds them, and what the engines say of it is counted.

use e2e::client::{Answer, Client, Version, answer};
use e2e::prompts::{chat, prose};
use e2e::shared_stack::Shared;
use e2e::stack::{Mode, Stack};
use e2e::wait::{SOON, eventually};
use serde_json::{Value, json};

/// Their chain has some 45 chunks of 256 bytes.
const IDS: u32 = 3_000;

const VLLM: &str = "/inference/v1/generate";
const SGLANG: &str = "/generate";

/// Ids that no other `seed` begins with.
fn ids(seed: u32) -> Vec<u32> {
    (0..IDS).map(|place| 1_000 + (place.wrapping_mul(7_919) + seed * 104_729) % 30_000).collect()
}

fn vllm(ids: &[u32], stream: bool) -> Value {
    let options = if stream { json!({"include_usage": true}) } else { Value::Null };
    json!({"token_ids": ids, "sampling_params": {"max_tokens": 4}, "stream": stream, "stream_options": options})
}

fn sglang(ids: &[u32], stream: bool) -> Value {
    json!({"input_ids": ids, "sampling_params": {"max_new_tokens": 4}, "stream": stream})
}

async fn ask(client: &Client, path: &str, body: &Value) -> Answer {
    let answer = answer(client.post(path, body.to_string())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// What the gateways have counted so far.
async fn counted(stack: &Stack) -> [f64; 4] {
    let gateway = stack.gateway();
    [
        gateway.stat("kvasir_responses_total").await,
        gateway.stat("kvasir_time_to_first_token_milliseconds_count").await,
        gateway.stat("kvasir_prompt_tokens_total").await,
        gateway.stat("kvasir_cached_tokens_total").await,
    ]
}

/// Two requests, whole and then streamed with the same ids: the second is at home where the first was, and its first
/// token and usage are seen.
async fn goes_home_and_is_counted(stack: &Stack, path: &str, seed: u32, body: fn(&[u32], bool) -> Value) {
    let client = stack.client(Version::Http2);
    let before = counted(stack).await;
    let first = ask(&client, path, &body(&ids(seed), false)).await;
    let longer = [ids(seed), vec![5, 6, 7]].concat();
    for _ in 0..2 {
        let again = ask(&client, path, &body(&longer, true)).await;
        assert_eq!(again.engine(), first.engine(), "{}", again.decision());
        let text = String::from_utf8_lossy(&again.body).into_owned();
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    }
    let matched = ask(&client, path, &body(&longer, true)).await;
    let row = matched.candidate(first.engine()).unwrap();
    assert!(row["matched_tokens"].as_f64() > Some(2_900.0), "{row}");
    eventually("tokens and times are counted", SOON, async || {
        let after = counted(stack).await;
        let gained = |at: usize| after[at] - before[at];
        gained(0) >= 4.0 && gained(1) >= 3.0 && gained(2) >= 12_000.0 && gained(3) >= 8_900.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_ids_of_vllms_own_api_go_to_the_pod_that_holds_them() {
    let Some(stack) = Stack::new().start().await else { return };
    goes_home_and_is_counted(&stack, VLLM, 1, vllm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_ids_of_sglangs_own_api_go_to_the_pod_that_holds_them() {
    let Some(stack) = Stack::new().start().await else { return };
    goes_home_and_is_counted(&stack, SGLANG, 2, sglang).await;
}

in_all_modes! {
    async fn the_engines_own_apis_share_what_a_pod_holds(mode) {
        let Some(stack) = Shared::of(mode).share().await else { return };
        let client = stack.client(Version::Http2);
        let ids = ids(match mode { Mode::Hold => 10, Mode::State => 11, Mode::Picker => 12 });
        let first = ask(&client, VLLM, &vllm(&ids, false)).await;
        let completion = json!({"model": "sim-model", "prompt": ids, "max_tokens": 4});
        for (path, body) in [(SGLANG, sglang(&ids, true)), ("/v1/completions", completion)] {
            let again = ask(&client, path, &body).await;
            assert_eq!(again.engine(), first.engine(), "{path}: {}", again.decision());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_renders_or_counts_is_answered_and_refused_in_its_dialect() {
    let Some(stack) = Shared::of(Mode::Hold).share().await else { return };
    let client = stack.client(Version::Http2);
    let mut body = chat(&prose(901, 500), 4);
    for path in ["/v1/chat/completions/render", "/v1/messages/count_tokens", "/v1/messages/render"] {
        let prepared = ask(&client, path, &body).await;
        assert!(prepared.json()["token_ids"].is_array() || prepared.json()["input_tokens"].is_u64(), "{prepared:?}");
        let tokens = prepared.decision()["prompt_tokens"].as_f64();
        assert!(tokens.is_none_or(|tokens| tokens <= 0.0), "{}", prepared.decision());
    }
    body["model"] = "nobody".into();
    let refused = answer(client.post("/v1/messages/count_tokens", body.to_string())).await;
    assert_eq!((refused.status, &refused.json()["error"]["type"]), (404, &json!("not_found_error")));
    let refused = answer(client.post("/v1/chat/completions/render", body.to_string())).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (404, &json!("model_not_found")));
}
