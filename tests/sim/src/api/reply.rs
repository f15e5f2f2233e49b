//! The constant part of an answer and the pieces every dialect builds from: ids, usage, texts.

use serde::Serialize;
use serde_json::Value;

use super::Dialect;
use crate::cluster::unix_seconds;
use crate::engine::RequestId;
use crate::infer::Call;

/// Who answers, and under which id.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) dialect: Dialect,
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) shown: Shown,
    /// `{"id":…,"object":…,"created":…,"model":…,`: how every streamed chunk of the OpenAI dialects begins.
    head: String,
}

/// What the caller wants to see of the prompt (`return_prompt_text`, `return_token_ids`).
#[derive(Debug, Default, Serialize)]
pub(crate) struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_token_ids: Option<Vec<u32>>,
}

impl Shown {
    /// As further fields of a chunk, each with a comma before it.
    pub(super) fn fragment(&self) -> String {
        let body = json(self);
        match body.get(1..body.len().saturating_sub(1)).unwrap_or_default() {
            "" => String::new(),
            fields => format!(",{fields}"),
        }
    }

    /// A whole answer with these fields.
    pub(super) fn added_to(&self, mut answer: Value) -> String {
        let shown = serde_json::to_value(self).unwrap_or_default();
        if let (Some(fields), Value::Object(shown)) = (answer.as_object_mut(), shown) {
            fields.extend(shown);
        }
        json(&answer)
    }
}

/// OpenAI's usage object. `cached_tokens` is always there: vLLM with `--enable-prompt-tokens-details`.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct UsageBody {
    pub(super) prompt_tokens: u64,
    pub(super) total_tokens: u64,
    pub(super) completion_tokens: u64,
    pub(super) prompt_tokens_details: PromptDetails,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct PromptDetails {
    pub(super) cached_tokens: u64,
}

impl Reply {
    pub(super) fn new(dialect: Dialect, model: &str, id: RequestId, shown: Shown) -> Self {
        let (prefix, object) = match dialect {
            Dialect::Chat => ("chatcmpl-", "chat.completion.chunk"),
            Dialect::Completions => ("cmpl-", "text_completion"),
            Dialect::Responses => ("resp_", "response"),
            Dialect::Messages => ("msg_", "message"),
            Dialect::Tokens => ("generate-tokens-", ""),
            Dialect::Sglang => ("", ""),
        };
        let id = format!("{prefix}{:016x}{:016x}", unix_seconds().as_micros() & 0xffff_ffff_ffff_ffff, id.0);
        let created = unix_seconds().as_secs();
        let quoted = Value::from(model);
        let head = format!(r#"{{"id":"{id}","object":"{object}","created":{created},"model":{quoted},"#);
        Self { dialect, id, created, model: model.to_owned(), shown, head }
    }

    /// A streamed chunk: the head, then `rest`, which closes the object.
    pub(super) fn chunk(&self, rest: &str) -> String {
        format!("data: {}{rest}\n\n", self.head)
    }
}

/// The usage of all choices so far.
pub(super) fn usage(call: &Call) -> UsageBody {
    // Several answers to one prompt count it once.
    let prompts = || call.choices.iter().step_by(call.samples.max(1));
    let prompt_tokens = prompts().map(|choice| u64::from(choice.prompt_tokens)).sum();
    let completion_tokens = call.choices.iter().map(|choice| u64::from(choice.generated)).sum();
    UsageBody {
        prompt_tokens,
        total_tokens: prompt_tokens + completion_tokens,
        completion_tokens,
        prompt_tokens_details: PromptDetails {
            cached_tokens: prompts().map(|choice| u64::from(choice.cached_tokens)).sum(),
        },
    }
}

/// Any serialisable value as JSON text. What is serialised here has string keys and finite numbers, so it cannot fail.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A named server-sent event, for the dialects that name them.
pub(super) fn named_event(name: &str, body: &Value) -> String {
    format!("event: {name}\ndata: {body}\n\n")
}

/// A JSON string of a text that is nearly always plain.
pub(super) fn quoted(text: &str) -> String {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) { format!("\"{text}\"") } else { json(&text) }
}
