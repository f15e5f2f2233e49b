//! How a model's prompts become bytes, as the control plane says: a template with all that goes into it, and the form of
//! the text that its tokenizer sees. A model that has one gets exact residency.

use std::collections::BTreeMap;

use crate::text_form::TextForm;

/// Checked `wire::Rendering`. Equal ones make equal bytes of equal requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendering {
    /// Jinja source; empty: only raw prompts can be rendered.
    pub template: String,
    /// `bos_token`, `eos_token` and their like, by their names in the template.
    pub special_tokens: BTreeMap<String, String>,
    /// A JSON object that requests' `chat_template_kwargs` are laid over; empty: none.
    pub default_kwargs: String,
    /// How messages are prepared for the template.
    pub frontend: Frontend,
    /// What becomes of the text before it is tokenized.
    pub form: TextForm,
}

/// vLLM's two API servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frontend {
    /// The default one.
    #[default]
    Python,
    /// `VLLM_USE_RUST_FRONTEND=1`.
    Rust,
}
