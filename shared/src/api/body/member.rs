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
    /// The object with the bound on generated tokens, where that is not a member of the body.
    SamplingParams,
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
    /// A prompt under its other name.
    PromptIds,
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
    /// What stands for the placeholders among token ids; also images alone.
    Media,
    Audio,
    Video,
}

/// How many heads there are.
pub(super) const HEADS: usize = 8;

impl Head {
    pub(super) const fn index(self) -> usize {
        match self {
            Self::ChatTemplate => 0,
            Self::ChatTemplateKwargs => 1,
            Self::Documents => 2,
            Self::ReasoningEffort => 3,
            Self::Tools => 4,
            Self::Media => 5,
            Self::Audio => 6,
            Self::Video => 7,
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
            Self::Media => b'm',
            Self::Audio => b'a',
            Self::Video => b'v',
        }
    }
}

impl Member {
    pub(super) fn of(kind: ApiKind, key: &[u8]) -> Self {
        match (key, kind) {
            // SGLang's own API names an adapter or nothing.
            (b"lora_path", ApiKind::SglangGenerate) => Self::Model,
            (b"model", ApiKind::SglangGenerate) => Self::Ignored,
            (b"model", _) => Self::Model,
            (b"stream", _) => Self::Stream,
            (b"cache_salt", _) | (b"extra_key", ApiKind::SglangGenerate) => Self::CacheSalt,
            (b"vllm_xargs", _) | (b"extra_args", ApiKind::SglangGenerate) => Self::EngineArguments,
            (
                b"stream_options",
                ApiKind::ChatCompletions
                | ApiKind::Completions
                | ApiKind::Responses
                | ApiKind::VllmGenerate
                | ApiKind::RawPredict,
            ) => Self::StreamOptions,
            (
                b"max_tokens",
                ApiKind::ChatCompletions | ApiKind::Completions | ApiKind::Messages | ApiKind::RawPredict,
            )
            | (b"max_output_tokens", ApiKind::Responses) => Self::MaxTokens,
            (b"max_completion_tokens", ApiKind::ChatCompletions | ApiKind::RawPredict) => Self::MaxCompletionTokens,
            (b"sampling_params", ApiKind::VllmGenerate | ApiKind::SglangGenerate) => Self::SamplingParams,
            (b"messages", ApiKind::ChatCompletions | ApiKind::Messages | ApiKind::Embeddings | ApiKind::RawPredict) => {
                Self::Messages
            }
            (b"system", ApiKind::Messages | ApiKind::RawPredict) | (b"instructions", ApiKind::Responses) => {
                Self::System
            }
            (b"prompt", ApiKind::Completions | ApiKind::Images | ApiKind::RawPredict)
            | (b"input", ApiKind::Embeddings)
            | (b"token_ids", ApiKind::VllmGenerate)
            | (b"text", ApiKind::SglangGenerate) => Self::Prompt,
            (b"input_ids", ApiKind::SglangGenerate) => Self::PromptIds,
            (b"prompt_embeds", ApiKind::Completions) => Self::PromptEmbeds,
            (b"input", ApiKind::Responses) => Self::Input,
            (b"features", ApiKind::VllmGenerate) | (b"image_data", ApiKind::SglangGenerate) => Self::Head(Head::Media),
            (b"audio_data", ApiKind::SglangGenerate) => Self::Head(Head::Audio),
            (b"video_data", ApiKind::SglangGenerate) => Self::Head(Head::Video),
            (_, ApiKind::Completions | ApiKind::VllmGenerate | ApiKind::SglangGenerate | ApiKind::Images) => {
                Self::Ignored
            }
            (b"chat_template", _) => Self::Head(Head::ChatTemplate),
            (b"chat_template_kwargs", _) => Self::Head(Head::ChatTemplateKwargs),
            (b"documents", ApiKind::ChatCompletions | ApiKind::RawPredict) => Self::Head(Head::Documents),
            (b"reasoning_effort", ApiKind::ChatCompletions | ApiKind::RawPredict)
            | (b"reasoning", ApiKind::Responses) => Self::Head(Head::ReasoningEffort),
            (b"tools", ApiKind::ChatCompletions | ApiKind::Responses | ApiKind::Messages | ApiKind::RawPredict) => {
                Self::Head(Head::Tools)
            }
            _ => Self::Ignored,
        }
    }

    /// As the API spells it.
    pub(super) const fn name(self, kind: ApiKind) -> &'static str {
        match (self, kind) {
            (Self::Model, ApiKind::SglangGenerate) => "lora_path",
            (Self::Model, _) => "model",
            (Self::Stream, _) => "stream",
            (Self::StreamOptions, _) => "stream_options",
            (Self::MaxTokens, ApiKind::Responses) => "max_output_tokens",
            (Self::MaxTokens, _) => "max_tokens",
            (Self::MaxCompletionTokens, _) => "max_completion_tokens",
            (Self::SamplingParams, _) => "sampling_params",
            (Self::CacheSalt, ApiKind::SglangGenerate) => "extra_key",
            (Self::CacheSalt, _) => "cache_salt",
            (Self::Messages, _) => "messages",
            (Self::System, ApiKind::Responses) => "instructions",
            (Self::System, _) => "system",
            (Self::Prompt, ApiKind::VllmGenerate) => "token_ids",
            (Self::Prompt, ApiKind::SglangGenerate) => "text",
            (Self::Prompt, ApiKind::Embeddings) | (Self::Input, _) => "input",
            (Self::Prompt, _) => "prompt",
            (Self::PromptIds, _) => "input_ids",
            // Never wrong, so never named.
            (Self::Head(_) | Self::PromptEmbeds | Self::EngineArguments | Self::Ignored, _) => "",
        }
    }

    /// The members without all of which a body of this API has no prompt; the first is asked for.
    pub(super) const fn required(kind: ApiKind) -> &'static [Self] {
        match kind {
            ApiKind::ChatCompletions | ApiKind::Messages => &[Self::Messages],
            ApiKind::Completions => &[Self::Prompt, Self::PromptEmbeds],
            ApiKind::Embeddings => &[Self::Prompt, Self::Messages],
            ApiKind::VllmGenerate | ApiKind::Images => &[Self::Prompt],
            ApiKind::Responses => &[Self::Input],
            ApiKind::SglangGenerate | ApiKind::RawPredict | ApiKind::GrpcGenerate | ApiKind::GrpcEmbed => &[],
        }
    }
}

/// What a member of the sampling parameters is to routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SamplingMember {
    MaxTokens,
    EngineArguments,
    Ignored,
}

impl SamplingMember {
    pub(super) fn of(kind: ApiKind, key: &[u8]) -> Self {
        match (key, kind) {
            (b"max_new_tokens", ApiKind::SglangGenerate) | (b"max_tokens", ApiKind::VllmGenerate) => Self::MaxTokens,
            (b"extra_args" | b"vllm_xargs", _) => Self::EngineArguments,
            _ => Self::Ignored,
        }
    }

    /// As the API spells it, behind a dot.
    pub(super) const fn path(kind: ApiKind) -> &'static str {
        if matches!(kind, ApiKind::SglangGenerate) { ".max_new_tokens" } else { ".max_tokens" }
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
