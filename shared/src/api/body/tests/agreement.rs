//! Against serde_json: what is JSON, and what the fields say.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::api::{Problem, Syntax};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(|number: f64| json!(number)),
        any::<String>().prop_map(Value::from),
        Just(Value::from("text")),
        (0_u32..9).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let key = prop_oneof![
            Just("role".to_owned()),
            Just("content".to_owned()),
            Just("type".to_owned()),
            Just("text".to_owned()),
            Just("include_usage".to_owned()),
            any::<String>(),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(key, inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn good_value(name: &'static str) -> BoxedStrategy<Value> {
    match name {
        "model" | "lora_path" | "cache_salt" | "extra_key" | "instructions" | "system" => {
            "[a-z]{0,3}".prop_map(Value::from).boxed()
        }
        "stream" => any::<bool>().prop_map(Value::from).boxed(),
        "stream_options" => any::<bool>().prop_map(|wanted| json!({"include_usage": wanted})).boxed(),
        "messages" => "[a-z]{0,3}".prop_map(|text| json!([{"role": "user", "content": text}])).boxed(),
        "sampling_params" => prop_oneof![
            (any::<u32>(), any::<u32>())
                .prop_map(|(vllm, sglang)| json!({"max_tokens": vllm, "max_new_tokens": sglang})),
            value().prop_map(|limit| json!({"max_tokens": limit, "max_new_tokens": limit, "n": 1})),
            value().prop_map(|params| json!([params])),
        ]
        .boxed(),
        "prompt" | "input" | "token_ids" | "text" | "input_ids" => prop_oneof![
            "[a-z]{0,3}".prop_map(Value::from),
            proptest::collection::vec(any::<u32>(), 0..4).prop_map(Value::from),
            proptest::collection::vec(proptest::collection::vec(any::<u32>(), 0..3), 0..3).prop_map(|ids| json!(ids)),
        ]
        .boxed(),
        _ => any::<u32>().prop_map(Value::from).boxed(),
    }
}

fn body() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 18] = [
        "model",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "cache_salt",
        "messages",
        "prompt",
        "input",
        "system",
        "tools",
        "token_ids",
        "text",
        "input_ids",
        "lora_path",
        "extra_key",
        "sampling_params",
    ];
    let members: Vec<_> = NAMES
        .into_iter()
        .map(|name| prop_oneof![12 => good_value(name).prop_map(Some), 1 => value().prop_map(Some), 2 => Just(None)])
        .collect();
    members.prop_map(|values| {
        let named = NAMES.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
        Value::Object(named.collect::<Map<_, _>>())
    })
}

/// The rules of the page, said once more over a tree.
struct Oracle<'a> {
    kind: ApiKind,
    body: &'a Value,
}

impl Oracle<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.body.get(name).filter(|value| !value.is_null())
    }

    fn typed(&self, name: &str, right: impl Fn(&Value) -> bool) -> bool {
        self.get(name).is_none_or(right)
    }

    fn part(part: &Value) -> bool {
        if part.is_string() {
            return true;
        }
        let Some(part) = part.as_object() else { return false };
        let text = |required: bool| part.get("text").map_or(!required, Value::is_string);
        match part.get("type") {
            Some(Value::String(kind)) => !matches!(kind.as_str(), "text" | "input_text" | "output_text") || text(true),
            Some(_) => false,
            None => text(false),
        }
    }

    fn content(content: &Value) -> bool {
        content.is_null() || content.is_string() || content.as_array().is_some_and(|parts| parts.iter().all(Self::part))
    }

    fn messages(&self, name: &str) -> bool {
        let responses = self.kind == ApiKind::Responses;
        let message = |message: &Value| {
            let typed = message.get("type").is_some_and(|kind| {
                !kind.is_null() && kind != "message" && kind.as_array().is_none_or(|kinds| !kinds.is_empty())
            });
            let role = message.get("role").map_or(responses && typed, Value::is_string);
            message.is_object() && role && message.get("content").is_none_or(Self::content)
        };
        self.typed(name, |value| {
            (responses && value.is_string()) || value.as_array().is_some_and(|messages| messages.iter().all(message))
        })
    }

    fn prompt(&self, name: &str) -> bool {
        let id = |value: &Value| value.as_u64().is_some_and(|id| u32::try_from(id).is_ok());
        let ids = |value: &Value| value.as_array().is_some_and(|ids| ids.iter().all(id));
        self.typed(name, |value| {
            value.is_string()
                || value.as_array().is_some_and(|items| {
                    items.iter().all(Value::is_string) || items.iter().all(id) || items.iter().all(ids)
                })
        })
    }

    fn good(&self) -> bool {
        let limit =
            |name| self.typed(name, |value| value.as_f64().is_some_and(|limit| limit >= 0.0 && limit.fract() == 0.0));
        let has = |name| self.get(name).is_some();
        let streamed = || {
            self.typed("stream_options", |options| {
                options.is_object()
                    && options.get("include_usage").is_none_or(|wanted| wanted.is_boolean() || wanted.is_null())
            })
        };
        let system = || {
            self.typed("system", |system| {
                !system.is_object() && !system.is_number() && !system.is_boolean() && Self::content(system)
            })
        };
        let sampled = |name: &str| {
            self.get("sampling_params").and_then(|params| params.get(name)).is_none_or(|limit| {
                limit.is_null() || limit.as_f64().is_some_and(|limit| limit >= 0.0 && limit.fract() == 0.0)
            })
        };
        let sglang = self.kind == ApiKind::SglangGenerate;
        let model = if self.kind.has_default_model() {
            sglang || self.typed("model", Value::is_string)
        } else {
            self.get("model").is_some_and(|model| model.as_str().is_some_and(|model| !model.is_empty()))
        };
        model
            && self.typed("stream", Value::is_boolean)
            && (sglang || self.typed("cache_salt", Value::is_string))
            && match self.kind {
                ApiKind::VllmGenerate => {
                    has("token_ids") && self.prompt("token_ids") && sampled("max_tokens") && streamed()
                }
                ApiKind::SglangGenerate => self.prompt("text") && self.prompt("input_ids") && sampled("max_new_tokens"),
                ApiKind::Images => has("prompt") && self.prompt("prompt"),
                ApiKind::RawPredict => {
                    self.messages("messages")
                        && self.prompt("prompt")
                        && limit("max_tokens")
                        && limit("max_completion_tokens")
                        && streamed()
                        && system()
                }
                ApiKind::GrpcGenerate | ApiKind::GrpcEmbed => false,
                ApiKind::ChatCompletions => {
                    has("messages")
                        && self.messages("messages")
                        && limit("max_tokens")
                        && limit("max_completion_tokens")
                        && streamed()
                }
                ApiKind::Messages => has("messages") && self.messages("messages") && limit("max_tokens") && system(),
                ApiKind::Completions => has("prompt") && self.prompt("prompt") && limit("max_tokens") && streamed(),
                ApiKind::Embeddings => {
                    (has("input") || has("messages")) && self.prompt("input") && self.messages("messages")
                }
                ApiKind::Responses => {
                    has("input") && self.messages("input") && limit("max_output_tokens") && streamed()
                }
            }
    }

    fn limit(&self) -> Option<u32> {
        let names: &[&str] = match self.kind {
            ApiKind::ChatCompletions | ApiKind::RawPredict => &["max_completion_tokens", "max_tokens"],
            ApiKind::Completions | ApiKind::Messages => &["max_tokens"],
            ApiKind::Responses => &["max_output_tokens"],
            ApiKind::VllmGenerate => return self.sampled("max_tokens"),
            ApiKind::SglangGenerate => return self.sampled("max_new_tokens"),
            ApiKind::Embeddings | ApiKind::Images | ApiKind::GrpcGenerate | ApiKind::GrpcEmbed => &[],
        };
        Self::saturated(names.iter().find_map(|name| self.get(name))?)
    }

    fn sampled(&self, name: &str) -> Option<u32> {
        Self::saturated(self.get("sampling_params")?.get(name)?)
    }

    fn saturated(limit: &Value) -> Option<u32> {
        Some(format!("{}", limit.as_f64()?).parse().unwrap_or(u32::MAX))
    }

    fn model(&self) -> Option<&str> {
        let name = if self.kind == ApiKind::SglangGenerate { "lora_path" } else { "model" };
        self.body[name].as_str().filter(|model| !model.is_empty())
    }

    /// `extra_key` stands behind `cache_salt` in no document: a tree has no order.
    fn salts(&self) -> [Option<&str>; 2] {
        let extra = if self.kind == ApiKind::SglangGenerate { "extra_key" } else { "cache_salt" };
        [self.body["cache_salt"].as_str(), self.body[extra].as_str()]
    }
}

fn is_syntax(error: &BodyError) -> bool {
    matches!(error.problem, Problem::Syntax(_))
}

fn agrees_with_serde(body: &[u8]) -> Result<(), TestCaseError> {
    let ours = scan(ApiKind::ChatCompletions, body);
    let ours_is_json = !ours.as_ref().is_err_and(is_syntax);
    match serde_json::from_slice::<Value>(body) {
        // Numbers beyond f64 are JSON, and Python reads them.
        Err(error) if error.to_string().starts_with("number out of range") => {}
        theirs => prop_assert_eq!(ours_is_json, theirs.is_ok(), "{:?} {:?}", ours, theirs),
    }
    let mut scanner = BodyScanner::new(ApiKind::ChatCompletions);
    prop_assert_eq!(scan_chunks(&mut scanner, body.chunks(1)), ours);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn fields_and_verdict_agree_with_a_tree(body in body()) {
        let text = body.to_string();
        for kind in KINDS {
            let oracle = Oracle { kind, body: &body };
            let ours = scan(kind, &text);
            prop_assert_eq!(ours.is_ok(), oracle.good(), "{:?} {} {:?}", kind, text, ours);
            let Ok(view) = ours else { continue };
            prop_assert_eq!(view.model.as_deref(), oracle.model());
            prop_assert_eq!(view.stream, body["stream"] == true);
            let usage = !matches!(kind, ApiKind::Messages | ApiKind::Embeddings | ApiKind::SglangGenerate | ApiKind::Images) && body["stream_options"]["include_usage"] == true;
            prop_assert_eq!(view.include_usage, usage);
            prop_assert!(oracle.salts().contains(&view.cache_salt.as_deref()));
            prop_assert_eq!(view.max_output_tokens, oracle.limit());
        }
    }

    #[test]
    fn any_value_is_json(value in value()) {
        agrees_with_serde(value.to_string().as_bytes())?;
        agrees_with_serde(serde_json::to_string_pretty(&value).expect("a value").as_bytes())?;
    }

    #[test]
    fn spoilt_bytes_are_judged_as_serde_does(
        value in value(), spoils in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..4),
    ) {
        let mut body = value.to_string().into_bytes();
        for (at, byte, how) in spoils {
            let at = at.index(body.len() + 1);
            match how {
                0 => body.insert(at, byte),
                1 => body.insert(at, b"{}[]\":,\\u0 tfn-.eE"[usize::from(byte) % 18]),
                2 if at < body.len() => body[at] = byte,
                _ => body.truncate(at),
            }
        }
        agrees_with_serde(&body)?;
    }

    #[test]
    fn token_soup_is_judged_as_serde_does(soup in proptest::collection::vec(prop::sample::select(vec![
        "{", "}", "[", "]", ":", ",", "\"", "\"a\"", "\\", "u", "\\ud83d", "\\ude00", "\\u00e9", "0", "1", "-", ".", "e", "+",
        "true", "null", " ", "\n", "é", "\u{1}",
    ]), 0..12), quoted in any::<bool>()) {
        let soup = soup.concat();
        agrees_with_serde(if quoted { format!("\"{soup}\"") } else { soup }.as_bytes())?;
    }

    #[test]
    fn bytes_in_a_string_are_judged_as_serde_does(bytes in proptest::collection::vec(
        prop_oneof![any::<u8>(), 0x80_u8..=0xBF, 0xE0_u8..=0xF5, Just(b'a')], 0..12)) {
        agrees_with_serde(&[b"[\"", bytes.as_slice(), b"\"]"].concat())?;
    }
}

#[test]
fn nesting_is_allowed_as_deep_as_serde_allows_it() {
    for depth in [126, 127, 128, 129, 100_000] {
        let body = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let ours = scan(ApiKind::ChatCompletions, &body).expect_err("no object");
        assert_eq!(is_syntax(&ours), serde_json::from_str::<Value>(&body).is_err(), "{depth}");
    }
}

#[test]
fn numbers_beyond_f64_are_json() {
    let error = scan(ApiKind::ChatCompletions, "1e999").expect_err("no object");
    assert!(!is_syntax(&error));
    assert_ne!(error.problem, Problem::Syntax(Syntax::Number));
}
