//! SGLang's own `/generate`: a text or token ids, alone or in a list. Every chunk of a stream repeats the answer so far and its
//! counts in `meta_info`; the last one has its reason to end. No model is named, only an adapter.

use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::Failure;
use super::prompt::{Prompts, delivery};
use super::reply::{Reply, Shown, json as text};
use super::{Delivery, Parsed, UsageReport};
use crate::infer::{Ask, Call, Choice};
use crate::language::Language;
use crate::observed::FinishReason;

/// SGLang's own default.
const MAX_NEW_TOKENS: u32 = 128;

#[derive(Deserialize)]
struct Body {
    text: Option<Prompts>,
    input_ids: Option<Prompts>,
    #[serde(default)]
    sampling_params: Sampling,
    stream: Option<bool>,
    lora_path: Option<String>,
    extra_key: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Sampling {
    max_new_tokens: Option<u32>,
    n: Option<u32>,
}

pub(super) fn parse(language: &Language, body: &[u8]) -> Result<Parsed, Failure> {
    let body: Body = serde_json::from_slice(body)?;
    let prompt = match (body.text, body.input_ids) {
        (Some(prompt), None) | (None, Some(prompt)) => prompt,
        (None, None) | (Some(_), Some(_)) => {
            return Err(Failure::bad("Either text or input_ids should be provided.".to_owned()));
        }
    };
    let sampling = body.sampling_params;
    let ask = Ask {
        model: body.lora_path.unwrap_or_default(),
        prompts: prompt.into_tokens(language),
        samples: sampling.n.and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
        max_tokens: Some(sampling.max_new_tokens.unwrap_or(MAX_NEW_TOKENS)),
        cache_salt: body.extra_key,
        ..Ask::default()
    };
    let delivery = match delivery(body.stream, None) {
        Delivery::Whole => Delivery::Whole,
        Delivery::Streamed(_) => Delivery::Streamed(UsageReport::Never),
    };
    Ok(Parsed { ask, delivery, shown: Shown::default() })
}

/// A token's chunk.
pub(super) fn delta(reply: &Reply, call: &Call, index: usize, choice: &Choice) -> String {
    let mut chunk = answer(reply, call, choice, call.is_last(choice));
    if let Some(fields) = chunk.as_object_mut().filter(|_| call.choices.len() > 1) {
        fields.insert("index".to_owned(), index.into());
    }
    format!("data: {chunk}\n\n")
}

pub(super) fn whole(reply: &Reply, call: &Call) -> String {
    let mut answers: Vec<Value> = call.choices.iter().map(|choice| answer(reply, call, choice, true)).collect();
    match answers.pop() {
        Some(only) if answers.is_empty() => text(&only),
        last => text(&answers.into_iter().chain(last).collect::<Vec<_>>()),
    }
}

fn answer(reply: &Reply, call: &Call, choice: &Choice, ended: bool) -> Value {
    let reason = match call.reason {
        FinishReason::Length => json!({"type": "length", "length": choice.generated}),
        FinishReason::Stop => json!({"type": "stop", "matched": null}),
        FinishReason::Abort => json!({"type": "abort"}),
    };
    json!({
        "text": call.text(choice),
        "output_ids": call.tokens(choice),
        "meta_info": {
            "id": reply.id, "finish_reason": ended.then_some(reason), "prompt_tokens": choice.prompt_tokens,
            "weight_version": "default", "total_retractions": 0, "completion_tokens": choice.generated,
            "cached_tokens": choice.cached_tokens,
        },
    })
}
