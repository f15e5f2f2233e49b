//! The constant part of an answer and the pieces every dialect builds from: ids, usage, texts.

use serde::Serialize;
use serde_json::Value;

use super::Dialect;
use crate::cluster::unix_seconds;
use crate::engine::RequestId;
use crate::infer::{Call, Choice};

/// Who answers, and under which id.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) dialect: Dialect,
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    /// `{"id":…,"object":…,"created":…,"model":…,`: how every streamed chunk of the OpenAI dialects begins.
    head: String,
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
    pub(super) fn new(dialect: Dialect, model: &str, id: RequestId) -> Self {
        let (prefix, object) = match dialect {
            Dialect::Chat => ("chatcmpl-", "chat.completion.chunk"),
            Dialect::Completions => ("cmpl-", "text_completion"),
            Dialect::Responses => ("resp_", "response"),
            Dialect::Messages => ("msg_", "message"),
        };
        let id = format!("{prefix}{:016x}{:016x}", unix_seconds().as_micros() & 0xffff_ffff_ffff_ffff, id.0);
        let created = unix_seconds().as_secs();
        let quoted = Value::from(model);
        let head = format!(r#"{{"id":"{id}","object":"{object}","created":{created},"model":{quoted},"#);
        Self { dialect, id, created, model: model.to_owned(), head }
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

impl Choice {
    /// The newest token's text. Plain ASCII without anything to escape.
    pub(super) fn last_word(&self) -> String {
        String::from_utf8_lossy(&self.voice.word(self.generated.saturating_sub(1))).into_owned()
    }

    /// The text so far.
    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> = (0..self.generated).flat_map(|index| self.voice.word(index)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
