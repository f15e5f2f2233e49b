//! The APIs of the engines as far as routing needs them: request bodies in ([`body`]), responses watched ([`response`]),
//! refusals out ([`reject`]). Nothing here builds a JSON tree: bodies are read once, in the chunks they arrive in.
//!
//! A path that no [`BodyUse`] knows is not an error: such requests pass through unread.

pub mod body;
pub mod body_error;
pub(crate) mod json;
pub mod reject;
pub mod response;

use std::borrow::Cow;

pub use body::{BodyScanner, CanonicalText, Edit, KeySearch, NoStringThere, PromptView, RequestView, TokenIds, edited};
pub use body_error::{BodyError, Problem, Syntax, ValueKind};
pub use reject::{ErrorReply, NoEndpointReason, Reject, reply};
pub use response::{NameRestorer, ResponseProgress, ResponseScanner, Usage};

/// Whose error JSON the caller understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error":{"message","type","param","code"}}`.
    OpenAi,
    /// `{"type":"error","error":{"type","message"}}`.
    Anthropic,
}

impl Dialect {
    /// Anthropic for `/v1/messages` and everything below it, OpenAI for every other path. A query string is ignored.
    #[must_use]
    pub fn of_path(path: &[u8]) -> Self {
        const ROOT: &[u8] = b"/v1/messages";
        let path = unescaped(without_query(path));
        let below = |at: usize| path.get(at + ROOT.len()).is_none_or(|&next| next == b'/');
        if path.windows(ROOT.len()).enumerate().any(|(at, window)| window == ROOT && below(at)) {
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
}

impl ApiKind {
    /// The API behind a `:path`, by its longest known suffix, without query string and trailing slashes. `None` is for
    /// everything else; that includes relatives such as `/v1/messages/count_tokens` and `/v1/chat/completions/render`.
    #[must_use]
    pub fn from_path(path: &[u8]) -> Option<Self> {
        Self::of_route(&route(path))
    }

    fn of_route(route: &[u8]) -> Option<Self> {
        // Longest first: "/chat/completions" also ends in "/completions".
        const SUFFIXES: [(&[u8], ApiKind); 5] = [
            (b"/chat/completions", ApiKind::ChatCompletions),
            (b"/v1/messages", ApiKind::Messages),
            (b"/completions", ApiKind::Completions),
            (b"/embeddings", ApiKind::Embeddings),
            (b"/responses", ApiKind::Responses),
        ];
        SUFFIXES.iter().find(|(suffix, _)| route.ends_with(suffix)).map(|&(_, kind)| kind)
    }

    /// Whose errors a caller of this API understands.
    #[must_use]
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Messages => Dialect::Anthropic,
            Self::ChatCompletions | Self::Completions | Self::Embeddings | Self::Responses => Dialect::OpenAi,
        }
    }
}

/// What the body of a POST is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyUse {
    /// For routing.
    Routing(ApiKind),
    /// Only for the key that no engine may see: it carries sampling parameters in a form that is not routed by.
    KeySearch,
    /// For nothing.
    Nothing,
}

impl BodyUse {
    /// What a body sent to this `:path` is read for; suffixes count as in [`ApiKind::from_path`].
    #[must_use]
    pub fn of_path(path: &[u8]) -> Self {
        // vLLM's other routes to its engine: many chats at once, token ids (and the plain demo server), SageMaker's one
        // route for every kind of body, Cohere's chat. Its forms (audio) cannot express the object that holds the key.
        const SEARCHED: [&[u8]; 4] = [b"/chat/completions/batch", b"/generate", b"/invocations", b"/v2/chat"];
        let route = route(path);
        match ApiKind::of_route(&route) {
            Some(kind) => Self::Routing(kind),
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
        for other in
            ["/v1/messages/count_tokens", "/v1/chat/completions/render", "/v1/responses/r1", "/v1/models", "", "/"]
        {
            assert_eq!(kind(other), None, "{other}");
        }
    }

    #[test]
    fn bodies_with_sampling_parameters_are_searched_where_they_are_not_routed_by() {
        let of = |path: &str| BodyUse::of_path(path.as_bytes());
        for path in [
            "/v1/chat/completions/batch",
            "/v1/chat/completions/batch/?stream",
            "/t/v1/chat%2Fcompletions/b%61tch%2F",
            "/inference/v1/generate",
            "/inference/v1/generate//",
            "/generate#x",
            "/invocations",
            "/invocations/",
            "/cohere/v2/chat",
        ] {
            assert_eq!(of(path), BodyUse::KeySearch, "{path}");
        }
        assert_eq!(of("/v1/chat/completions/?/batch"), BodyUse::Routing(ApiKind::ChatCompletions));
        for path in [
            "/v1/models",
            "/inference/v1/abort_requests",
            "/v1/chat/completions/batches",
            "/v1/messages/count_tokens",
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
    fn everything_below_v1_messages_speaks_anthropic() {
        let dialect = |path: &str| Dialect::of_path(path.as_bytes());
        for path in ["/v1/messages", "/v1/messages?x", "/v1/messages/count_tokens", "/t/v1/messages"] {
            assert_eq!(dialect(path), Dialect::Anthropic, "{path}");
        }
        for path in ["/v1/messagesque", "/v1/chat/completions?/v1/messages", "/messages", ""] {
            assert_eq!(dialect(path), Dialect::OpenAi, "{path}");
        }
    }
}
