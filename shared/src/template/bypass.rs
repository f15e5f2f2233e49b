//! Why a request has no exact prompt here. None of these is a fault of ours or refuses anything: the request is routed without
//! exact residency, and what is wrong with it, if anything, the engine will say.

use super::error::TemplateError;

/// What stands in the way of exactness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bypass {
    /// The request brings its own template.
    RequestTemplate,
    /// The model has no template, or its prompts are not made by one.
    NoTemplate,
    /// Images, audio, video or files: what stands for them in the prompt is the engine's affair.
    Multimodal,
    /// `truncate_prompt_tokens`: the engine cuts by tokens.
    Truncation,
    /// `echo`: the engine then computes the whole prompt again.
    Echo,
    /// `prompt_embeds`: there is no text.
    PromptEmbeds,
    /// `mm_processor_kwargs` or `media_io_kwargs`.
    ProcessorOptions,
    /// `add_special_tokens` differs from its default.
    SpecialTokens,
    /// The prompt comes as token ids.
    TokenIds,
    /// More than one prompt.
    SeveralPrompts,
    /// A `developer` message, a template that does not know them, and parts as content: versions of the engine differ.
    DeveloperRole,
    /// A `system` message among an Anthropic conversation's: versions of the engine differ.
    InlineSystem,
    /// The template prints the time and the caller did not say it.
    Clock,
    /// The body is not JSON, or holds what only Python reads (lone surrogates, `NaN`).
    Unreadable,
    /// The engine would refuse the member.
    Invalid(&'static str),
}

impl Bypass {
    /// Short and stable, for metrics and explanations.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::RequestTemplate => "request_template",
            Self::NoTemplate => "no_template",
            Self::Multimodal => "multimodal",
            Self::Truncation => "truncation",
            Self::Echo => "echo",
            Self::PromptEmbeds => "prompt_embeds",
            Self::ProcessorOptions => "processor_options",
            Self::SpecialTokens => "special_tokens",
            Self::TokenIds => "token_ids",
            Self::SeveralPrompts => "several_prompts",
            Self::DeveloperRole => "developer_role",
            Self::InlineSystem => "inline_system",
            Self::Clock => "clock",
            Self::Unreadable => "unreadable",
            Self::Invalid(_) => "invalid",
        }
    }
}

impl std::fmt::Display for Bypass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::RequestTemplate => "the request brings its own chat_template",
            Self::NoTemplate => "the model has no chat template",
            Self::Multimodal => "the request has parts that are not text",
            Self::Truncation => "truncate_prompt_tokens cuts the prompt by tokens",
            Self::Echo => "echo makes the engine compute the whole prompt",
            Self::PromptEmbeds => "prompt_embeds have no text",
            Self::ProcessorOptions => "the request has options for the multimodal processor",
            Self::SpecialTokens => "add_special_tokens differs from its default",
            Self::TokenIds => "the prompt comes as token ids",
            Self::SeveralPrompts => "the request has more than one prompt",
            Self::DeveloperRole => "a developer message, and a template of content parts that does not know them",
            Self::InlineSystem => "a system message among the messages",
            Self::Clock => "the template prints the time, which was not given",
            Self::Unreadable => "the body cannot be read as JSON",
            Self::Invalid(member) => return write!(f, "{member}: not what the engine takes"),
        })
    }
}

/// Why there is no prompt.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unrendered {
    /// The request.
    #[error("{0}")]
    Bypass(Bypass),
    /// The template, on this request.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl From<Bypass> for Unrendered {
    fn from(bypass: Bypass) -> Self {
        Self::Bypass(bypass)
    }
}
