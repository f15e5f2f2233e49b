//! Laws of the canonical text: independent of spelling and of chunks, and a prefix of what continues it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn chat(messages: &[Value]) -> Vec<u8> {
    json!({"model": "m", "messages": messages}).to_string().into_bytes()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-z\\\\\"\n]{0,40}", Just("漢字 é 😀".repeat(5))]
}

fn message() -> impl Strategy<Value = Value> {
    let part = prop_oneof![
        text().prop_map(|text| json!({"type": "text", "text": text})),
        text().prop_map(|url| json!({"type": "image_url", "image_url": {"url": url}})),
        text().prop_map(Value::from),
    ];
    let content = prop_oneof![
        text().prop_map(Value::from),
        proptest::collection::vec(part, 0..4).prop_map(Value::from),
        Just(Value::Null),
    ];
    ("[a-z]{1,9}", content, proptest::option::of(text())).prop_map(|(role, content, id)| {
        json!({"role": role, "content": content, "tool_call_id": id,
            "tool_calls": [{"id": id, "function": {"name": "f", "arguments": "{}"}, "n": [1.5, true, null]}]})
    })
}

/// The same document with every character escaped, odd whitespace and the members of each object turned round.
fn respelt(value: &Value, out: &mut String, turn: bool) {
    match value {
        Value::String(text) => {
            out.push('"');
            for unit in text.encode_utf16() {
                out.push_str(&format!("\\u{unit:04X}"));
            }
            out.push('"');
        }
        Value::Array(items) => {
            out.push_str("[\n");
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "\t,\r\n" } else { "" });
                respelt(item, out, turn);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            if turn {
                members.reverse();
            }
            out.push('{');
            for (at, (key, item)) in members.into_iter().enumerate() {
                out.push_str(if at > 0 { " , " } else { "" });
                respelt(&Value::String(key.clone()), out, turn);
                out.push_str(" :  ");
                // The order of members below the message is part of the prompt.
                respelt(item, out, turn && !matches!(key.as_str(), "tool_calls" | "tools" | "image_url"));
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

proptest! {
    #[test]
    fn more_messages_extend_the_canonical_text(messages in proptest::collection::vec(message(), 1..6)) {
        for kind in [ApiKind::ChatCompletions, ApiKind::Messages] {
            let whole = canonical(kind, chat(&messages));
            let mut last = Vec::new();
            for count in 0..=messages.len() {
                let shorter = canonical(kind, chat(&messages[..count]));
                prop_assert!(whole.starts_with(&shorter));
                prop_assert!(count == 0 || shorter.len() > last.len());
                last = shorter;
            }
        }
    }

    #[test]
    fn more_text_at_the_end_extends_the_canonical_text(before in proptest::collection::vec(message(), 0..3), a in text(), b in text()) {
        let ending = |text: &str| chat(&[before.clone(), vec![json!({"role": "user", "content": text})]].concat());
        let (short, long) = (ending(&a), ending(&format!("{a}{b}")));
        prop_assert!(canonical(ApiKind::ChatCompletions, long).starts_with(&canonical(ApiKind::ChatCompletions, short)));
    }

    #[test]
    fn spelling_and_order_of_members_do_not_matter(
        messages in proptest::collection::vec(message(), 0..4), tool in text(), salt in text(),
    ) {
        let body = json!({"model": "m", "messages": messages, "tools": [{"function": {"name": tool, "a": 1}}],
            "cache_salt": salt, "temperature": 0.5, "stop": [tool]});
        for turn in [false, true] {
            let mut again = String::new();
            respelt(&body, &mut again, turn);
            prop_assert_eq!(
                scan(ApiKind::ChatCompletions, body.to_string()), scan(ApiKind::ChatCompletions, again));
        }
    }

    #[test]
    fn different_conversations_have_different_texts(
        a in proptest::collection::vec(message(), 0..3), b in proptest::collection::vec(message(), 0..3),
    ) {
        // A string and one text part are the same content; null and [] are none.
        let norm = |messages: &[Value]| messages.iter().map(|message| {
            let mut message = message.clone();
            let parts = match &message["content"] {
                Value::String(text) => vec![json!({"type": "text", "text": text})],
                Value::Array(parts) => parts.iter().map(|part| match part {
                    Value::String(text) => json!({"type": "text", "text": text}),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => part.clone(),
                }).collect(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
            };
            message["content"] = Value::from(parts);
            message
        }).collect::<Vec<_>>();
        let same = canonical(ApiKind::ChatCompletions, chat(&a)) == canonical(ApiKind::ChatCompletions, chat(&b));
        prop_assert_eq!(same, norm(&a) == norm(&b));
    }

    #[test]
    fn chunks_do_not_matter(messages in proptest::collection::vec(message(), 0..3), cuts in proptest::collection::vec(0_usize..400, 0..6)) {
        let body = chat(&messages);
        let wanted = scan(ApiKind::ChatCompletions, &body);
        let mut scanner = BodyScanner::new(ApiKind::Completions);
        for at in 0..=body.len() {
            scanner.restart(ApiKind::ChatCompletions);
            let (a, b) = body.split_at(at);
            prop_assert_eq!(&scan_chunks(&mut scanner, [a, b]), &wanted);
        }
        scanner.restart(ApiKind::ChatCompletions);
        prop_assert_eq!(&scan_chunks(&mut scanner, body.chunks(1)), &wanted);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(body.len())).chain([0, body.len()]).collect();
        cuts.sort_unstable();
        scanner.restart(ApiKind::ChatCompletions);
        prop_assert_eq!(&scan_chunks(&mut scanner, cuts.windows(2).map(|cut| &body[cut[0]..cut[1]])), &wanted);
    }
}

#[test]
fn sections_stand_in_canonical_order_whatever_the_body_says() {
    let body = r#"{"messages":[{"content":[{"text":"hi","cache_control":{},"type":"text"},
        {"source":{"data":"AA"},"type":"image"}],"role":"user"},
        {"role":"assistant","content":null,"name":"n","alt":[],"id":null}],
        "tools":[{"name":"f","cache_control":{"type":"ephemeral"}}],"temperature":1,"model":"m","system":"be"}"#;
    let wanted: &[&[u8]] = &[
        b"\xFFt\xF8\xF6\xFBname\xFAf\xF5\xF7",
        b"\xFEsystem\xFDbe",
        b"\xFEuser\xFDhi\xFCimage\xFBsource\xF6\xFBdata\xFAAA\xF5",
        b"\xFEassistant\xFBname\xFAn",
    ];
    assert_eq!(canonical(ApiKind::Messages, body), wanted.concat());
}

#[test]
fn the_same_prompt_through_any_api_has_the_same_text() {
    let chat = r#"{"model":"m","messages":[{"role":"system","content":"be"},{"role":"user","content":"hi"}]}"#;
    let wanted = canonical(ApiKind::ChatCompletions, chat);
    let anthropic =
        r#"{"model":"m","system":[{"type":"text","text":"be"}],"messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(canonical(ApiKind::Messages, anthropic), wanted);
    let responses = r#"{"model":"m","input":"hi","instructions":"be"}"#;
    assert_eq!(canonical(ApiKind::Responses, responses), wanted);
    let items = r#"{"model":"m","instructions":"be","input":[{"type":"message","id":"x","status":"completed",
        "role":"user","content":[{"type":"input_text","text":"hi"}]}]}"#;
    assert_eq!(canonical(ApiKind::Responses, items), wanted);
}

#[test]
fn a_billing_line_in_the_system_prompt_is_not_part_of_it() {
    let with = |first: &str| {
        let system = json!([{"type": "text", "text": first}, {"type": "text", "text": "be"}]);
        canonical(ApiKind::Messages, json!({"model": "m", "system": system, "messages": []}).to_string())
    };
    assert_eq!(with("x-anthropic-billing-header: cc=1"), b"\xFEsystem\xFDbe");
    assert_eq!(with("x-anthropic-billing-header: cc=1\nkind"), b"\xFEsystem\xFDkind\xFDbe");
}

#[test]
fn a_scanner_that_failed_starts_afresh() {
    let mut scanner = BodyScanner::new(ApiKind::ChatCompletions);
    let good = chat(&[json!({"role": "user", "content": "hi"})]);
    for bad in [&b"{\"messages\":[{\"content\":[{\"text\":\"x"[..], b"{\"model\":7,\"stream\":true}", b"\xFF"] {
        assert!(scan_chunks(&mut scanner, [bad]).is_err());
        scanner.restart(ApiKind::ChatCompletions);
        assert_eq!(scan_chunks(&mut scanner, [good.as_slice()]), scan(ApiKind::ChatCompletions, &good));
        scanner.restart(ApiKind::ChatCompletions);
    }
}
