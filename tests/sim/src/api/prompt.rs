//! What the dialects' request bodies share: message contents, prompts in four shapes, streaming options.
//!
//! Fields that change nothing here (temperature, tools' schemas beyond their text, ignore_eos, min_tokens) are accepted and
//! not checked; answers always have the full length.

use serde::Deserialize;
use serde_json::Value;

use super::{Delivery, UsageReport};
use crate::text::{Turn, tokenize};

/// A message of any dialect.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    role: String,
    #[serde(default)]
    content: Value,
    #[serde(default)]
    tool_calls: Value,
}

impl Message {
    pub(super) fn into_turn(self) -> Turn {
        let mut content = flatten(&self.content);
        if !self.tool_calls.is_null() {
            content.push_str(&self.tool_calls.to_string());
        }
        Turn { role: self.role, content }
    }
}

/// A turn that the dialect keeps outside its messages.
pub(super) fn system_turn(content: &Value) -> Option<Turn> {
    (!content.is_null()).then(|| Turn { role: "system".to_owned(), content: flatten(content) })
}

/// Plain text, or parts: texts as they are, anything else (images, tool results) by its JSON.
pub(super) fn flatten(content: &Value) -> String {
    match content {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match part.get("text").and_then(Value::as_str) {
                Some(text) => text.to_owned(),
                None => part.as_str().map_or_else(|| part.to_string(), str::to_owned),
            })
            .collect(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => other.to_string(),
    }
}

/// `prompt` and `input`: a text, texts, token ids, or lists of token ids.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Prompts {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

impl Prompts {
    pub(super) fn into_tokens(self) -> Vec<Vec<u32>> {
        match self {
            Self::Text(text) => vec![tokenize(&text)],
            Self::Tokens(tokens) => vec![tokens],
            Self::Texts(texts) => texts.iter().map(|text| tokenize(text)).collect(),
            Self::TokenLists(lists) => lists,
        }
    }
}

/// `stream_options`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamOptions {
    include_usage: bool,
    continuous_usage_stats: bool,
}

/// How a body with these fields wants its answer.
pub(super) fn delivery(stream: Option<bool>, options: Option<StreamOptions>) -> Delivery {
    let options = options.unwrap_or_default();
    match (stream.unwrap_or(false), options.include_usage, options.continuous_usage_stats) {
        (false, _, _) => Delivery::Whole,
        (true, false, _) => Delivery::Streamed(UsageReport::Never),
        (true, true, false) => Delivery::Streamed(UsageReport::AtEnd),
        (true, true, true) => Delivery::Streamed(UsageReport::Continuous),
    }
}
