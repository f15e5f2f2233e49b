//! vLLM's `/inference/v1/generate`: token ids in, token ids out. A stream is a chunk per token, the last one with its reason
//! to end, the usage if asked for, `[DONE]`. The model may be left out.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Parsed;
use super::failure::Failure;
use super::prompt::{StreamOptions, Xargs, delivery};
use super::reply::{Reply, Shown, json as text, usage};
use crate::infer::{Ask, Call, Choice};

#[derive(Deserialize)]
struct Body {
    token_ids: Vec<u32>,
    sampling_params: Sampling,
    #[serde(default)]
    model: Option<String>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    cache_salt: Option<String>,
}

#[derive(Deserialize)]
struct Sampling {
    max_tokens: Option<u32>,
    n: Option<u32>,
    extra_args: Option<Xargs>,
}

pub(super) fn parse(body: &[u8]) -> Result<Parsed, Failure> {
    let body: Body = serde_json::from_slice(body)?;
    let sampling = body.sampling_params;
    let ask = Ask {
        model: body.model.unwrap_or_default(),
        prompts: vec![body.token_ids],
        samples: sampling.n.and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
        max_tokens: sampling.max_tokens,
        cache_salt: body.cache_salt,
        report: sampling.extra_args.unwrap_or_default().report(),
        ..Ask::default()
    };
    Ok(Parsed { ask, delivery: delivery(body.stream, body.stream_options), shown: Shown::default() })
}

/// A token's chunk; `usage` is its further field.
pub(super) fn delta(reply: &Reply, call: &Call, index: usize, choice: &Choice, extra: &str) -> String {
    let reason = call.is_last(choice).then(|| call.reason.name());
    let choice = json!({
        "index": index, "logprobs": null, "finish_reason": reason, "token_ids": call.last_token(choice),
        "routed_experts": null,
    });
    let usage = if extra.is_empty() { r#","usage":null"# } else { extra };
    format!("data: {{\"request_id\":\"{}\",\"choices\":[{choice}]{usage}}}\n\n", reply.id)
}

/// The chunk with the usage alone.
pub(super) fn closing(reply: &Reply, call: &Call) -> String {
    format!("data: {{\"request_id\":\"{}\",\"choices\":[],\"usage\":{}}}\n\n", reply.id, text(&usage(call)))
}

pub(super) fn whole(reply: &Reply, call: &Call) -> String {
    let choices: Vec<Value> = call
        .choices
        .iter()
        .enumerate()
        .map(|(index, choice)| {
            json!({
                "index": index, "logprobs": null, "finish_reason": call.reason.name(), "token_ids": call.tokens(choice),
                "routed_experts": null,
            })
        })
        .collect();
    text(&json!({
        "request_id": reply.id, "model": reply.model, "created": reply.created, "choices": choices, "usage": usage(call),
        "prompt_logprobs": null, "kv_transfer_params": null,
    }))
}
