//! Which members of each API's body matter, and as what. Everything not named here contributes nothing to routing.

use crate::api::ApiKind;

/// What a member of the body is to routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Model,
    Stream,
    StreamOptions,
    /// vLLM's extra arguments: none of them matters, one is forbidden.
    EngineArguments,
    MaxTokens,
    /// Wins over `MaxTokens`.
    MaxCompletionTokens,
    CacheSalt,
    /// Rendered before the messages; its place among [`HEADS`].
    Head(Head),
    /// Becomes the first message, with the role `system`.
    System,
    Messages,
    /// A prompt in one of four shapes: text, texts, token ids, lists of token ids.
    Prompt,
    /// Stands in for a prompt, unread.
    PromptEmbeds,
    /// A user message, or a list of items.
    Input,
    Ignored,
}

/// Members that a chat template may render before the messages, in canonical order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    ChatTemplate,
    ChatTemplateKwargs,
    Documents,
    ReasoningEffort,
    Tools,
}

/// How many heads there are.
pub(super) const HEADS: usize = 5;

impl Head {
    pub(super) const fn index(self) -> usize {
        match self {
            Self::ChatTemplate => 0,
            Self::ChatTemplateKwargs => 1,
            Self::Documents => 2,
            Self::ReasoningEffort => 3,
            Self::Tools => 4,
        }
    }

    /// Its name in canonical text.
    pub(super) const fn mark(self) -> u8 {
        match self {
            Self::ChatTemplate => b'c',
            Self::ChatTemplateKwargs => b'k',
            Self::Documents => b'd',
            Self::ReasoningEffort => b'r',
            Self::Tools => b't',
        }
    }
}

impl Member {
    pub(super) fn of(kind: ApiKind, key: &[u8]) -> Self {
        match (key, kind) {
            (b"model", _) => Self::Model,
            (b"stream", _) => Self::Stream,
            (b"cache_salt", _) => Self::CacheSalt,
            (b"vllm_xargs", _) => Self::EngineArguments,
            (b"stream_options", ApiKind::ChatCompletions | ApiKind::Completions | ApiKind::Responses) => {
                Self::StreamOptions
            }
            (b"max_tokens", ApiKind::ChatCompletions | ApiKind::Completions | ApiKind::Messages)
            | (b"max_output_tokens", ApiKind::Responses) => Self::MaxTokens,
            (b"max_completion_tokens", ApiKind::ChatCompletions) => Self::MaxCompletionTokens,
            (b"messages", ApiKind::ChatCompletions | ApiKind::Messages | ApiKind::Embeddings) => Self::Messages,
            (b"system", ApiKind::Messages) | (b"instructions", ApiKind::Responses) => Self::System,
            (b"prompt", ApiKind::Completions) | (b"input", ApiKind::Embeddings) => Self::Prompt,
            (b"prompt_embeds", ApiKind::Completions) => Self::PromptEmbeds,
            (b"input", ApiKind::Responses) => Self::Input,
            (_, ApiKind::Completions) => Self::Ignored,
            (b"chat_template", _) => Self::Head(Head::ChatTemplate),
            (b"chat_template_kwargs", _) => Self::Head(Head::ChatTemplateKwargs),
            (b"documents", ApiKind::ChatCompletions) => Self::Head(Head::Documents),
            (b"reasoning_effort", ApiKind::ChatCompletions) | (b"reasoning", ApiKind::Responses) => {
                Self::Head(Head::ReasoningEffort)
            }
            (b"tools", ApiKind::ChatCompletions | ApiKind::Responses | ApiKind::Messages) => Self::Head(Head::Tools),
            _ => Self::Ignored,
        }
    }

    /// As the API spells it.
    pub(super) const fn name(self, kind: ApiKind) -> &'static str {
        match (self, kind) {
            (Self::Model, _) => "model",
            (Self::Stream, _) => "stream",
            (Self::StreamOptions, _) => "stream_options",
            (Self::MaxTokens, ApiKind::Responses) => "max_output_tokens",
            (Self::MaxTokens, _) => "max_tokens",
            (Self::MaxCompletionTokens, _) => "max_completion_tokens",
            (Self::CacheSalt, _) => "cache_salt",
            (Self::Messages, _) => "messages",
            (Self::System, ApiKind::Responses) => "instructions",
            (Self::System, _) => "system",
            (Self::Prompt, ApiKind::Completions) => "prompt",
            (Self::Prompt | Self::Input, _) => "input",
            // Never wrong, so never named.
            (Self::Head(_) | Self::PromptEmbeds | Self::EngineArguments | Self::Ignored, _) => "",
        }
    }

    /// The member without which a body of this API has no prompt.
    pub(super) const fn required(kind: ApiKind) -> Self {
        match kind {
            ApiKind::ChatCompletions | ApiKind::Messages => Self::Messages,
            ApiKind::Completions | ApiKind::Embeddings => Self::Prompt,
            ApiKind::Responses => Self::Input,
        }
    }
}

/// What a member of a message is to routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageMember {
    Role,
    Content,
    /// Rendered behind the content.
    Field,
    Ignored,
}

impl MessageMember {
    pub(super) fn of(kind: ApiKind, key: &[u8]) -> Self {
        match (key, kind) {
            (b"role", _) => Self::Role,
            (b"content", _) => Self::Content,
            (b"cache_control", _) | (b"id" | b"status", ApiKind::Responses) => Self::Ignored,
            _ => Self::Field,
        }
    }
}

/// What a member of a content part is to routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartMember {
    Type,
    Text,
    Field,
    Ignored,
}

impl PartMember {
    pub(super) fn of(key: &[u8]) -> Self {
        match key {
            b"type" => Self::Type,
            b"text" => Self::Text,
            b"cache_control" => Self::Ignored,
            _ => Self::Field,
        }
    }
}
