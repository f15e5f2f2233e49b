//! The members of a body that are one value each: model, stream, limits, salt.

use crate::api::{ApiKind, BodyError, Problem};

#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) model: Vec<u8>,
    /// Offset of the model's value; `None` while there is none.
    pub(super) model_at: Option<u64>,
    /// Offset of its closing quote.
    pub(super) model_end: u64,
    pub(super) cache_salt: Vec<u8>,
    pub(super) salted: bool,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) max_tokens: Option<u32>,
    pub(super) max_completion_tokens: Option<u32>,
}

impl Settings {
    pub(super) fn restart(&mut self) {
        self.model.clear();
        self.cache_salt.clear();
        *self = Self {
            model: std::mem::take(&mut self.model),
            cache_salt: std::mem::take(&mut self.cache_salt),
            ..Self::default()
        };
    }

    /// The model's name. `body_at`: offset of the body's brace.
    pub(super) fn model(&self, kind: ApiKind, body_at: u64) -> Result<Option<&str>, BodyError> {
        // The tokenizer lets only UTF-8 through.
        let model = str::from_utf8(&self.model).ok().filter(|model| !model.is_empty());
        if model.is_some() || kind.has_default_model() {
            return Ok(model);
        }
        let (offset, problem) = self.model_at.map_or((body_at, Problem::Missing), |at| (at, Problem::Empty));
        Err(BodyError { offset, path: "model".to_owned(), problem })
    }

    pub(super) fn cache_salt(&self) -> Option<&str> {
        self.salted.then(|| str::from_utf8(&self.cache_salt).unwrap_or_default())
    }
}
