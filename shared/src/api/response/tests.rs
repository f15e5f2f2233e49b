//! Streams and bodies of each API, whole and in pieces.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    events: u64,
    usage: Option<Usage>,
}

fn watch<'c>(streaming: bool, chunks: impl IntoIterator<Item = &'c [u8]>) -> Seen {
    let mut scanner = ResponseScanner::new(!streaming);
    scanner.push(b"data: x");
    scanner.restart(streaming);
    let mut events = 0;
    for chunk in chunks {
        events += u64::from(scanner.push(chunk).events);
    }
    events += u64::from(scanner.finish().events);
    assert_eq!(events, scanner.events_total());
    Seen { events, usage: scanner.usage() }
}

fn usage(prompt: u32, output: u32, cached: impl Into<Option<u32>>) -> Option<Usage> {
    Some(Usage { prompt_tokens: Some(prompt), output_tokens: Some(output), cached_tokens: cached.into() })
}

const CHAT: &str = concat!(
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}],\"usage\":null}\n\n",
    ": keep-alive\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":{\\\"prompt_tokens\\\":9} é\"}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"x\":{\"usage\":{\"prompt_tokens\":8}}}}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"total_tokens\":12,\"completion_tokens\":5,",
    "\"prompt_tokens_details\":{\"cached_tokens\":4,\"usage\":{\"prompt_tokens\":1}}}}\n\n",
    "data: [DONE]\n\n",
);

const ANTHROPIC: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":20,",
    "\"cache_read_input_tokens\":16,\"output_tokens\":1}}}\n\n",
    "event: content_block_start\ndata: {\"usage\":{\"input_tokens\":99}}\n\n",
    "event: content_block_delta\ndata: {\"delta\":{\"text\":\"a\"}}\n\n",
    "event: ping\ndata: {}\n\n",
    "event: content_block_delta\ndata: {\"delta\":{\"text\":\"b\"}}\n\n",
    "event: message_delta\ndata: {\"usage\":{\"output_tokens\":30}}\n\n",
    "event: message_stop\ndata: {}\n\n",
);

fn responses(padding: usize) -> String {
    let done = json!({"type": "response.completed", "response": {
        "output": "x".repeat(padding),
        "usage": {"input_tokens": 3, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 1}}}});
    format!(
        "event: response.created\ndata: {{}}\n\nevent: response.output_text.delta\ndata: {{\"delta\":\"a\"}}\n\n\
         event: response.completed\ndata: {done}\n\n"
    )
}

#[test]
fn each_api_streams_its_content_and_its_usage() {
    for (stream, wanted) in [
        (CHAT.to_owned(), Seen { events: 3, usage: usage(7, 5, 4) }),
        (ANTHROPIC.to_owned(), Seen { events: 2, usage: usage(20, 30, 16) }),
        (responses(10), Seen { events: 1, usage: usage(3, 2, 1) }),
        (responses(1_000_000), Seen { events: 1, usage: usage(3, 2, 1) }),
    ] {
        assert_eq!(watch(true, [stream.as_bytes()]), wanted);
        assert_eq!(watch(true, stream.as_bytes().chunks(1)), wanted);
    }
}

#[test]
fn line_ends_of_all_three_kinds_and_any_split_say_the_same() {
    for stream in [CHAT, ANTHROPIC] {
        let wanted = watch(true, [stream.as_bytes()]);
        for end in ["\n", "\r\n", "\r"] {
            let stream = format!("\u{FEFF}{}", stream.replace('\n', end));
            for at in 0..=stream.len() {
                let (a, b) = stream.as_bytes().split_at(at);
                assert_eq!(watch(true, [a, b]), wanted, "{end:?} split at {at}");
            }
        }
    }
}

#[test]
fn data_lines_of_one_event_are_one_document() {
    let stream = "data: {\"usage\":\ndata:{\"prompt_tokens\":1,\ndata: \"completion_tokens\":2}}\nid: 7\n\n";
    assert_eq!(watch(true, [stream.as_bytes()]), Seen { events: 1, usage: usage(1, 2, None) });
}

#[test]
fn a_stream_cut_before_its_last_blank_line_still_counts() {
    for cut in ["", "\n"] {
        let stream = format!("data: {{\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":2}}}}{cut}");
        assert_eq!(watch(true, [stream.as_bytes()]), Seen { events: 1, usage: usage(1, 2, None) });
    }
}

#[test]
fn a_line_without_end_holds_little_memory_and_its_usage_is_found() {
    let mut scanner = ResponseScanner::new(true);
    scanner.push(b"data: {\"x\":\"");
    for _ in 0..1000 {
        assert_eq!(scanner.push(&[b'y'; 10_000]).events, 0);
    }
    assert!(scanner.events.held_bytes() <= 2 * (64 << 10));
    scanner.push(b"\",\"usage\":{\"prompt_tokens\":6}}\n");
    assert_eq!(scanner.push(b"\n").events, 1);
    assert_eq!(scanner.usage().and_then(|usage| usage.prompt_tokens), Some(6));
    for endless in [&b"nonsense"[..], b"event: nonsense", b": nonsense"] {
        scanner.restart(true);
        scanner.push(endless);
        (0..1000).for_each(|_| assert_eq!(scanner.push(&[b'y'; 10_000]).events, 0));
        assert!(scanner.events.held_bytes() <= 2 * (64 << 10));
    }
}

#[test]
fn whole_bodies_report_their_own_usage_only() {
    for (body, wanted) in [
        (
            json!({"choices": [{"message": {"content": "\"usage\":{\"prompt_tokens\":9}", "usage": {"prompt_tokens": 9}}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}}}),
            usage(1, 2, 0),
        ),
        (
            json!({"usage": {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": null}}),
            usage(1, 2, None),
        ),
        (json!({"usage": {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 3}}), usage(1, 2, 3)),
        (json!({"usage": {"prompt_tokens": "1", "completion_tokens": -2}}), Some(Usage::default())),
        (json!({"usage": null}), None),
        (json!({"data": {"usage": {"prompt_tokens": 1}}}), None),
        (json!([{"usage": {"prompt_tokens": 1}}]), None),
        (json!("usage"), None),
    ] {
        let text = body.to_string();
        assert_eq!(watch(false, text.as_bytes().chunks(3)).usage, wanted, "{text}");
        let cut = &text.as_bytes()[..text.len() - 1];
        assert_eq!(watch(false, [cut]).usage, None, "cut short");
    }
    let twice = br#"{"usage":{"prompt_tokens":1,"completion_tokens":1},"usage":{"prompt_tokens":2}}"#;
    let last = Usage { prompt_tokens: Some(2), ..Usage::default() };
    assert_eq!(watch(false, [&twice[..]]).usage, Some(last));
}

/// An independent reading of a chat stream: lines, blank lines, a tree per event.
fn plainly(stream: &str) -> Seen {
    let mut seen = Seen { events: 0, usage: None };
    let lines = stream.replace("\r\n", "\n").replace('\r', "\n") + "\n\n";
    for event in lines.split("\n\n") {
        let data: Vec<_> = event
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .map(|value| value.strip_prefix(' ').unwrap_or(value))
            .collect();
        let data = data.join("\n");
        if data.trim().is_empty() || data.trim() == "[DONE]" {
            continue;
        }
        let tree: Value = serde_json::from_str(&data).unwrap_or_default();
        let count = |name: &str| tree["usage"][name].as_u64().map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        if tree["usage"].is_object() {
            let before = seen.usage.unwrap_or_default();
            let now =
                Usage { prompt_tokens: count("prompt_tokens"), output_tokens: count("completion_tokens"), ..before };
            seen.usage = Some(before.merged(now));
        }
        let closing = tree["usage"].is_object() && tree["choices"] == json!([]);
        seen.events += u64::from(!closing);
    }
    seen
}

proptest! {
    #[test]
    fn streams_read_as_a_plain_reader_reads_them(
        lines in proptest::collection::vec(prop_oneof![
            Just("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}".to_owned()),
            Just("data:{\"choices\":[1],\"usage\" : {\"prompt_tokens\":3}}".to_owned()),
            Just("data: {\"choices\":[{\"usage\":{}}]}".to_owned()),
            Just("data: [DONE]".to_owned()), Just(": comment".to_owned()), Just("id: 4".to_owned()),
            Just("data: {\"usage\":{\"prompt_tokens\":77}".to_owned()), Just("data: é\"usage\":{".to_owned()),
            Just("data: x".to_owned()), Just("database: x".to_owned()),
            Just(String::new()), Just(String::new()),
        ], 0..12),
        ends in proptest::collection::vec(prop::sample::select(vec!["\n", "\r\n", "\r"]), 12),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let stream: String = lines.iter().zip(&ends).flat_map(|(line, end)| [line.as_str(), end]).collect();
        // A lone \r before an empty line that ends in \n is one line end, here and in the plain reader.
        let wanted = plainly(&stream);
        prop_assert_eq!(watch(true, [stream.as_bytes()]), wanted);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([0, stream.len()]).collect();
        cuts.sort_unstable();
        prop_assert_eq!(watch(true, cuts.windows(2).map(|cut| &stream.as_bytes()[cut[0]..cut[1]])), wanted);
    }

    #[test]
    fn arbitrary_bytes_are_survived_and_split_alike(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"data:event {}\"\r\n\n".to_vec())], 0..200),
        at in any::<prop::sample::Index>(), streaming in any::<bool>(),
    ) {
        let (a, b) = bytes.split_at(at.index(bytes.len() + 1));
        prop_assert_eq!(watch(streaming, [a, b]), watch(streaming, [bytes.as_slice()]));
    }
}
