//! `/v1/completions`: a prompt as text, texts, token ids or lists of them. No chat markers, so an answer sent back in a longer
//! prompt lines up only if the text before it ends with a token.

use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::Failure;
use super::prompt::{Prompts, StreamOptions, Xargs, delivery};
use super::reply::{Reply, Shown, json as text, quoted, usage};
use super::{Delivery, Parsed};
use crate::infer::{Ask, Call};
use crate::language::Language;

/// The dialect's own default.
const MAX_TOKENS: u32 = 16;

#[derive(Deserialize)]
struct Body {
    model: String,
    prompt: Prompts,
    max_tokens: Option<u32>,
    n: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    cache_salt: Option<String>,
    vllm_xargs: Option<Xargs>,
}

pub(super) fn parse(language: &Language, body: &[u8]) -> Result<Parsed, Failure> {
    let body: Body = serde_json::from_slice(body)?;
    let delivery = delivery(body.stream, body.stream_options);
    if delivery == Delivery::Whole && body.stream_options.is_some() {
        return Err(Failure::bad("Stream options can only be defined when `stream=True`.".to_owned()));
    }
    let ask = Ask {
        model: body.model,
        prompts: body.prompt.into_tokens(language),
        samples: body.n.and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
        max_tokens: Some(body.max_tokens.unwrap_or(MAX_TOKENS)),
        cache_salt: body.cache_salt,
        report: body.vllm_xargs.unwrap_or_default().report(),
        ..Ask::default()
    };
    Ok(Parsed { ask, delivery, shown: Shown::default() })
}

/// A token's chunk.
pub(super) fn delta(reply: &Reply, choice: usize, word: &str, extra: &str) -> String {
    let word = quoted(word);
    reply.chunk(&format!(
        r#""choices":[{{"index":{choice},"text":{word},"logprobs":null,"finish_reason":null,"stop_reason":null}}]{extra}}}"#
    ))
}

/// The last chunk of a choice.
pub(super) fn closing(reply: &Reply, call: &Call, choice: usize, extra: &str) -> String {
    let reason = call.reason.name();
    reply.chunk(&format!(
        r#""choices":[{{"index":{choice},"text":"","logprobs":null,"finish_reason":"{reason}","stop_reason":null}}]{extra}}}"#
    ))
}

pub(super) fn whole(reply: &Reply, call: &Call) -> String {
    let choices: Vec<Value> = call
        .choices
        .iter()
        .enumerate()
        .map(|(index, choice)| {
            json!({
                "index": index, "text": call.text(choice), "logprobs": null,
                "finish_reason": call.reason.name(), "stop_reason": null, "prompt_logprobs": null,
            })
        })
        .collect();
    text(&json!({
        "id": reply.id, "object": "text_completion", "created": reply.created, "model": reply.model,
        "choices": choices, "usage": usage(call), "kv_transfer_params": null,
    }))
}
