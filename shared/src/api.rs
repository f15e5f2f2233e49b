//! The APIs of the engines as far as routing needs them: request bodies in ([`body`]), responses watched ([`response`]),
//! refusals out ([`reject`]). Nothing here builds a JSON tree: bodies are read once, in the chunks they arrive in.
//!
//! A path that no [`BodyUse`] knows is not an error: such requests pass through unread.

pub mod body;
pub mod body_error;
pub(crate) mod grpc;
pub(crate) mod json;
pub mod reject;
pub mod response;

use std::borrow::Cow;

pub use body::{BodyScanner, CanonicalText, Edit, KeySearch, NoStringThere, PromptView, RequestView, TokenIds, edited};
pub use body_error::{BodyError, Frame, Problem, Syntax, ValueKind};
pub use reject::{ErrorReply, NoEndpointReason, Reject, reply};
pub use response::{NameRestorer, ResponseForm, ResponseProgress, ResponseScanner, Usage};

/// Whose errors the caller understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error":{"message","type","param","code"}}`; SGLang's and Vertex AI's own clients find their message there, too.
    OpenAi,
    /// `{"type":"error","error":{"type","message"}}`.
    Anthropic,
    /// A gRPC status, in headers that are the whole answer.
    Grpc,
}

impl Dialect {
    /// Anthropic for `/v1/messages` and everything below it and for Anthropic's models on Vertex AI, gRPC for the methods
    /// of vLLM's service, OpenAI for every other path. A query string is ignored.
    #[must_use]
    pub fn of_path(path: &[u8]) -> Self {
        const ROOT: &[u8] = b"/v1/messages";
        let path = unescaped(without_query(path));
        let has = |wanted: &[u8]| path.windows(wanted.len()).any(|window| window == wanted);
        let below = |at: usize| path.get(at + ROOT.len()).is_none_or(|&next| next == b'/');
        if has(b"/vllm.grpc.engine.VllmEngine/") {
            Self::Grpc
        } else if path.windows(ROOT.len()).enumerate().any(|(at, window)| window == ROOT && below(at))
            || has(b"/publishers/anthropic/models/")
        {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }
}

/// The request bodies that can be read for routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKind {
    /// OpenAI `/v1/chat/completions`.
    ChatCompletions,
    /// OpenAI `/v1/completions`.
    Completions,
    /// OpenAI `/v1/embeddings`.
    Embeddings,
    /// OpenAI `/v1/responses`.
    Responses,
    /// Anthropic `/v1/messages`.
    Messages,
    /// vLLM `/inference/v1/generate`: token ids in, token ids out.
    VllmGenerate,
    /// SGLang `/generate`. Others serve something else there, so nothing is required of such a body.
    SglangGenerate,
    /// OpenAI `/v1/images/generations`, and `/v1/images/edits` where its body is no form.
    Images,
    /// Vertex AI `…:rawPredict` and `…:streamRawPredict`: the body of OpenAI's chat or completions, or of Anthropic's
    /// messages. The containers behind it may take others, so nothing is required of such a body.
    RawPredict,
    /// vLLM's gRPC method `Generate`.
    GrpcGenerate,
    /// vLLM's gRPC method `Embed`.
    GrpcEmbed,
}

impl ApiKind {
    /// The API behind a `:path`, as [`Call::of_path`] finds it.
    #[must_use]
    pub fn from_path(path: &[u8]) -> Option<Self> {
        Call::of_path(path).map(|call| call.kind)
    }

    /// Do its bodies name a model only if they like to, or never? Such a request is for the model of the pool.
    #[must_use]
    pub const fn has_default_model(self) -> bool {
        match self {
            Self::ChatCompletions | Self::Completions | Self::Embeddings | Self::Responses | Self::Messages => false,
            Self::VllmGenerate
            | Self::SglangGenerate
            | Self::Images
            | Self::RawPredict
            | Self::GrpcGenerate
            | Self::GrpcEmbed => true,
        }
    }

    /// Is its answer made token by token? The others take one step of the engine, whatever their bodies say.
    #[must_use]
    pub const fn generates_tokens(self) -> bool {
        match self {
            Self::Embeddings | Self::Images | Self::GrpcEmbed => false,
            Self::ChatCompletions
            | Self::Completions
            | Self::Responses
            | Self::Messages
            | Self::VllmGenerate
            | Self::SglangGenerate
            | Self::RawPredict
            | Self::GrpcGenerate => true,
        }
    }

    /// Are its bodies gRPC's length-prefixed messages? All others are JSON.
    #[must_use]
    pub const fn is_grpc(self) -> bool {
        matches!(self, Self::GrpcGenerate | Self::GrpcEmbed)
    }
}

/// What an engine does for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It runs the model over the prompt.
    Inference,
    /// It renders or counts the prompt: no cache is of use, nothing is generated.
    Preparation,
}

/// What the path of a request says of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Whose grammar it has.
    pub kind: ApiKind,
    /// What it asks for.
    pub work: Work,
    /// The model that a path of Vertex AI names; counts when the body names none.
    pub model: Option<String>,
}

impl Call {
    /// The call behind a `:path`, by its longest known suffix, without query string and trailing slashes. `None` is for
    /// everything else; that includes relatives such as `/v1/chat/completions/batch`.
    #[must_use]
    pub fn of_path(path: &[u8]) -> Option<Self> {
        Self::of_route(&route(path))
    }

    fn of_route(route: &[u8]) -> Option<Self> {
        use ApiKind as Kind;
        use Work::{Inference, Preparation};
        // A suffix that is another's own suffix stands behind it: "/chat/completions" also ends in "/completions".
        const SUFFIXES: [(&[u8], Kind, Work); 17] = [
            (b"/chat/completions", Kind::ChatCompletions, Inference),
            (b"/v1/messages", Kind::Messages, Inference),
            (b"/completions", Kind::Completions, Inference),
            (b"/embeddings", Kind::Embeddings, Inference),
            (b"/responses", Kind::Responses, Inference),
            (b"/inference/v1/generate", Kind::VllmGenerate, Inference),
            (b"/generate", Kind::SglangGenerate, Inference),
            (b"/chat/completions/render", Kind::ChatCompletions, Preparation),
            (b"/completions/render", Kind::Completions, Preparation),
            (b"/v1/messages/render", Kind::Messages, Preparation),
            (b"/v1/messages/count_tokens", Kind::Messages, Preparation),
            (b"/images/generations", Kind::Images, Inference),
            (b"/images/edits", Kind::Images, Inference),
            (b":rawPredict", Kind::RawPredict, Inference),
            (b":streamRawPredict", Kind::RawPredict, Inference),
            (b"/vllm.grpc.engine.VllmEngine/Generate", Kind::GrpcGenerate, Inference),
            (b"/vllm.grpc.engine.VllmEngine/Embed", Kind::GrpcEmbed, Inference),
        ];
        let &(suffix, kind, work) = SUFFIXES.iter().find(|(suffix, ..)| route.ends_with(suffix))?;
        let model = route.strip_suffix(suffix).filter(|_| kind == Kind::RawPredict).and_then(model_of);
        Some(Self { kind, work, model })
    }
}

/// The name in `…/publishers/anthropic/models/NAME`.
fn model_of(resource: &[u8]) -> Option<String> {
    let mut segments = resource.rsplit(|&byte| byte == b'/');
    let (name, parent) = (segments.next()?, segments.next()?);
    let name = str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    (parent == b"models").then(|| name.to_owned())
}

/// What the body of a POST is read for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyUse {
    /// For routing.
    Routing(Call),
    /// Only for the key that no engine may see: it carries sampling parameters in a form that is not routed by.
    KeySearch,
    /// For nothing.
    Nothing,
}

impl BodyUse {
    /// What a body sent to this `:path` is read for; suffixes count as in [`Call::of_path`].
    #[must_use]
    pub fn of_path(path: &[u8]) -> Self {
        // vLLM's other routes to its engine: many chats at once, SageMaker's one route for every kind of body, Cohere's
        // chat. Its forms (audio) cannot express the object that holds the key.
        const SEARCHED: [&[u8]; 3] = [b"/chat/completions/batch", b"/invocations", b"/v2/chat"];
        let route = route(path);
        match Call::of_route(&route) {
            Some(call) => Self::Routing(call),
            None if SEARCHED.iter().any(|suffix| route.ends_with(suffix)) => Self::KeySearch,
            None => Self::Nothing,
        }
    }
}

/// The part of a `:path` that chooses a route.
fn route(path: &[u8]) -> Cow<'_, [u8]> {
    match unescaped(without_query(path)) {
        Cow::Borrowed(path) => Cow::Borrowed(without_trailing_slashes(path)),
        Cow::Owned(mut path) => {
            path.truncate(without_trailing_slashes(&path).len());
            Cow::Owned(path)
        }
    }
}

/// Servers send such paths on to the one without, or take them for it.
const fn without_trailing_slashes(mut path: &[u8]) -> &[u8] {
    while let [shorter @ .., b'/'] = path {
        path = shorter;
    }
    path
}

/// Without query string and fragment; a client has no business sending the latter, and servers drop it.
fn without_query(path: &[u8]) -> &[u8] {
    path.split(|&byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default()
}

/// What stands between the quotes when `text` is a JSON string.
fn json_inside(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// As the engines' servers see the path: `%2F` in it is a slash like any other. A wrong escape stays as it is.
fn unescaped(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.contains(&b'%') {
        return Cow::Borrowed(path);
    }
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.split_first_chunk::<2>().filter(|_| byte == b'%');
        let escaped = digits.and_then(|(digits, after)| {
            let text = core::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
            Some((u8::from_str_radix(text, 16).ok()?, after))
        });
        let (byte, behind) = escaped.unwrap_or((byte, behind));
        out.push(byte);
        rest = behind;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_suffix_names_the_api_and_relatives_pass_through() {
        let kind = |path: &str| ApiKind::from_path(path.as_bytes());
        assert_eq!(kind("/v1/chat/completions"), Some(ApiKind::ChatCompletions));
        assert_eq!(kind("/chat/completions?x=/v1/messages"), Some(ApiKind::ChatCompletions));
        assert_eq!(kind("/team-a/v1/completions"), Some(ApiKind::Completions));
        assert_eq!(kind("/v1/embeddings"), Some(ApiKind::Embeddings));
        assert_eq!(kind("/v1/responses"), Some(ApiKind::Responses));
        assert_eq!(kind("/v1/messages?beta=true"), Some(ApiKind::Messages));
        assert_eq!(kind("/v1/chat%2Fcompletions"), Some(ApiKind::ChatCompletions));
        assert_eq!(kind("/v1/%63hat%2fcompletion%73?a%2Fb"), Some(ApiKind::ChatCompletions));
        assert_eq!(kind("/v1/chat%252Fcompletions%"), None);
        assert_eq!(kind("/v1/chat/completions/"), Some(ApiKind::ChatCompletions));
        assert_eq!(kind("/v1/completions//?x=/"), Some(ApiKind::Completions));
        assert_eq!(kind("/v1/messages%2f%2F/#/v1/models"), Some(ApiKind::Messages));
        assert_eq!(kind("/inference/v1/generate"), Some(ApiKind::VllmGenerate));
        assert_eq!(kind("/generate?x"), Some(ApiKind::SglangGenerate));
        assert_eq!(kind("/v1/images/generations"), Some(ApiKind::Images));
        assert_eq!(kind("/vllm.grpc.engine.VllmEngine/Generate"), Some(ApiKind::GrpcGenerate));
        assert_eq!(kind("/vllm.grpc.engine.VllmEngine/Embed"), Some(ApiKind::GrpcEmbed));
        for other in [
            "/v1/chat/completions/batch",
            "/v1/responses/r1",
            "/v1/models",
            "/vllm.grpc.engine.VllmEngine/HealthCheck",
            "/regenerate",
            "",
            "/",
        ] {
            assert_eq!(kind(other), None, "{other}");
        }
    }

    #[test]
    fn what_only_renders_or_counts_is_no_inference() {
        for (path, kind) in [
            ("/v1/chat/completions/render", ApiKind::ChatCompletions),
            ("/v1/completions/render/", ApiKind::Completions),
            ("/v1/messages/render?x", ApiKind::Messages),
            ("/v1/messages/count_tokens?beta=true", ApiKind::Messages),
        ] {
            assert_eq!(
                Call::of_path(path.as_bytes()),
                Some(Call { kind, work: Work::Preparation, model: None }),
                "{path}"
            );
        }
    }

    #[test]
    fn vertex_names_the_model_in_the_path() {
        let model = |path: &str| Call::of_path(path.as_bytes()).and_then(|call| call.model);
        let anthropic = "/v1/projects/p/locations/l/publishers/anthropic/models/claude@1";
        for verb in [":rawPredict", ":streamRawPredict?alt=sse", "%3ArawPredict"] {
            let path = format!("{anthropic}{verb}");
            assert_eq!(model(&path).as_deref(), Some("claude@1"), "{path}");
            assert_eq!(Dialect::of_path(path.as_bytes()), Dialect::Anthropic, "{path}");
        }
        assert_eq!(model("/v1/projects/p/locations/l/endpoints/7:rawPredict"), None);
        assert_eq!(model("/v1/publishers/q/models/:rawPredict"), None);
        let chat = "/v1/projects/p/locations/l/endpoints/openapi/chat/completions";
        assert_eq!(ApiKind::from_path(chat.as_bytes()), Some(ApiKind::ChatCompletions));
        assert_eq!(Dialect::of_path(b"/v1/publishers/q/models/m:rawPredict"), Dialect::OpenAi);
    }

    #[test]
    fn bodies_with_sampling_parameters_are_searched_where_they_are_not_routed_by() {
        let of = |path: &str| BodyUse::of_path(path.as_bytes());
        for path in [
            "/v1/chat/completions/batch",
            "/v1/chat/completions/batch/?stream",
            "/t/v1/chat%2Fcompletions/b%61tch%2F",
            "/invocations",
            "/invocations/",
            "/cohere/v2/chat",
        ] {
            assert_eq!(of(path), BodyUse::KeySearch, "{path}");
        }
        let chat = Call { kind: ApiKind::ChatCompletions, work: Work::Inference, model: None };
        assert_eq!(of("/v1/chat/completions/?/batch"), BodyUse::Routing(chat));
        for path in [
            "/v1/models",
            "/inference/v1/abort_requests",
            "/v1/chat/completions/batches",
            "/v1/generate_more",
            "/tokenize?/generate",
            "/v1/chat",
            "",
            "//",
        ] {
            assert_eq!(of(path), BodyUse::Nothing, "{path}");
        }
    }

    #[test]
    fn everything_below_v1_messages_speaks_anthropic_and_the_engine_grpc() {
        let dialect = |path: &str| Dialect::of_path(path.as_bytes());
        for path in ["/v1/messages", "/v1/messages?x", "/v1/messages/count_tokens", "/t/v1/messages"] {
            assert_eq!(dialect(path), Dialect::Anthropic, "{path}");
        }
        assert_eq!(dialect("/vllm.grpc.engine.VllmEngine/Embed"), Dialect::Grpc);
        for path in ["/v1/messagesque", "/v1/chat/completions?/v1/messages", "/messages", ""] {
            assert_eq!(dialect(path), Dialect::OpenAi, "{path}");
        }
    }
}
