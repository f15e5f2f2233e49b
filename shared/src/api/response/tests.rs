//! Streams and bodies of each API, whole and in pieces.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::grpc::written::framed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    events: u64,
    usage: Option<Usage>,
}

fn watch<'c>(streaming: bool, chunks: impl IntoIterator<Item = &'c [u8]>) -> Seen {
    watch_form(if streaming { ResponseForm::Events } else { ResponseForm::Document }, chunks)
}

fn watch_form<'c>(form: ResponseForm, chunks: impl IntoIterator<Item = &'c [u8]>) -> Seen {
    let mut scanner = ResponseScanner::new(ResponseForm::Events);
    scanner.push(b"data: x");
    scanner.restart(ResponseForm::Messages);
    scanner.push(b"\0\0\0\0\x09\x0A");
    scanner.restart(form);
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
    let mut scanner = ResponseScanner::new(ResponseForm::Events);
    scanner.push(b"data: {\"x\":\"");
    for _ in 0..1000 {
        assert_eq!(scanner.push(&[b'y'; 10_000]).events, 0);
    }
    assert!(scanner.events.held_bytes() <= 2 * (64 << 10));
    scanner.push(b"\",\"usage\":{\"prompt_tokens\":6}}\n");
    assert_eq!(scanner.push(b"\n").events, 1);
    assert_eq!(scanner.usage().and_then(|usage| usage.prompt_tokens), Some(6));
    for endless in [&b"nonsense"[..], b"event: nonsense", b": nonsense"] {
        scanner.restart(ResponseForm::Events);
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

/// vLLM's token-in token-out stream: several ids in a chunk are one event, and the usage has its own chunk.
const VLLM_GENERATE: &str = concat!(
    "data: {\"request_id\":\"r\",\"choices\":[{\"index\":0,\"logprobs\":null,\"finish_reason\":null,\"token_ids\":[5]}],\"usage\":null}\n\n",
    "data: {\"request_id\":\"r\",\"choices\":[{\"index\":0,\"logprobs\":null,\"finish_reason\":\"length\",\"token_ids\":[6,7]}],\"usage\":null}\n\n",
    "data: {\"request_id\":\"r\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"total_tokens\":12,\"completion_tokens\":3,",
    "\"prompt_tokens_details\":{\"cached_tokens\":8}}}\n\n",
    "data: [DONE]\n\n",
);

/// SGLang repeats its counts in every chunk; those of the last stand.
const SGLANG: &str = concat!(
    "data: {\"text\":\" a\",\"output_ids\":[5],\"meta_info\":{\"id\":\"x\",\"finish_reason\":null,\"prompt_tokens\":9,",
    "\"weight_version\":\"default\",\"completion_tokens\":1,\"cached_tokens\":8}}\n\n",
    "data: {\"text\":\" a \\\"meta_info\\\":{\",\"output_ids\":[5,6],\"meta_info\":{\"id\":\"x\",",
    "\"finish_reason\":{\"type\":\"length\",\"length\":2},\"prompt_tokens\":9,\"completion_tokens\":2,\"cached_tokens\":8}}\n\n",
    "data: [DONE]\n\n",
);

#[test]
fn the_engines_own_streams_say_their_usage() {
    for (stream, wanted) in [
        (VLLM_GENERATE, Seen { events: 2, usage: usage(9, 3, 8) }),
        (SGLANG, Seen { events: 2, usage: usage(9, 2, 8) }),
    ] {
        assert_eq!(watch(true, [stream.as_bytes()]), wanted);
        assert_eq!(watch(true, stream.as_bytes().chunks(1)), wanted);
    }
    let whole = json!({"text": "a", "output_ids": [1], "meta_info": {"id": "x", "finish_reason": {"type": "stop"},
        "prompt_tokens": 4, "completion_tokens": 1, "cached_tokens": 0, "e2e_latency": 0.1}});
    assert_eq!(watch(false, [whole.to_string().as_bytes()]), Seen { events: 0, usage: usage(4, 1, 0) });
    let chat = json!({"choices": [{"meta_info": {"prompt_tokens": 4}}], "meta_info": null});
    assert_eq!(watch(false, [chat.to_string().as_bytes()]).usage, None);
}

#[test]
fn a_chunk_of_sglang_that_is_not_the_last_is_not_parsed() {
    let mut events = SGLANG.split_inclusive("\n\n").map(str::as_bytes);
    assert_eq!(watch(true, events.next()).usage, None);
    assert_eq!(watch(true, events.next()).usage, usage(9, 2, 8));
}

/// `fields` of one level: number and contents, a whole number or bytes.
fn message(fields: &[(u8, Result<u8, &[u8]>)]) -> Vec<u8> {
    fields.iter().fold(Vec::new(), |mut out, (number, contents)| {
        match contents {
            Ok(value) => out.extend([number << 3, *value]),
            Err(bytes) => {
                out.extend([number << 3 | 2, u8::try_from(bytes.len()).expect("short")]);
                out.extend_from_slice(bytes);
            }
        }
        out
    })
}

#[test]
fn grpc_chunks_are_events_and_the_whole_at_the_end_is_not() {
    let chunk = |ids: &[u8], output| {
        framed(&message(&[(1, Err(&message(&[(1, Err(ids)), (2, Ok(9)), (3, Ok(output)), (4, Ok(8))])))]))
    };
    let whole = message(&[(1, Err(&[5, 6, 7])), (2, Err(b"stop")), (3, Ok(9)), (4, Ok(3)), (5, Ok(8))]);
    let whole = framed(&message(&[(2, Err(&whole))]));
    let stream = [chunk(&[5], 1), chunk(&[6, 7], 3), whole.clone()].concat();
    for size in 1..=stream.len() {
        let seen = watch_form(ResponseForm::Messages, stream.chunks(size));
        assert_eq!(seen, Seen { events: 2, usage: usage(9, 3, 8) });
    }
    assert_eq!(watch_form(ResponseForm::Messages, [whole.as_slice()]), Seen { events: 0, usage: usage(9, 3, 8) });
    let vector = [0x0A, 4, 0, 0, 0x80, 0x3F, 0x10, 7, 0x18, 1];
    let told = watch_form(ResponseForm::Messages, [framed(&vector).as_slice()]).usage;
    assert_eq!(told.and_then(|usage| usage.prompt_tokens), Some(7));
}

#[test]
fn a_message_that_cannot_be_read_is_one_that_came() {
    let compressed = [1, 0, 0, 0, 2, 0xFF, 0xFF];
    assert_eq!(watch_form(ResponseForm::Messages, [&compressed[..]]), Seen { events: 1, usage: None });
    assert_eq!(watch_form(ResponseForm::Messages, [framed(&[0xFF]).as_slice()]), Seen { events: 1, usage: None });
    let mut scanner = ResponseScanner::new(ResponseForm::Messages);
    scanner.push(&[0, 0xFF, 0xFF, 0xFF, 0xFF]);
    (0..1000).for_each(|_| assert_eq!(scanner.push(&[b'y'; 10_000]).events, 0));
    assert!(scanner.messages.held_bytes() <= 2 << 20);
}

proptest! {
    #[test]
    fn no_bytes_are_too_much_for_a_message_stream(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0_u8..20], 0..200)) {
        watch_form(ResponseForm::Messages, bytes.chunks(7));
        watch_form(ResponseForm::Messages, [framed(&bytes).as_slice()]);
    }
}
