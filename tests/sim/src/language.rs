//! What the simulated model reads and writes: conversations become text by a chat template, text becomes tokens by a tokenizer,
//! and an answer is tokens of the same vocabulary.
//!
//! Template and tokenizer are those of a real model or the built-in ones, which [`write_builtin`] publishes in Hugging Face's form
//! for whoever has to read the same tokens.

mod answer;
mod template;
mod tokenizer;
pub mod vocabulary;

use std::path::{Path, PathBuf};

pub(crate) use self::answer::{Answer, Voice};
use self::template::Template;
pub(crate) use self::template::{ContentForm, Conversation};
pub(crate) use self::tokenizer::Tokenizer;

/// Files the language is read from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LanguageConfig {
    /// A Jinja chat template; None for the built-in one.
    pub chat_template: Option<PathBuf>,
    /// A `tokenizer.json`; None for the built-in vocabulary.
    pub tokenizer: Option<PathBuf>,
    /// Share of generated tokens that text would be cut into differently, 0..=1.
    pub non_canonical: f64,
}

/// Why a language cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LanguageError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The template does not compile.
    #[error("chat_template: {0}")]
    Template(String),
    /// The tokenizer does not load.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A share outside 0..=1.
    #[error("non_canonical: must be 0 to 1, got {0}")]
    Share(f64),
}

/// A conversation as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    pub(crate) tokens: Vec<u32>,
}

/// Template, tokenizer and habits of the model.
#[derive(Debug)]
pub(crate) struct Language {
    template: Template,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) non_canonical: f64,
}

impl Language {
    pub(crate) fn load(config: &LanguageConfig) -> Result<Self, LanguageError> {
        if !(0.0..=1.0).contains(&config.non_canonical) {
            return Err(LanguageError::Share(config.non_canonical));
        }
        let source = match &config.chat_template {
            Some(path) => read(path)?,
            None => vocabulary::CHAT_TEMPLATE.to_owned(),
        };
        let tokenizer = match &config.tokenizer {
            Some(path) => Tokenizer::load(&read(path)?)?,
            None => Tokenizer::Builtin,
        };
        Ok(Self { template: Template::compile(source)?, tokenizer, non_canonical: config.non_canonical })
    }

    /// In which form the template takes message contents.
    pub(crate) fn content_form(&self) -> ContentForm {
        self.template.content_form()
    }

    /// Renders and tokenizes. The error is the template's own words.
    pub(crate) fn read(&self, conversation: Conversation) -> Result<Rendered, String> {
        let text = self.template.render(conversation)?;
        let tokens = self.tokenizer.encode(&text, tokenizer::SpecialTokens::AsWritten);
        Ok(Rendered { text, tokens })
    }

    /// A bare prompt, with whatever the tokenizer puts around it.
    pub(crate) fn read_prompt(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text, tokenizer::SpecialTokens::Added)
    }
}

fn read(path: &Path) -> Result<String, LanguageError> {
    std::fs::read_to_string(path).map_err(|source| LanguageError::File { path: path.to_owned(), source })
}

/// Writes `tokenizer.json` and `tokenizer_config.json` (with the chat template) of the built-in language into a directory.
///
/// # Errors
/// When the directory or a file cannot be written.
pub fn write_builtin(directory: &Path) -> Result<(), LanguageError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| LanguageError::File { path, source }
    };
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    for (name, body) in [
        ("tokenizer.json", vocabulary::tokenizer_json()),
        ("tokenizer_config.json", vocabulary::tokenizer_config_json()),
    ] {
        let path = directory.join(name);
        std::fs::write(&path, body.to_string()).map_err(failed(&path))?;
    }
    Ok(())
}
