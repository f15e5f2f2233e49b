//! `/v1/responses`, stateless: `input` as text or messages, `instructions` as the system turn. Events are named, and the usage
//! always comes with `response.completed`.

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
    input: Input,
    #[serde(default)]
    instructions: Value,
    max_output_tokens: Option<u32>,
    stream: Option<bool>,
    cache_salt: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Messages(Vec<Message>),
}

pub(super) fn parse(language: &Language, body: &[u8]) -> Result<Parsed, Failure> {
    let body: Body = serde_json::from_slice(body)?;
    let messages = match body.input {
        Input::Text(content) => vec![Message::new("user", content.into())],
        Input::Messages(messages) => messages,
    };
    let rendered = read(language, &body.instructions, messages, ChatOptions::default())?;
    let ask = Ask {
        model: body.model,
        prompts: vec![rendered.tokens],
        samples: 1,
        max_tokens: body.max_output_tokens,
        cache_salt: body.cache_salt,
        ..Ask::default()
    };
    Ok(Parsed { ask, delivery: delivery(body.stream, None), shown: Shown::default() })
}

/// Everything before the first token.
pub(super) fn opening(reply: &Reply) -> Vec<String> {
    let empty = frame(reply, "in_progress", &[], &Value::Null);
    let item =
        json!({"id": item_id(reply), "type": "message", "role": "assistant", "status": "in_progress", "content": []});
    vec![
        event("response.created", 0, json!({"response": empty})),
        event("response.in_progress", 1, json!({"response": empty})),
        event("response.output_item.added", 2, json!({"output_index": 0, "item": item})),
        event("response.content_part.added", 3, located(reply, json!({"part": part("")}))),
    ]
}

/// A token's event; `index` counts tokens from 0.
pub(super) fn delta(reply: &Reply, word: &str, index: u32) -> String {
    event("response.output_text.delta", 4 + index, located(reply, json!({"delta": word, "logprobs": []})))
}

/// Everything after the last token.
pub(super) fn ending(reply: &Reply, call: &Call) -> Vec<String> {
    let (content, count) = content_of(call);
    let after = 4 + count;
    vec![
        event("response.output_text.done", after, located(reply, json!({"text": content, "logprobs": []}))),
        event("response.content_part.done", after + 1, located(reply, json!({"part": part(&content)}))),
        event("response.output_item.done", after + 2, json!({"output_index": 0, "item": item(reply, &content)})),
        event("response.completed", after + 3, json!({"response": completed(reply, call)})),
    ]
}

pub(super) fn whole(reply: &Reply, call: &Call) -> String {
    text(&completed(reply, call))
}

fn completed(reply: &Reply, call: &Call) -> Value {
    let usage = usage(call);
    let status = if call.reason == FinishReason::Length { "incomplete" } else { "completed" };
    let usage = json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.prompt_tokens_details.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    });
    frame(reply, status, &[item(reply, &content_of(call).0)], &usage)
}

fn frame(reply: &Reply, status: &str, output: &[Value], usage: &Value) -> Value {
    let details = if status == "incomplete" { json!({"reason": "max_output_tokens"}) } else { Value::Null };
    json!({
        "id": reply.id, "object": "response", "created_at": reply.created, "model": reply.model, "status": status,
        "incomplete_details": details, "error": null, "output": output, "usage": usage, "parallel_tool_calls": true,
        "tool_choice": "auto", "tools": [],
    })
}

fn content_of(call: &Call) -> (String, u32) {
    call.choices.first().map(|choice| (call.text(choice), choice.generated)).unwrap_or_default()
}

fn item_id(reply: &Reply) -> String {
    reply.id.replace("resp_", "msg_")
}

fn item(reply: &Reply, content: &str) -> Value {
    json!({"id": item_id(reply), "type": "message", "role": "assistant", "status": "completed", "content": [part(content)]})
}

fn part(content: &str) -> Value {
    json!({"type": "output_text", "text": content, "annotations": [], "logprobs": null})
}

fn located(reply: &Reply, mut body: Value) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.insert("item_id".to_owned(), item_id(reply).into());
        fields.insert("output_index".to_owned(), 0.into());
        fields.insert("content_index".to_owned(), 0.into());
    }
    body
}

fn event(name: &str, sequence_number: u32, mut body: Value) -> String {
    if let Some(fields) = body.as_object_mut() {
        fields.insert("type".to_owned(), name.into());
        fields.insert("sequence_number".to_owned(), sequence_number.into());
    }
    named_event(name, &body)
}
