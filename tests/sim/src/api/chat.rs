//! `/v1/chat/completions`. A stream is a role chunk (when the first token exists), a chunk per token, a finish chunk per choice,
//! the usage if asked for, `[DONE]`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::Failure;
use super::prompt::{Message, StreamOptions, delivery};
use super::reply::{Reply, json as text, usage};
use super::{Delivery, Parsed};
use crate::infer::{Ask, Call};
use crate::text::{Turn, tokenize_chat};

#[derive(Deserialize)]
struct Body {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    tools: Value,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    n: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    cache_salt: Option<String>,
}

pub(super) fn parse(body: &[u8]) -> Result<Parsed, Failure> {
    let body: Body = serde_json::from_slice(body)?;
    let delivery = delivery(body.stream, body.stream_options);
    if delivery == Delivery::Whole && body.stream_options.is_some() {
        return Err(Failure::bad("Stream options can only be defined when `stream=True`.".to_owned()));
    }
    let mut turns: Vec<Turn> = Vec::with_capacity(body.messages.len() + 1);
    if !body.tools.is_null() {
        turns.push(Turn { role: "tools".to_owned(), content: body.tools.to_string() });
    }
    turns.extend(body.messages.into_iter().map(Message::into_turn));
    let ask = Ask {
        model: body.model,
        prompts: vec![tokenize_chat(&turns)],
        samples: body.n.and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
        max_tokens: body.max_completion_tokens.or(body.max_tokens),
        cache_salt: body.cache_salt,
    };
    Ok(Parsed { ask, delivery })
}

/// The chunk before a choice's first token.
pub(super) fn opening(reply: &Reply, choice: usize, extra: &str) -> String {
    reply.chunk(&format!(
        r#""choices":[{{"index":{choice},"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}]{extra}}}"#
    ))
}

/// A token's chunk.
pub(super) fn delta(reply: &Reply, choice: usize, word: &str, extra: &str) -> String {
    reply.chunk(&format!(
        r#""choices":[{{"index":{choice},"delta":{{"content":"{word}"}},"logprobs":null,"finish_reason":null}}]{extra}}}"#
    ))
}

/// The last chunk of a choice.
pub(super) fn closing(reply: &Reply, call: &Call, choice: usize, extra: &str) -> String {
    let reason = call.reason.name();
    reply.chunk(&format!(
        r#""choices":[{{"index":{choice},"delta":{{"content":""}},"logprobs":null,"finish_reason":"{reason}","stop_reason":null}}]{extra}}}"#
    ))
}

pub(super) fn whole(reply: &Reply, call: &Call) -> String {
    let choices: Vec<Value> = call
        .choices
        .iter()
        .enumerate()
        .map(|(index, choice)| {
            json!({
                "index": index,
                "message": {"role": "assistant", "content": choice.text(), "refusal": null, "tool_calls": []},
                "logprobs": null,
                "finish_reason": call.reason.name(),
                "stop_reason": null,
            })
        })
        .collect();
    text(&json!({
        "id": reply.id, "object": "chat.completion", "created": reply.created, "model": reply.model,
        "choices": choices, "usage": usage(call), "prompt_logprobs": null, "kv_transfer_params": null,
    }))
}
