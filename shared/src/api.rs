//! The APIs of the engines as far as routing needs them: request bodies in ([`body`]), responses watched ([`response`]),
//! refusals out ([`reject`]). Nothing here builds a JSON tree: bodies are read once, in the chunks they arrive in.
//!
//! A path that no [`ApiKind`] knows is not an error: such requests pass through unread.

pub mod body;
pub mod body_error;
mod json;
pub mod reject;
pub mod response;

use std::borrow::Cow;

pub use body::{BodyScanner, CanonicalText, NoKeyThere, PromptView, RequestView, TokenIds, overwrite_keys};
pub use body_error::{BodyError, Problem, Syntax, ValueKind};
pub use reject::{ErrorReply, NoEndpointReason, Reject, reply};
pub use response::{ResponseProgress, ResponseScanner, Usage};

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
    /// The API behind a `:path`, by its longest known suffix, without the query string. `None` means pass-through; that
    /// includes relatives such as `/v1/messages/count_tokens` and `/v1/chat/completions/render`.
    #[must_use]
    pub fn from_path(path: &[u8]) -> Option<Self> {
        // Longest first: "/chat/completions" also ends in "/completions".
        const SUFFIXES: [(&[u8], ApiKind); 5] = [
            (b"/chat/completions", ApiKind::ChatCompletions),
            (b"/v1/messages", ApiKind::Messages),
            (b"/completions", ApiKind::Completions),
            (b"/embeddings", ApiKind::Embeddings),
            (b"/responses", ApiKind::Responses),
        ];
        let path = unescaped(without_query(path));
        SUFFIXES.iter().find(|(suffix, _)| path.ends_with(suffix)).map(|&(_, kind)| kind)
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

fn without_query(path: &[u8]) -> &[u8] {
    path.split(|&byte| byte == b'?').next().unwrap_or_default()
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
        for other in
            ["/v1/messages/count_tokens", "/v1/chat/completions/render", "/v1/responses/r1", "/v1/models", "", "/"]
        {
            assert_eq!(kind(other), None, "{other}");
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
