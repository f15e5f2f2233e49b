//! Requests that get another model than they name: the engine sees the other name, the client its own.

use std::collections::BTreeMap;

use bytes::Bytes;
use e2e::client::{Answer, Client, Version, answer};
use e2e::echo;
use e2e::prompts::{chat, prose, streamed};
use e2e::stack::{Builder, Mode, Stack};
use e2e::wait::{SOON, eventually};
use hyper::body::Frame;
use serde_json::{Value, json};

use crate::bodies::Frames;

const CHAT: &str = "/v1/chat/completions";
/// A canary, an adapter under another name, and a name that nobody serves.
const RULES: &str = "rewrites: [{models: [split], targets: [{model: sim-model, weight: 3}, {model: adapter, weight: 1}]}, \
                     {models: [tuned], targets: [{model: adapter}]}, {models: [lost], targets: [{model: nobody}]}]";

fn engines(mode: Mode) -> Builder {
    Stack::new().sim(&["--api-delay-ms", "2", "--lora", "adapter"]).mode(mode).pool(RULES)
}

fn named(model: &str, mut body: Value) -> Value {
    body["model"] = json!(model);
    body
}

/// All that is called `model` in an answer, whole or streamed.
fn models(answer: &Answer) -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("model").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|value| collect(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut found = Vec::new();
    if answer.header("content-type").starts_with("text/event-stream") {
        let text = String::from_utf8_lossy(&answer.body);
        let events = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        events.for_each(|data| collect(&serde_json::from_str(data).unwrap(), &mut found));
    } else {
        collect(&answer.json(), &mut found);
    }
    found
}

/// In one piece without a length of its own, or in chunks.
async fn echoed(client: &Client, body: &str, chunk: Option<usize>) -> Value {
    let sent: reqwest::Body = match chunk {
        None => body.to_owned().into(),
        Some(size) => {
            let chunks = body.as_bytes().chunks(size);
            reqwest::Body::wrap(Frames(chunks.map(|chunk| Frame::data(Bytes::copy_from_slice(chunk))).collect()))
        }
    };
    let request = client.post(CHAT, sent).header("accept-encoding", "gzip").header("x-client", "kept");
    let seen = answer(request.header("x-llm-d-model-name-rewrite", "sim-model")).await;
    assert_eq!(seen.status, 200, "{seen:?}");
    seen.json()
}

async fn weights_are_kept_and_every_answer_bears_the_clients_name(stack: &Stack) {
    let client = stack.client(Version::Http2);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for number in 0..200 {
        let prompt = format!("hello {number}");
        let body = if number % 2 == 0 { chat(&prompt, 2) } else { streamed(&prompt, 2) };
        let answered = client.send_chat(&named("split", body)).await;
        let (found, decision) = (models(&answered), answered.decision());
        assert!(!found.is_empty() && found.iter().all(|model| model == "split"), "{answered:?}");
        assert_eq!(decision["rewritten_from"], "split");
        assert!(answered.usage()["prompt_tokens"].as_u64() > Some(0));
        *counts.entry(decision["model"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    // 150 and 50: six deviations are 37.
    assert!(counts["adapter"].abs_diff(50) < 37 && counts["adapter"] + counts["sim-model"] == 200, "{counts:?}");
}

in_all_modes! {
    async fn a_canary_gets_its_share_and_nobody_sees_it(mode) {
        let Some(stack) = engines(mode).start().await else { return };
        weights_are_kept_and_every_answer_bears_the_clients_name(&stack).await;
        let client = stack.client(Version::Http1);
        let message = json!([{"role": "user", "content": "hello"}]);
        for stream in [true, false] {
            for (path, body) in [
                ("/v1/completions", json!({"prompt": "hello", "max_tokens": 3})),
                ("/v1/responses", json!({"input": "hello", "max_output_tokens": 3})),
                ("/v1/messages", json!({"messages": message, "max_tokens": 3})),
            ] {
                let mut body = named("tuned", body);
                body["stream"] = json!(stream);
                let answered = answer(client.post(path, body.to_string())).await;
                let found = models(&answered);
                assert!(!found.is_empty() && found.iter().all(|model| model == "tuned"), "{path} {answered:?}");
            }
        }
        let plain = models(&client.send_chat(&chat("hello", 2)).await);
        assert_eq!(plain, ["sim-model"], "who names a served model gets that");
    }

    async fn a_header_names_the_model_and_an_unknown_one_is_404(mode) {
        let Some(stack) = engines(mode).start().await else { return };
        let client = stack.client(Version::Http2);
        for header in ["x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"] {
            for name in ["mine", "split", "sim-model"] {
                let body = named(name, streamed("hello", 2)).to_string();
                let answered = answer(client.post(CHAT, body).header(header, "adapter")).await;
                assert!(models(&answered).iter().all(|model| model == name), "{answered:?}");
                assert_eq!(answered.decision()["model"], "adapter");
            }
            let body = chat("hello", 2).to_string();
            assert_eq!(answer(client.post(CHAT, body).header(header, "nobody")).await.status, 404);
        }
        for name in ["mine", "lost"] {
            let unknown = client.send_chat(&named(name, chat("hello", 2))).await;
            assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!("model_not_found")));
            assert!(unknown.json()["error"]["message"].as_str().unwrap().contains(name), "{unknown:?}");
        }
    }

    async fn an_adapter_under_another_name_lands_where_its_prefixes_are(mode) {
        let Some(stack) = engines(mode).workers(1).start().await else { return };
        let client = stack.client(Version::Http2);
        for seed in 7100..7104 {
            let prompt = prose(seed, 12_000);
            let first = client.send_chat(&named("adapter", chat(&prompt, 4))).await;
            let base = client.send_chat(&chat(&prompt, 4)).await;
            assert!(base.cached_share() < 0.1, "the base model's prefixes are others: {:?}", base.usage());
            let again = client.send_chat(&named("tuned", chat(&prompt, 4))).await;
            assert_eq!(again.engine(), first.engine(), "{}", again.decision());
            assert!(again.cached_share() > 0.9, "{:?}", again.usage());
        }
    }

    async fn bodies_of_every_size_arrive_whole(mode) {
        let echo = echo::start().await;
        let Some(stack) = Stack::new().engines(0).endpoint(&echo).mode(mode).workers(1).start().await else { return };
        for version in [Version::Http1, Version::Http2] {
            let client = stack.client(version);
            for bytes in [10, 70_000, 2_000_000] {
                // The name is in a text, too; and a much shorter and a much longer one is replaced.
                for name in ["m", "a/much-longer \u{e9}\"name\" than the one that the engine gets, by far"] {
                    let prompt = format!("\"model\":\"sim-model\" {}", prose(71, bytes));
                    let body = named(name, chat(&prompt, 4)).to_string();
                    let wanted = chat(&prompt, 4).to_string();
                    for chunk in [None, Some(1 + bytes / 5)] {
                        let seen = echoed(&client, &body, chunk).await;
                        let case = format!("{version:?} {bytes} {name} {chunk:?} {}", seen["headers"]);
                        assert!(seen["body"] == wanted.as_str(), "{case}");
                        let headers = seen["headers"].as_object().unwrap();
                        assert_eq!(headers["x-client"], "kept");
                        assert!(!headers.contains_key("accept-encoding"), "{case}");
                        assert!(!headers.contains_key("x-llm-d-model-name-rewrite"), "{case}");
                    }
                }
            }
        }
        let log = stack.gateway().log();
        assert!(!log.contains("an effect failed") && !log.contains("a body stays"), "{log}");
    }
}

in_both_modes! {
    async fn a_request_that_waited_has_the_other_name_too(mode) {
        let flow = "flowControl: {hold: {concurrency: {requests: 1}}}";
        let Some(stack) = engines(mode).engines(1).workers(1).pool(flow).pool("slo: {ttft: 1m}").start().await else {
            return;
        };
        let mut busy = stack.client(Version::Http1).open_chat(&streamed(&prose(72, 500), 100_000)).await;
        assert!(busy.chunk().await.unwrap().is_some());
        let client = stack.client(Version::Http2);
        let waiting = tokio::spawn(async move { client.send_chat(&named("tuned", chat(&prose(73, 90_000), 4))).await });
        eventually("it waits", SOON, async || stack.gateway().stat("kvasir_flow_queued_total").await > 0.5).await;
        drop(busy);
        let waited = waiting.await.unwrap();
        assert_eq!(models(&waited), ["tuned"]);
        assert!(waited.decision()["waited_ms"].as_f64() > Some(0.0), "{}", waited.decision());
    }
}
