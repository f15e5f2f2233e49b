//! Anthropic's `/v1/messages`. `input_tokens` counts the whole prompt and `cache_read_input_tokens` the part found cached, as
//! vLLM reports them.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Parsed;
use super::failure::Failure;
use super::prompt::{ChatOptions, Message, delivery, read};
use super::reply::{Reply, Shown, json as text, named_event, usage};
use crate::infer::{Ask, Call};
use crate::language::Language;
use crate::observed::FinishReason;

#[derive(Deserialize)]
struct Body {
    model: String,
    messages: Vec<Message>,
    max_tokens: u32,
    #[serde(default)]
    system: Value,
    stream: Option<bool>,
    cache_salt: Option<String>,
}

pub(super) fn parse(language: &Language, body: &[u8]) -> Result<Parsed, Failure> {
    let body: Body = serde_json::from_slice(body)?;
    let rendered = read(language, &body.system, body.messages, ChatOptions::default())?;
    let ask = Ask {
        model: body.model,
        prompts: vec![rendered.tokens],
        samples: 1,
        max_tokens: Some(body.max_tokens),
        cache_salt: body.cache_salt,
        ..Ask::default()
    };
    Ok(Parsed { ask, delivery: delivery(body.stream, None), shown: Shown::default() })
}

#[derive(Deserialize)]
struct Counted {
    messages: Vec<Message>,
    #[serde(default)]
    system: Value,
}

/// Prompt tokens of a body without a limit.
pub(super) fn counted(language: &Language, body: &[u8]) -> Result<usize, Failure> {
    let body: Counted = serde_json::from_slice(body)?;
    Ok(read(language, &body.system, body.messages, ChatOptions::default())?.tokens.len())
}

/// Everything before the first token.
pub(super) fn opening(reply: &Reply, call: &Call) -> Vec<String> {
    let mut message = frame(reply, call, &[], None);
    if let Some(tokens) = message.pointer_mut("/usage/output_tokens") {
        *tokens = 0.into();
    }
    vec![
        named_event("message_start", &json!({"type": "message_start", "message": message})),
        named_event(
            "content_block_start",
            &json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        ),
    ]
}

/// A token's event.
pub(super) fn delta(word: &str) -> String {
    let body = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}});
    named_event("content_block_delta", &body)
}

/// Everything after the last token.
pub(super) fn ending(call: &Call) -> Vec<String> {
    let delta = json!({
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason(call), "stop_sequence": null},
        "usage": usage_body(call),
    });
    vec![
        named_event("content_block_stop", &json!({"type": "content_block_stop", "index": 0})),
        named_event("message_delta", &delta),
        named_event("message_stop", &json!({"type": "message_stop"})),
    ]
}

pub(super) fn whole(reply: &Reply, call: &Call) -> String {
    let content = call.choices.first().map(|choice| call.text(choice)).unwrap_or_default();
    text(&frame(reply, call, &[json!({"type": "text", "text": content})], Some(stop_reason(call))))
}

fn frame(reply: &Reply, call: &Call, content: &[Value], stop_reason: Option<&str>) -> Value {
    json!({
        "id": reply.id, "type": "message", "role": "assistant", "model": reply.model, "content": content,
        "stop_reason": stop_reason, "stop_sequence": null, "usage": usage_body(call),
    })
}

fn usage_body(call: &Call) -> Value {
    let usage = usage(call);
    json!({
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "cache_read_input_tokens": usage.prompt_tokens_details.cached_tokens,
    })
}

fn stop_reason(call: &Call) -> &'static str {
    match call.reason {
        FinishReason::Length => "max_tokens",
        FinishReason::Stop | FinishReason::Abort => "end_turn",
    }
}
