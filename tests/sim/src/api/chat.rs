//! `/v1/chat/completions`. A stream is a role chunk (when the first token exists), a chunk per token, a finish chunk per choice,
//! the usage if asked for, `[DONE]`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::Failure;
use super::prompt::{ChatOptions, Message, StreamOptions, Xargs, delivery, read};
use super::reply::{Reply, Shown, quoted, usage};
use super::{Delivery, Parsed};
use crate::infer::{Ask, Call};
use crate::language::Language;

#[derive(Deserialize)]
struct Body {
    model: String,
    messages: Vec<Message>,
    #[serde(flatten)]
    options: ChatOptions,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    n: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    cache_salt: Option<String>,
    vllm_xargs: Option<Xargs>,
    session_id: Option<String>,
    #[serde(default)]
    return_prompt_text: bool,
    #[serde(default)]
    return_token_ids: bool,
}

pub(super) fn parse(language: &Language, body: &[u8]) -> Result<Parsed, Failure> {
    let body: Body = serde_json::from_slice(body)?;
    let delivery = delivery(body.stream, body.stream_options);
    if delivery == Delivery::Whole && body.stream_options.is_some() {
        return Err(Failure::bad("Stream options can only be defined when `stream=True`.".to_owned()));
    }
    let rendered = read(language, &Value::Null, body.messages, body.options)?;
    let shown = Shown {
        prompt_text: body.return_prompt_text.then_some(rendered.text),
        prompt_token_ids: body.return_token_ids.then(|| rendered.tokens.clone()),
    };
    let ask = Ask {
        model: body.model,
        prompts: vec![rendered.tokens],
        samples: body.n.and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
        max_tokens: body.max_completion_tokens.or(body.max_tokens),
        cache_salt: body.cache_salt,
        report: body.vllm_xargs.unwrap_or_default().report(),
        session_id: body.session_id,
        ..Ask::default()
    };
    Ok(Parsed { ask, delivery, shown })
}

/// The chunk before a choice's first token.
pub(super) fn opening(reply: &Reply, choice: usize, extra: &str) -> String {
    let shown = reply.shown.fragment();
    reply.chunk(&format!(
        r#""choices":[{{"index":{choice},"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}]{shown}{extra}}}"#
    ))
}

/// A token's chunk.
pub(super) fn delta(reply: &Reply, choice: usize, word: &str, extra: &str) -> String {
    let word = quoted(word);
    reply.chunk(&format!(
        r#""choices":[{{"index":{choice},"delta":{{"content":{word}}},"logprobs":null,"finish_reason":null}}]{extra}}}"#
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
                "message": {"role": "assistant", "content": call.text(choice), "refusal": null, "tool_calls": []},
                "logprobs": null,
                "finish_reason": call.reason.name(),
                "stop_reason": null,
            })
        })
        .collect();
    reply.shown.added_to(json!({
        "id": reply.id, "object": "chat.completion", "created": reply.created, "model": reply.model,
        "choices": choices, "usage": usage(call), "prompt_logprobs": null, "kv_transfer_params": null,
    }))
}
