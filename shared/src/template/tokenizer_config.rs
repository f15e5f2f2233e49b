//! What a Hugging Face `tokenizer_config.json` says of prompts: templates and special tokens. The template may also lie beside
//! it, in a file of its own, which then counts; whoever has the folder looks.

use super::json_reader::JsonError;
use super::json_tree::{Json, Members};

/// Names of the special tokens that templates may use.
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Checked `tokenizer_config.json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenizerConfig {
    /// By name, in the file's order. A single template is named `default`.
    templates: Vec<(String, String)>,
    special_tokens: Members,
}

/// What is wrong with a `tokenizer_config.json`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON.
    #[error("{0}")]
    Json(#[from] JsonError),
    /// A member is not what it should be.
    #[error("{member}: must be {rule}")]
    Member {
        /// Its name.
        member: &'static str,
        /// What it should be.
        rule: &'static str,
    },
}

impl TokenizerConfig {
    /// Reads the file's text.
    ///
    /// # Errors
    /// What is wrong where.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let Json::Object(mut config) = Json::parse(text)? else {
            return Err(ConfigError::Member { member: "tokenizer_config", rule: "an object" });
        };
        let mut special_tokens = Members::default();
        for name in SPECIAL_TOKENS {
            let token = config.take(name).unwrap_or_default();
            let content = token.as_object().and_then(|token| token.get("content")).cloned();
            let token = content.unwrap_or(token);
            if token.as_text().is_some() {
                special_tokens.set(name, token);
            } else if token != Json::Null {
                return Err(ConfigError::Member { member: name, rule: "a string, or an object with `content`" });
            }
        }
        Ok(Self { templates: templates(config.take("chat_template").unwrap_or_default())?, special_tokens })
    }

    /// The template for a request, with tools or without; nothing when there is none.
    #[must_use]
    pub fn template(&self, with_tools: bool) -> Option<&str> {
        let named = |name: &str| self.templates.iter().find(|(known, _)| known == name).map(|(_, source)| &**source);
        named("tool_use").filter(|_| with_tools).or_else(|| named("default"))
    }

    /// By the names they have in templates.
    #[must_use]
    pub fn special_tokens(&self) -> &Members {
        &self.special_tokens
    }
}

fn templates(given: Json) -> Result<Vec<(String, String)>, ConfigError> {
    let wrong = || ConfigError::Member { member: "chat_template", rule: "a string, or a list of name and template" };
    if let Some(source) = given.as_text() {
        return Ok(vec![("default".to_owned(), source.to_owned())]);
    }
    if given == Json::Null {
        return Ok(Vec::new());
    }
    let pair = |item: &Json| {
        let text = |name| Some(item.as_object()?.get(name)?.as_text()?.to_owned());
        text("name").zip(text("template")).ok_or_else(wrong)
    };
    given.as_list().ok_or_else(wrong)?.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_and_tokens_come_in_all_their_spellings() {
        let config = TokenizerConfig::parse(
            br#"{"chat_template": "a", "bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": null}"#,
        )
        .unwrap();
        assert_eq!((config.template(false), config.template(true)), (Some("a"), Some("a")));
        assert_eq!(config.special_tokens().get("bos_token"), Some(&Json::text("<s>")));
        assert_eq!(config.special_tokens().get("eos_token"), Some(&Json::text("</s>")));
        assert_eq!(config.special_tokens().get("pad_token"), None);
        let several =
            br#"{"chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]}"#;
        let config = TokenizerConfig::parse(several).unwrap();
        assert_eq!((config.template(false), config.template(true)), (Some("a"), Some("b")));
        assert_eq!(TokenizerConfig::parse(b"{}").unwrap().template(false), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |text: &[u8]| TokenizerConfig::parse(text).unwrap_err().to_string();
        assert_eq!(wrong(br#"{"bos_token": 1}"#), "bos_token: must be a string, or an object with `content`");
        assert_eq!(
            wrong(br#"{"chat_template": 1}"#),
            "chat_template: must be a string, or a list of name and template"
        );
        assert!(wrong(b"{").contains("line 1"));
    }
}
