//! Bodies of the engines' own APIs, beside what routing makes of them.

use super::*;
use crate::api::Problem;

fn tokens(ids: &[u32]) -> Prompt {
    Prompt::Tokens(ids.to_vec())
}

fn owned(prompt: Prompt) -> Owned {
    Owned { model: None, stream: false, include_usage: false, max_output_tokens: None, cache_salt: None, prompt }
}

/// As vLLM's `GenerateRequest` is written by its own render endpoint.
#[test]
fn vllm_takes_token_ids_and_its_limit_with_the_sampling_parameters() {
    let body = r#"{"request_id":"chatcmpl-1","token_ids":[128000,9906,11],"token_offsets":null,"features":null,
        "sampling_params":{"temperature":0.7,"stop":["a"],"max_tokens":40,"extra_args":{"a":{"max_tokens":1}},
        "logit_bias":{"7":1.5}},"model":"m","stream":true,"stream_options":{"include_usage":true},
        "cache_salt":"s","priority":0,"kv_transfer_params":{"max_tokens":3}}"#;
    let wanted = Owned {
        model: Some("m".to_owned()),
        stream: true,
        include_usage: true,
        max_output_tokens: Some(40),
        cache_salt: Some("s".to_owned()),
        prompt: tokens(&[128_000, 9906, 11]),
    };
    assert_eq!(scan(ApiKind::VllmGenerate, body), Ok(wanted));
    let bare = r#"{"token_ids":[1],"sampling_params":{}}"#;
    assert_eq!(scan(ApiKind::VllmGenerate, bare), Ok(owned(tokens(&[1]))));
}

#[test]
fn a_wrong_limit_is_named_by_its_place_and_the_last_one_counts() {
    let wrong = |kind, params: &str| {
        let body = format!("{{\"token_ids\":[1],\"input_ids\":[1],\"sampling_params\":{params}}}");
        scan(kind, body).map(|view| view.max_output_tokens).map_err(|error| (error.path, error.offset))
    };
    let place = Err(("sampling_params.max_tokens".to_owned(), 65));
    assert_eq!(wrong(ApiKind::VllmGenerate, r#"{"max_tokens":-1}"#), place);
    assert_eq!(wrong(ApiKind::VllmGenerate, r#"{"max_tokens":"1"}"#), place);
    let place = Err(("sampling_params.max_new_tokens".to_owned(), 69));
    assert_eq!(wrong(ApiKind::SglangGenerate, r#"{"max_new_tokens":[]}"#), place);
    assert_eq!(wrong(ApiKind::VllmGenerate, r#"{"max_tokens":-1,"max_tokens":2}"#), Ok(Some(2)));
    assert_eq!(wrong(ApiKind::VllmGenerate, r#"{"max_tokens":-1},"sampling_params":{}"#), Ok(None));
    assert_eq!(wrong(ApiKind::VllmGenerate, r#"{"max_tokens":5,"max_tokens":null}"#), Ok(None));
    assert_eq!(wrong(ApiKind::SglangGenerate, r#"[{"max_new_tokens":5},{"max_new_tokens":"x"}]"#), Ok(None));
}

#[test]
fn a_generate_body_without_token_ids_is_incomplete() {
    for body in [r#"{"sampling_params":{}}"#, r#"{"token_ids":null}"#] {
        let error = scan(ApiKind::VllmGenerate, body).expect_err("no ids");
        assert_eq!((error.path.as_str(), error.problem), ("token_ids", Problem::Missing));
    }
}

/// Placeholders are the same ids whatever they stand for: what they stand for comes first.
#[test]
fn ids_with_media_are_a_text_that_begins_with_them() {
    let with = |media: &str| {
        let body = format!(r#"{{"token_ids":[1,2],"features":{{"mm_hashes":{{"image":["{media}"]}}}}}}"#);
        canonical(ApiKind::VllmGenerate, body)
    };
    let text = with("a");
    assert!(text.starts_with(b"\xFFm") && text.ends_with(&[1, 0, 0, 0, 2, 0, 0, 0]), "{text:?}");
    assert_ne!(text, with("b"));
    let images = canonical(ApiKind::SglangGenerate, r#"{"text":"look","image_data":["a"]}"#);
    assert_eq!(images, b"\xFFm\xF8\xFAa\xF7look");
}

#[test]
fn sglang_takes_a_text_or_ids_and_names_only_an_adapter() {
    let body = r#"{"text":"hello","input_ids":null,"sampling_params":{"max_new_tokens":16,"temperature":0},
        "stream":true,"lora_path":"tuned","extra_key":"k","return_logprob":false}"#;
    let wanted = Owned {
        model: Some("tuned".to_owned()),
        stream: true,
        max_output_tokens: Some(16),
        cache_salt: Some("k".to_owned()),
        ..owned(Prompt::Text(b"hello".to_vec()))
    };
    assert_eq!(scan(ApiKind::SglangGenerate, body), Ok(wanted));
    let ids = owned(tokens(&[5, 6, 7]));
    for body in [
        r#"{"input_ids":[5,6,7],"text":null}"#,
        r#"{"text":null,"input_ids":[5,6,7],"lora_path":null,"model":"other","extra_key":null}"#,
        r#"{"input_ids":[[5,6],[7]],"lora_path":["a",null],"extra_key":["a","b"],"sampling_params":[{}]}"#,
    ] {
        assert_eq!(scan(ApiKind::SglangGenerate, body), Ok(ids.clone()), "{body}");
    }
    let several = canonical(ApiKind::SglangGenerate, r#"{"text":["a","b"]}"#);
    assert_eq!(several, b"a\xFEb");
}

/// Triton, TGI and vLLM's demo server have other bodies at `/generate`.
#[test]
fn what_is_not_sglangs_has_no_prompt_and_is_no_error() {
    for body in [r#"{"inputs":"x","parameters":{"max_new_tokens":"x"}}"#, r#"{"prompt":"x","max_tokens":"x"}"#, "{}"] {
        assert_eq!(scan(ApiKind::SglangGenerate, body), Ok(owned(Prompt::Text(Vec::new()))), "{body}");
    }
}

#[test]
fn images_are_made_of_a_prompt() {
    let body = r#"{"prompt":"a cat","n":2,"size":"512x512","max_tokens":"x"}"#;
    assert_eq!(scan(ApiKind::Images, body), Ok(owned(Prompt::Text(b"a cat".to_vec()))));
    assert_eq!(scan(ApiKind::Images, "{}").expect_err("no prompt").path, "prompt");
}

#[test]
fn raw_predictions_read_as_the_api_whose_body_they_carry() {
    let anthropic = r#"{"anthropic_version":"vertex-2023-10-16","max_tokens":9,"stream":true,"system":"be",
        "messages":[{"role":"user","content":[{"type":"text","text":"hi","cache_control":{}}]}]}"#;
    let view = scan(ApiKind::RawPredict, anthropic).expect("a good body");
    assert_eq!((view.model, view.stream, view.max_output_tokens), (None, true, Some(9)));
    assert_eq!(view.prompt, Prompt::Text(b"\xFEsystem\xFDbe\xFEuser\xFDhi".to_vec()));
    let openai = r#"{"model":"m","max_completion_tokens":7,"messages":[{"role":"user","content":"hi"}]}"#;
    let view = scan(ApiKind::RawPredict, openai).expect("a good body");
    assert_eq!((view.model.as_deref(), view.max_output_tokens), (Some("m"), Some(7)));
    assert_eq!(canonical(ApiKind::RawPredict, openai), canonical(ApiKind::ChatCompletions, openai));
    assert_eq!(canonical(ApiKind::RawPredict, r#"{"instances":[{"a":1}]}"#), b"");
}

#[test]
fn the_forbidden_key_is_found_where_each_engine_reads_it() {
    let found = |kind, body: &str| {
        let mut scanner = BodyScanner::new(kind);
        scanner.push(body.as_bytes()).expect("JSON");
        scanner.finish().expect("a good body").forbidden_keys.len()
    };
    let key = r#"{"kv_cache_report_mode":"full"}"#;
    let vllm =
        format!(r#"{{"token_ids":[1],"sampling_params":{{"extra_args":{key},"max_tokens":1}},"vllm_xargs":{key}}}"#);
    assert_eq!(found(ApiKind::VllmGenerate, &vllm), 2);
    // vLLM's demo server makes sampling parameters of the body.
    assert_eq!(found(ApiKind::SglangGenerate, &format!(r#"{{"prompt":"x","extra_args":{key}}}"#)), 1);
    assert_eq!(found(ApiKind::RawPredict, &format!(r#"{{"messages":[],"vllm_xargs":{key}}}"#)), 1);
    assert_eq!(found(ApiKind::VllmGenerate, &format!(r#"{{"token_ids":[1],"kv_transfer_params":{key}}}"#)), 0);
}
