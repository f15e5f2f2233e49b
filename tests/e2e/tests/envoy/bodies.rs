//! Bodies of every size and shape pass whole, or are refused by the one limit.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use e2e::client::{Version, answer};
use e2e::prompts::{chat, prose, streamed};
use e2e::shared_stack::Shared;
use e2e::stack::Stack;
use hyper::body::Frame;
use hyper::header::{HeaderMap, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CHAT: &str = "/v1/chat/completions";
/// The default limit of a pool.
const LIMIT: usize = 32 << 20;

/// A valid chat of exactly `bytes` that costs the engine nothing: white space does the filling.
fn padded(bytes: usize) -> String {
    let body = chat("hello", 4).to_string();
    let padding = " ".repeat(bytes - body.len());
    format!("{padding}{body}")
}

/// Frames one by one; trailers at the end.
pub(crate) struct Frames(pub(crate) Vec<Frame<Bytes>>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(if self.0.is_empty() { None } else { Some(Ok(self.0.remove(0))) })
    }
}

/// Sends `head`, then `chunk` again and again until there is an answer; returns as much of it as comes.
async fn send_until_answered(address: &str, head: &str, chunk: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let chunk = chunk.to_vec();
    // The writing half stays open when there is nothing to write: a half-closed connection gets no answer.
    let writing = tokio::spawn(async move {
        while !chunk.is_empty() && write.write_all(&chunk).await.is_ok() {}
        std::future::pending::<()>().await;
    });
    let mut text = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            text.extend_from_slice(&buffer[..count]);
            if String::from_utf8_lossy(&text).contains("\r\n\r\n{") && text.ends_with(b"}") {
                return;
            }
        }
    };
    tokio::time::timeout(e2e::wait::SOON, reading).await.expect("an answer");
    writing.abort();
    String::from_utf8_lossy(&text).into_owned()
}

in_all_modes! {
    async fn a_body_of_30_mb_passes(mode) {
        let Some(stack) = Shared::of(mode).share().await else { return };
        for version in [Version::Http1, Version::Http2] {
            let passed = answer(stack.client(version).post(CHAT, padded(30_000_000))).await;
            assert_eq!(passed.status, 200, "{passed:?}");
            assert!(!passed.engine().is_empty());
        }
    }

    async fn a_body_above_the_limit_is_413_and_the_limit_is_named(mode) {
        let Some(stack) = Shared::of(mode).share().await else { return };
        let head = format!("POST {CHAT} HTTP/1.1\r\nhost: e2e\r\ncontent-type: application/json\r\n");
        let chunk = format!("{:x}\r\n{}\r\n", 65536, " ".repeat(65536));
        let cases = [
            ("announced", format!("{head}content-length: {}\r\n\r\n", LIMIT + 1), ""),
            ("chunked", format!("{head}transfer-encoding: chunked\r\n\r\n"), chunk.as_str()),
        ];
        for (case, head, chunk) in cases {
            let text = send_until_answered(&stack.gateway().address, &head, chunk.as_bytes()).await;
            assert!(text.starts_with("HTTP/1.1 413 "), "{case}: {text}");
            assert!(text.contains(&format!("limit of {LIMIT} bytes")), "{case}: {text}");
        }
        assert_eq!(stack.client(Version::Http1).ask("still there?").await.status, 200);
    }

    async fn a_client_that_waits_for_100_continue_gets_it(mode) {
        let Some(stack) = Shared::of(mode).share().await else { return };
        let body = chat("hello", 4).to_string();
        let mut stream = TcpStream::connect(&stack.gateway().address).await.unwrap();
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: e2e\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        let reading = stream.read_exact(&mut interim);
        tokio::time::timeout(e2e::wait::SOON, reading).await.expect("100 before the body").unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut rest = String::new();
        tokio::time::timeout(e2e::wait::SOON, stream.read_to_string(&mut rest)).await.expect("an answer").unwrap();
        assert!(rest.starts_with("HTTP/1.1 200 "), "{rest}");
    }

    async fn a_body_that_comes_byte_by_byte_is_read_like_any_other(mode) {
        let Some(stack) = Shared::of(mode).share().await else { return };
        let client = stack.client(Version::Http2);
        let prompt = prose(810, 900);
        let first = client.ask(&prompt).await;
        let body = chat(&prompt, 4).to_string().into_bytes();
        let frames = body.iter().map(|&byte| Frame::data(Bytes::copy_from_slice(&[byte]))).collect();
        let again = answer(client.post(CHAT, reqwest::Body::wrap(Frames(frames)))).await;
        assert_eq!(again.status, 200, "{again:?}");
        let home = again.candidate(first.engine()).unwrap();
        assert!(home["matched_tokens"].as_f64() > Some(180.0), "the same prefix was read: {}", again.decision());
    }
}

in_both_modes! {
    async fn trailers_end_a_body_as_well_as_anything(mode) {
        let Some(stack) = Shared::of(mode).share().await else { return };
        let body = chat(&prose(800, 3000), 4).to_string().into_bytes();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("none"));
        let mut frames: Vec<Frame<Bytes>> =
            body.chunks(700).map(|chunk| Frame::data(Bytes::copy_from_slice(chunk))).collect();
        frames.push(Frame::trailers(trailers));
        let request = stack.client(Version::Http2).post(CHAT, reqwest::Body::wrap(Frames(frames)));
        let passed = answer(request).await;
        assert_eq!(passed.status, 200, "{passed:?}");
        assert!(passed.usage()["prompt_tokens"].as_u64() > Some(600), "the whole prompt: {}", passed.usage());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_set_for_the_pool_is_the_limit() {
    let stack = Stack::new().engines(1).workers(1).pool("maxBody: 64KiB").start().await;
    let Some(stack) = stack else { return };
    let client = stack.client(Version::Http1);
    assert_eq!(answer(client.post(CHAT, padded(65536))).await.status, 200);
    let refused = answer(client.post(CHAT, padded(65537))).await;
    assert_eq!(refused.status, 413);
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("limit of 65536 bytes"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_may_be_spoken_to_in_http2() {
    let Some(stack) = Stack::new().engines(2).workers(1).gateway("upstream: http2").start().await else { return };
    for version in [Version::Http1, Version::Http2] {
        let client = stack.client(version);
        assert_eq!(answer(client.post(CHAT, padded(3_000_000))).await.status, 200);
        let streamed = client.send_chat(&streamed("hello", 8)).await;
        assert_eq!((streamed.status, &streamed.usage()["completion_tokens"]), (200, &serde_json::json!(8)));
    }
}
