//! Request bodies as a chat client sends them: one shared system prompt, then a conversation of its own for each prompt,
//! cut to an exact number of bytes. Deterministic; plain ASCII words with the escapes that JSON text really has.

use crate::draw::Draw;
use crate::http1::{STREAM_EVENTS, STREAM_PAUSE, StreamWish};

/// Turns of a conversation are about this long.
const TURN_BYTES: usize = 2_000;
/// The path of every measured request.
const PATH: &str = "/v1/chat/completions";
/// The model of every request.
pub(crate) const MODEL: &str = "bench-model";
const WORDS: [&str; 24] = [
    "the",
    "scheduler",
    "keeps",
    "a",
    "prefix",
    "of",
    "every",
    "prompt",
    "and",
    "asks",
    "whether",
    "any",
    "replica",
    "holds",
    "it",
    "before",
    "routing",
    "one",
    "more",
    "request",
    "\\n",
    "\\\"exactly\\\"",
    "caf\\u00e9",
    "again",
];

/// Ready-made requests, all of the same size and all different.
#[derive(Debug)]
pub(crate) struct Prompts {
    requests: Vec<Vec<u8>>,
}

impl Prompts {
    /// `count` whole-body requests of `body_bytes` each; a quarter of each body is the system prompt that all share.
    pub(crate) fn whole(count: usize, body_bytes: usize) -> Prompts {
        Prompts::new(count, body_bytes, None)
    }

    /// The same, asking for a streamed response.
    pub(crate) fn streamed(count: usize, body_bytes: usize, wish: StreamWish) -> Prompts {
        Prompts::new(count, body_bytes, Some(wish))
    }

    fn new(count: usize, body_bytes: usize, wish: Option<StreamWish>) -> Prompts {
        let seeds = (1..).take(count);
        Prompts { requests: seeds.map(|seed| request(&body(seed, body_bytes, wish.is_some()), wish)).collect() }
    }

    /// The bytes of request `number`; they repeat after the last one.
    pub(crate) fn request(&self, number: usize) -> &[u8] {
        self.requests.get(number % self.requests.len().max(1)).map(Vec::as_slice).unwrap_or_default()
    }
}

/// A request to complete `prompt`, which must need no escapes, with its decision explained.
pub(crate) fn completion(prompt: &str) -> Vec<u8> {
    let body = format!(r#"{{"model":"{MODEL}","max_tokens":1,"prompt":"{prompt}"}}"#);
    let length = body.len();
    format!(
        "POST /v1/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nx-kvasir-explain: 1\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn request(body: &str, wish: Option<StreamWish>) -> Vec<u8> {
    let wishes = wish.map_or_else(String::new, |StreamWish { events, pause }| {
        format!("{STREAM_EVENTS}: {events}\r\n{STREAM_PAUSE}: {}\r\n", pause.as_micros())
    });
    let length = body.len();
    format!(
        "POST {PATH} HTTP/1.1\r\nhost: bench\r\nuser-agent: kvasir-bench\r\naccept: */*\r\n\
         content-type: application/json\r\nauthorization: Bearer none\r\n{wishes}content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A chat completions body of exactly `bytes`, or of its fixed parts alone if those are longer.
fn body(seed: u64, bytes: usize, stream: bool) -> String {
    let tail = if stream {
        r#"],"temperature":0.7,"max_tokens":256,"stream":true,"stream_options":{"include_usage":true}}"#
    } else {
        r#"],"temperature":0.7,"max_tokens":16,"stream":false}"#
    };
    let mut out = format!(r#"{{"model":"{MODEL}","messages":["#);
    push_message(&mut out, "system", &prose(0, bytes / 4));
    for turn in 0.. {
        let frame = r#",{"role":"user","content":""}"#.len();
        let room = bytes.saturating_sub(out.len() + tail.len() + frame);
        let last = room < 2 * TURN_BYTES;
        let role = if last || turn % 2 == 0 { "user" } else { "assistant" };
        out.push(',');
        push_message(
            &mut out,
            role,
            &prose(seed.wrapping_mul(1_000_003).wrapping_add(turn), if last { room } else { TURN_BYTES }),
        );
        if last {
            break;
        }
    }
    out.push_str(tail);
    out
}

fn push_message(out: &mut String, role: &str, content: &str) {
    out.push_str(&format!(r#"{{"role":"{role}","content":"{content}"}}"#));
}

/// Exactly `bytes` of words, valid inside a JSON string.
fn prose(seed: u64, bytes: usize) -> String {
    let mut draw = Draw::new(seed);
    let mut out = String::with_capacity(bytes);
    loop {
        let word = WORDS.get(draw.below(WORDS.len())).copied().unwrap_or_default();
        if out.len() + word.len() + 1 > bytes {
            break;
        }
        out.push_str(word);
        out.push(' ');
    }
    out.extend(std::iter::repeat_n('.', bytes - out.len()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Reader;
    use std::time::Duration;

    fn json_of(request: &[u8]) -> serde_json::Value {
        let mut reader = Reader::keeping_body();
        assert!(reader.feed(request).expect("well-formed").is_some());
        serde_json::from_slice(&reader.into_body()).expect("valid JSON")
    }

    #[test]
    fn bodies_are_valid_json_of_the_exact_size() {
        for bytes in [1_000, 4_096, 32_768, 409_600] {
            for stream in [false, true] {
                let body = body(7, bytes, stream);
                assert_eq!(body.len(), bytes, "stream: {stream}");
                let parsed: serde_json::Value = serde_json::from_str(&body).expect("valid JSON");
                assert_eq!(parsed["stream"], stream);
                assert_eq!(parsed["model"], MODEL);
                let messages = parsed["messages"].as_array().expect("messages");
                assert_eq!(messages.last().expect("a message")["role"], "user");
            }
        }
    }

    #[test]
    fn prompts_share_the_system_message_and_differ_after_it() {
        let prompts = Prompts::whole(64, 4_096);
        let (first, second) = (json_of(prompts.request(0)), json_of(prompts.request(1)));
        assert_eq!(first["messages"][0], second["messages"][0]);
        let distinct: std::collections::BTreeSet<_> = (0..64).map(|number| prompts.request(number).to_vec()).collect();
        assert_eq!(distinct.len(), 64);
        assert_eq!(prompts.request(64), prompts.request(0));
    }

    #[test]
    fn a_streamed_prompt_tells_the_backend_what_to_stream() {
        let wish = StreamWish { events: 200, pause: Duration::from_millis(2) };
        let prompts = Prompts::streamed(1, 4_096, wish);
        let message = Reader::counting().feed(prompts.request(0)).expect("well-formed").expect("complete");
        assert_eq!(message.stream, Some(wish));
    }
}
