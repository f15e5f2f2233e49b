//! A client cannot make an engine announce again what it holds: the key for it reaches no engine, and all else does.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use e2e::client::{Client, Version, answer};
use e2e::echo;
use e2e::prompts::{chat, prose};
use e2e::stack::{Mode, Stack};
use hyper::body::Frame;
use hyper::header::{HeaderMap, HeaderValue};
use serde_json::json;

const CHAT: &str = "/v1/chat/completions";
const KEY: &str = "kv_cache_report_mode";

/// What vLLM serves besides, with a body that has the key where it reads it there.
const SEARCHED: [(&str, &str); 6] = [
    (
        "/v1/chat/completions/batch",
        r#"{"model":"m","messages":[[{"role":"user","content":"a"}],[]],"vllm_xargs":{"KEY":"full","b":1}}"#,
    ),
    ("/v1/chat/completions/batch/", r#"{"messages":[["KEY"]],"vllm_xargs":{"KEY":"full"},"vllm_xargs":{"KEY":1}}"#),
    ("/inference/v1/generate", r#"{"token_ids":[1,2],"sampling_params":{"extra_args":{"KEY":"full","b":1}}}"#),
    ("/inference/v1/generate?x=1", r#"{"token_ids":[1],"vllm_xargs":{"KEY":"full"},"sampling_params":{}}"#),
    ("/invocations", r#"{"prompt":"p","vllm_xargs":{"KEY":"full"}}"#),
    ("/v1/chat/completions/", r#"{"model":"sim-model","messages":[],"vllm_xargs":{"KEY":"full"}}"#),
];

struct Frames(VecDeque<Frame<Bytes>>);

/// `body` in chunks of `size` bytes without an announced length; trailers at the end, or not.
fn frames(body: &str, size: usize, trailers: bool) -> reqwest::Body {
    let chunks = body.as_bytes().chunks(size).map(|chunk| Frame::data(Bytes::copy_from_slice(chunk)));
    let mut fields = HeaderMap::new();
    fields.insert("x-checksum", HeaderValue::from_static("none"));
    reqwest::Body::wrap(Frames(chunks.chain(trailers.then(|| Frame::trailers(fields))).collect()))
}

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// An armed chat of a little more than `bytes`, the key spelt with an escape, and what an engine may see of it.
fn armed(bytes: usize, arguments_first: bool) -> (String, String) {
    let mut body = chat(&prose(77, bytes), 4);
    body["vllm_xargs"] = json!({KEY: "full", "top_a": 1, "deeper": {KEY: 1}});
    body["metadata"] = json!({KEY: "full"});
    let text = body.to_string();
    let quoted = format!("\"{KEY}\":\"full\",\"top_a\"");
    assert_eq!(text.matches(&quoted).count(), 1, "{text}");
    let with = |key: &str| {
        let text = text.replace(&quoted, &format!("\"{key}\":\"full\",\"top_a\""));
        // A second object at either end: whichever an engine reads, the key is not in it.
        let object = format!("\"vllm_xargs\":{{\"{key}\":\"full\"}}");
        let inside = &text[1..text.len() - 1];
        if arguments_first { format!("{{{object},{inside}}}") } else { format!("{{{inside},{object}}}") }
    };
    (with("kv_cache\\u005freport_mode"), with(&"x".repeat(KEY.len() + 5)))
}

/// On every path but the chats' own: armed bodies are disarmed, bodies of unknown paths untouched.
async fn no_other_path_lets_the_key_through(stack: &Stack, version: Version) {
    let client = stack.client(version);
    let seen = async |path: &str, body: reqwest::Body| {
        let seen = answer(client.post(path, body)).await;
        assert_eq!(seen.status, 200, "{path} {seen:?}");
        seen.json()
    };
    for (path, body) in SEARCHED {
        let sent = body.replace("\"KEY\":", "\"kv_cache_report_mod\\u0065\":");
        let wanted = body.replace("\"KEY\":", &format!("\"{}\":", "x".repeat(KEY.len() + 5)));
        let whole = seen(path, sent.clone().into()).await;
        assert_eq!((&whole["path"], &whole["body"]), (&json!(path), &json!(wanted)), "{version:?}");
        assert_eq!(whole["headers"]["content-length"], sent.len().to_string(), "{version:?} {path}");
        let chunked = seen(path, frames(&sent, 7, version == Version::Http2)).await;
        assert_eq!(chunked["body"], wanted, "{version:?} {path} in chunks");
    }
    let (_, body) = SEARCHED[2];
    let armed = body.replace("KEY", KEY);
    assert_eq!(seen("/v1/elsewhere", armed.clone().into()).await["body"], armed);
    let refused = answer(client.post("/inference/v1/generate", format!("\u{feff}{armed}"))).await;
    assert_eq!(refused.status, 400, "{refused:?}");
}

async fn no_engine_sees_the_key(mode: Mode) {
    let echoes = [echo::start().await, echo::start().await];
    let builder = Stack::new().engines(0).endpoint(&echoes[0]).endpoint(&echoes[1]).mode(mode).workers(1);
    let Some(stack) = builder.start().await else { return };
    let seen = async |client: &Client, body: reqwest::Body| {
        let seen = answer(client.post(CHAT, body)).await;
        assert_eq!(seen.status, 200, "{seen:?}");
        seen.json()
    };
    for version in [Version::Http1, Version::Http2] {
        let client = stack.client(version);
        for bytes in [10, 70_000, 3_000_000] {
            for arguments_first in [true, false] {
                let case = format!("{version:?} {bytes} {arguments_first}");
                let (sent, wanted) = armed(bytes, arguments_first);
                let whole = seen(&client, sent.clone().into()).await;
                assert!(whole["body"] == wanted.as_str(), "{case}");
                assert_eq!(whole["headers"]["content-length"], sent.len().to_string(), "{case}");
                let chunked = seen(&client, frames(&sent, 1 + bytes / 5, false)).await;
                assert!(chunked["body"] == wanted.as_str(), "{case} in chunks");
                if version == Version::Http2 {
                    let trailed = seen(&client, frames(&sent, 1 + bytes / 5, true)).await;
                    assert!(trailed["body"] == wanted.as_str(), "{case} with trailers");
                }
            }
        }
        no_other_path_lets_the_key_through(&stack, version).await;
        let harmless = chat("hello", 4).to_string();
        assert_eq!(seen(&client, harmless.clone().into()).await["body"], harmless);
    }
    let log = stack.gateway().log();
    assert!(!log.contains("an effect failed") && !log.contains("a body stays"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_engine_sees_the_key_in_hold_mode() {
    no_engine_sees_the_key(Mode::Hold).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_engine_sees_the_key_in_state_mode() {
    no_engine_sees_the_key(Mode::State).await;
}
