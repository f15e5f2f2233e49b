//! The files of a model that routing needs: its tokenizer, that tokenizer's configuration, its chat templates.
//!
//! Several files may hold a template; `ModelFiles::new` decides which counts, as `transformers` does.

use serde::Deserialize;
use serde_json::Value;

use super::encoder::Encoder;
use super::hugging_face::{self, RawAdded};
use super::read_error::within;
use super::{ReadError, Vocabulary, tekken, tiktoken};

/// Eight times the largest in use (Gemma 3 lists its 6,415 added tokens again: 1.2 MB).
const MAX_CONFIG: usize = 8 << 20;
/// The longest known templates are 20 KB.
const MAX_TEMPLATE: usize = 1 << 20;
const CONFIG: &str = "tokenizer_config.json";
/// The name of the template for conversations without anything special.
pub const DEFAULT_TEMPLATE: &str = "default";

/// A tokenizer in one of the known formats, unparsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerFile {
    /// `tokenizer.json`
    HuggingFace(Vec<u8>),
    /// `tekken.json`
    Tekken(Vec<u8>),
    /// `*.tiktoken`
    Tiktoken(Vec<u8>),
}

/// What a rank file leaves open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RankHints {
    /// Regular expression that cuts text before merging; without it tokens cannot be compared with an engine's.
    pub pattern: Option<String>,
    /// Special tokens beside those of a `tokenizer_config.json`.
    pub special: Vec<(u32, String)>,
}

/// What of `tokenizer_config.json` matters.
#[derive(Clone, Debug, Default)]
pub struct TokenizerConfig {
    /// Text of the token that begins a sequence.
    pub bos_token: Option<String>,
    /// Text of the token that ends one.
    pub eos_token: Option<String>,
    /// Whether a completion's prompt gets the former; `None` leaves it to the tokenizer.
    pub add_bos_token: Option<bool>,
    templates: Vec<ChatTemplate>,
    added: Vec<RawAdded>,
}

/// A Jinja chat template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatTemplate {
    /// `default`, `tool_use`, …
    pub name: String,
    /// Its source.
    pub text: String,
}

/// The files as they were found; absent ones are `None`.
#[derive(Clone, Debug, Default)]
pub struct FoundFiles {
    /// `tokenizer_config.json`
    pub config: Option<Vec<u8>>,
    /// `chat_template.jinja`
    pub jinja: Option<Vec<u8>>,
    /// `chat_template.json`
    pub template_json: Option<Vec<u8>>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    /// The tokenizer.
    pub tokenizer: TokenizerFile,
    /// Its configuration; empty when there is none.
    pub config: TokenizerConfig,
    /// By name; the one named [`DEFAULT_TEMPLATE`] first, if there is one.
    pub templates: Vec<ChatTemplate>,
    /// For rank files.
    pub hints: RankHints,
}

impl ModelFiles {
    /// Puts them together: `chat_template.jinja` replaces the default of `chat_template.json`, which replaces that of
    /// the configuration.
    ///
    /// # Errors
    /// A companion file is malformed or too large. The tokenizer itself is not looked at.
    pub fn new(tokenizer: TokenizerFile, found: &FoundFiles, hints: RankHints) -> Result<Self, ReadError> {
        let config = found.config.as_deref().map(TokenizerConfig::parse).transpose()?.unwrap_or_default();
        let mut templates = config.templates.clone();
        if let Some(json) = &found.template_json {
            for template in templates_of(parse("chat_template.json", json)?.get("chat_template")) {
                put(&mut templates, template);
            }
        }
        if let Some(text) = &found.jinja {
            const FILE: &str = "chat_template.jinja";
            within(FILE, text.len(), MAX_TEMPLATE)?;
            let text = String::from_utf8(text.clone())
                .map_err(|error| ReadError::Malformed { what: FILE, why: error.to_string() })?;
            put(&mut templates, ChatTemplate { name: DEFAULT_TEMPLATE.to_owned(), text });
        }
        templates.sort_by_key(|template| template.name != DEFAULT_TEMPLATE);
        Ok(Self { tokenizer, config, templates, hints })
    }

    /// The template with this name.
    #[must_use]
    pub fn template(&self, name: &str) -> Option<&str> {
        self.templates.iter().find(|template| template.name == name).map(|template| template.text.as_str())
    }

    /// Reads the vocabulary. Takes up to a second for the largest: not for an async thread.
    ///
    /// # Errors
    /// The tokenizer is malformed, or of a shape whose tokens would not spell the text.
    pub fn vocabulary(&self) -> Result<Vocabulary, ReadError> {
        match &self.tokenizer {
            TokenizerFile::HuggingFace(json) => hugging_face::read(json, &self.config),
            TokenizerFile::Tekken(json) => tekken::read(json),
            TokenizerFile::Tiktoken(ranks) => tiktoken::read(ranks, &self.config, &self.hints),
        }
    }

    /// Builds the tokenizer. Takes seconds for the largest: not for an async thread.
    ///
    /// # Errors
    /// The tokenizer is malformed.
    pub fn encoder(&self, vocabulary: &Vocabulary) -> Result<Encoder, ReadError> {
        match &self.tokenizer {
            TokenizerFile::HuggingFace(json) => Encoder::hugging_face(json),
            TokenizerFile::Tekken(json) => tekken::encoder(json).map(Encoder::ranks),
            TokenizerFile::Tiktoken(ranks) => tiktoken::encoder(ranks, vocabulary, &self.hints).map(Encoder::ranks),
        }
    }
}

impl TokenizerConfig {
    /// # Errors
    /// It is too large, or not JSON, or lists added tokens in an unknown form.
    pub fn parse(json: &[u8]) -> Result<Self, ReadError> {
        let value = parse(CONFIG, json)?;
        let mut added = Vec::new();
        for (id, token) in value.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten() {
            let wrong = |why: String| ReadError::Malformed { what: CONFIG, why };
            let at = || format!("added_tokens_decoder.{id}");
            let number = id.parse().map_err(|_| wrong(format!("{}: not a token id", at())))?;
            let token = RawAdded::deserialize(token).map_err(|error| wrong(format!("{}: {error}", at())))?;
            added.push(token.with_id(number));
        }
        Ok(Self {
            bos_token: token_text(value.get("bos_token")),
            eos_token: token_text(value.get("eos_token")),
            add_bos_token: value.get("add_bos_token").and_then(Value::as_bool),
            templates: templates_of(value.get("chat_template")),
            added,
        })
    }

    /// Those of `added_tokens_decoder`.
    pub(super) fn added_tokens(&self) -> &[RawAdded] {
        &self.added
    }
}

fn parse(what: &'static str, json: &[u8]) -> Result<Value, ReadError> {
    within(what, json.len(), MAX_CONFIG)?;
    serde_json::from_slice(json).map_err(|error| ReadError::Malformed { what, why: error.to_string() })
}

/// `"<s>"` or `{"content": "<s>", …}`.
fn token_text(value: Option<&Value>) -> Option<String> {
    let value = value?;
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// A template, or a list of named ones.
fn templates_of(value: Option<&Value>) -> Vec<ChatTemplate> {
    match value {
        Some(Value::String(text)) => vec![ChatTemplate { name: DEFAULT_TEMPLATE.to_owned(), text: text.clone() }],
        Some(Value::Array(list)) => list.iter().filter_map(named).collect(),
        // Some files map names to templates.
        Some(Value::Object(map)) => map
            .iter()
            .filter_map(|(name, text)| Some(ChatTemplate { name: name.clone(), text: text.as_str()?.to_owned() }))
            .collect(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_)) | None => Vec::new(),
    }
}

fn named(entry: &Value) -> Option<ChatTemplate> {
    let text = |field: &str| entry.get(field).and_then(Value::as_str).map(str::to_owned);
    Some(ChatTemplate { name: text("name")?, text: text("template")? })
}

fn put(templates: &mut Vec<ChatTemplate>, template: ChatTemplate) {
    templates.retain(|known| known.name != template.name);
    templates.push(template);
}

#[cfg(test)]
mod tests;
