//! What the client reads when a body is refused, and what is not refused.

use super::*;

fn sentence(kind: ApiKind, body: impl AsRef<[u8]>) -> String {
    scan(kind, body.as_ref()).expect_err(&String::from_utf8_lossy(body.as_ref())).to_string()
}

#[test]
fn broken_json_is_told_with_its_byte() {
    let deep = "[".repeat(128);
    for (body, wanted) in [
        (&b""[..], "the body is empty, at byte 0"),
        (b" \n", "the body is empty, at byte 2"),
        (b"\xEF\xBB\xBF{}", "it starts with a byte order mark, at byte 0"),
        (b"{", "it ends too early, at byte 1"),
        (b"{\"model\":\"m", "it ends too early, at byte 11"),
        (b"nul", "it ends too early, at byte 3"),
        (b"hello", "expected a value, at byte 0"),
        (b"{model", "expected a quoted key, at byte 1"),
        (b"{\"a\":1,}", "expected a quoted key, at byte 7"),
        (b"{\"a\" 1}", "expected `:`, at byte 5"),
        (b"{\"a\":1 \"b\"", "expected `,` or `}`, at byte 7"),
        (b"[1 2]", "expected `,` or `]`, at byte 3"),
        (b"[1}", "expected `,` or `]`, at byte 2"),
        (b"[1,]", "expected a value, at byte 3"),
        (b"{} {}", "there is more behind the end of the document, at byte 3"),
        (b"{}\0", "there is more behind the end of the document, at byte 2"),
        (b"trux", "unknown literal, at byte 3"),
        (b"[01]", "malformed number, at byte 2"),
        (b"[1.]", "malformed number, at byte 3"),
        (b"[-]", "malformed number, at byte 2"),
        (b"[\"\\x\"]", "unknown escape sequence, at byte 3"),
        (b"[\"\\u12g4\"]", "unknown escape sequence, at byte 6"),
        (b"[\"a\\uD800b\"]", "half a surrogate pair, at byte 3"),
        (b"[\"a\\uDC00\"]", "half a surrogate pair, at byte 3"),
        (b"[\"a\\uD800\\u0041\"]", "half a surrogate pair, at byte 3"),
        (b"[\"a\nb\"]", "unescaped control byte in a string, at byte 3"),
        (b"[\"a\xC3\xA9\xFF\"]", "invalid UTF-8, at byte 5"),
        (b"[\"\xED\xA0\x80\"]", "invalid UTF-8, at byte 2"),
        (b"[\"\xC3\"]", "invalid UTF-8, at byte 2"),
        (deep.as_bytes(), "nested too deeply, at byte 127"),
    ] {
        let wanted = format!("the body is not valid JSON: {wanted}");
        assert_eq!(sentence(ApiKind::ChatCompletions, body), wanted);
        let mut scanner = BodyScanner::new(ApiKind::ChatCompletions);
        let bytewise = scan_chunks(&mut scanner, body.chunks(1)).expect_err("broken");
        assert_eq!(bytewise.to_string(), wanted, "byte by byte");
    }
}

#[test]
fn chat_bodies_are_told_what_is_wrong_and_where() {
    for (body, wanted) in [
        ("[]", "the body must be an object, got an array, at byte 0"),
        (" 1", "the body must be an object, got a number, at byte 1"),
        ("{}", "model is required, but missing from the object at byte 0"),
        (r#"{"model":null,"messages":[]}"#, "model is required, but missing from the object at byte 0"),
        (r#"{"model":"","messages":[]}"#, "model must not be empty, at byte 9"),
        (r#"{"model":5}"#, "model must be a string, got a number, at byte 9"),
        (r#"{"model":"m"}"#, "messages is required, but missing from the object at byte 0"),
        (r#"{"model":"m","messages":null}"#, "messages is required, but missing from the object at byte 0"),
        (r#"{"model":"m","messages":{}}"#, "messages must be an array of messages, got an object, at byte 24"),
        (r#"{"model":"m","messages":["x"]}"#, "messages[0] must be an object, got a string, at byte 25"),
        (
            r#"{"messages":[{"role":"user"},{}]}"#,
            "messages[1].role is required, but missing from the object at byte 29",
        ),
        (r#"{"messages":[{"role":1}]}"#, "messages[0].role must be a string, got a number, at byte 21"),
        (
            r#"{"messages":[{"content":true,"role":"user"}]}"#,
            "messages[0].content must be a string, an array of parts or null, got a boolean, at byte 24",
        ),
        (
            r#"{"messages":[{"role":"u","content":["a",7]}]}"#,
            "messages[0].content[1] must be an object, got a number, at byte 40",
        ),
        (
            r#"{"messages":[{"role":"u","content":[{"text":null,"type":"text"}]}]}"#,
            "messages[0].content[0].text must be a string, got null, at byte 44",
        ),
        (
            r#"{"messages":[{"role":"u","content":[{"type":"text"}]}]}"#,
            "messages[0].content[0].text is required, but missing from the object at byte 36",
        ),
        (r#"{"stream":"yes"}"#, "stream must be a boolean, got a string, at byte 10"),
        (r#"{"stream_options":true}"#, "stream_options must be an object, got a boolean, at byte 18"),
        (
            r#"{"stream_options":{"include_usage":1}}"#,
            "stream_options.include_usage must be a boolean, got a number, at byte 35",
        ),
        (r#"{"max_tokens":"7"}"#, "max_tokens must be a whole number, got a string, at byte 14"),
        (r#"{"max_tokens":-7}"#, "max_tokens must be a whole number that is not negative, at byte 14"),
        (r#"{"cache_salt":[]}"#, "cache_salt must be a string, got an array, at byte 14"),
    ] {
        assert_eq!(sentence(ApiKind::ChatCompletions, body), wanted);
    }
}

#[test]
fn the_other_apis_name_their_own_members() {
    for (kind, body, wanted) in [
        (ApiKind::Completions, r#"{"model":"m"}"#, "prompt is required, but missing from the object at byte 0"),
        (
            ApiKind::Completions,
            r#"{"prompt":{}}"#,
            "prompt must be a string or an array of strings or token ids, got an object, at byte 10",
        ),
        (
            ApiKind::Completions,
            r#"{"prompt":["a",1]}"#,
            "prompt[1] must be a string like the ones before it, got a number, at byte 15",
        ),
        (ApiKind::Completions, r#"{"prompt":[1,"a"]}"#, "prompt[1] must be a token id, got a string, at byte 13"),
        (
            ApiKind::Completions,
            r#"{"prompt":[4294967296]}"#,
            "prompt[0] must be a token id from 0 to 4294967295, at byte 11",
        ),
        (
            ApiKind::Completions,
            r#"{"prompt":[[1],[2,-3]]}"#,
            "prompt[1][1] must be a token id from 0 to 4294967295, at byte 18",
        ),
        (ApiKind::Embeddings, r#"{"model":"m"}"#, "input is required, but missing from the object at byte 0"),
        (ApiKind::Responses, r#"{"input":7}"#, "input must be a string or an array of items, got a number, at byte 9"),
        (ApiKind::Responses, r#"{"input":[{}]}"#, "input[0].role is required, but missing from the object at byte 10"),
        (
            ApiKind::Responses,
            r#"{"max_output_tokens":{}}"#,
            "max_output_tokens must be a whole number, got an object, at byte 21",
        ),
        (
            ApiKind::Messages,
            r#"{"system":1}"#,
            "system must be a string or an array of text parts, got a number, at byte 10",
        ),
        (
            ApiKind::Messages,
            r#"{"system":[{"type":"text","text":1}]}"#,
            "system[0].text must be a string, got a number, at byte 33",
        ),
    ] {
        assert_eq!(sentence(kind, body), wanted);
    }
}

#[test]
fn the_last_of_two_members_counts_errors_included() {
    let body = r#"{"model":1,"messages":[{}],"stream":7,"stream":true,"messages":[
        {"role":3,"role":"user","content":5,"content":[{"text":1,"text":"a","type":"x","type":"text"}]}],"model":"m"}"#;
    let view = scan(ApiKind::ChatCompletions, body).expect("good in the end");
    assert_eq!((view.model.as_deref(), view.stream), (Some("m"), true));
    assert_eq!(view.prompt, Prompt::Text(b"\xFEuser\xFDa".to_vec()));
    let spoilt = r#"{"model":"m","messages":[],"messages":3}"#;
    let error = scan(ApiKind::ChatCompletions, spoilt).expect_err("spoilt in the end");
    assert_eq!((error.offset, error.path.as_str()), (38, "messages"));
}

#[test]
fn limits_come_from_the_member_of_the_api() {
    let limit = |kind, body: &str| scan(kind, body).expect(body).max_output_tokens;
    let chat = r#"{"model":"m","messages":[],"max_completion_tokens":9,"max_tokens":5}"#;
    assert_eq!(limit(ApiKind::ChatCompletions, chat), Some(9));
    assert_eq!(limit(ApiKind::Messages, chat), Some(5));
    let null = r#"{"model":"m","messages":[],"max_tokens":5.0,"max_completion_tokens":null}"#;
    assert_eq!(limit(ApiKind::ChatCompletions, null), Some(5));
    let responses = r#"{"model":"m","input":"x","max_tokens":5,"max_output_tokens":99999999999999999999}"#;
    assert_eq!(limit(ApiKind::Responses, responses), Some(u32::MAX));
}

#[test]
fn prompts_come_in_four_shapes() {
    for (kind, key) in [(ApiKind::Completions, "prompt"), (ApiKind::Embeddings, "input")] {
        let prompt = |value: &str| scan(kind, format!(r#"{{"{key}":{value},"model":"m"}}"#)).expect(value).prompt;
        assert_eq!(prompt(r#""a\u00e9\n""#), Prompt::Text("aé\n".into()));
        assert_eq!(prompt(r#"["a","b",""]"#), Prompt::Text(b"a\xFEb\xFE".to_vec()));
        assert_eq!(prompt("[1, 4294967295,0]"), Prompt::Tokens(vec![1, u32::MAX, 0]));
        assert_eq!(prompt("[[1,2],[],[3]]"), Prompt::Tokens(vec![1, 2, 3]));
        assert_eq!(prompt("[]"), Prompt::Text(Vec::new()));
    }
}
