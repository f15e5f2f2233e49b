//! What was wrong with a request body, and where: a byte offset always, a path such as `messages[3].content` when the
//! body was JSON as far as that place.
//!
//! The sentence goes to the client, so it never quotes the body: names and kinds only.

use std::fmt;

/// A body that cannot be routed. `Display` is one sentence for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyError {
    /// Bytes before the offending one. For a missing member: those before its object.
    pub offset: u64,
    /// Where in the document, for example `messages[3].content`; empty for the document itself and for broken JSON.
    pub path: String,
    /// Which rule was broken.
    pub problem: Problem,
}

/// Which rule a body broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Not JSON.
    Syntax(Syntax),
    /// Not one gRPC message.
    Frame(Frame),
    /// A required member is absent (or null, which the APIs take for absent).
    Missing,
    /// A string that must not be empty.
    Empty,
    /// A value of a kind that the API does not take here.
    WrongType {
        /// What the API takes, ready for a sentence: `a string`.
        expected: &'static str,
        /// What stood there.
        found: ValueKind,
    },
    /// A number outside what the API takes here.
    OutOfRange {
        /// What the API takes, ready for a sentence.
        expected: &'static str,
    },
    /// A member that stands there again and again.
    Repeated {
        /// How often it may.
        most: usize,
    },
}

/// How a document broke the JSON grammar (RFC 8259, with the nesting limit of `serde_json`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Syntax {
    /// Nothing but whitespace.
    #[error("the body is empty")]
    Empty,
    /// A UTF-8 byte order mark.
    #[error("it starts with a byte order mark")]
    ByteOrderMark,
    /// The document stops early.
    #[error("it ends too early")]
    UnexpectedEnd,
    /// Something that starts no value.
    #[error("expected a value")]
    ExpectedValue,
    /// Something other than a string where a key must stand.
    #[error("expected a quoted key")]
    ExpectedKey,
    /// No colon behind a key.
    #[error("expected `:`")]
    ExpectedColon,
    /// Neither comma nor brace behind a member.
    #[error("expected `,` or `}}`")]
    ExpectedCommaOrBrace,
    /// Neither comma nor bracket behind an element.
    #[error("expected `,` or `]`")]
    ExpectedCommaOrBracket,
    /// More text behind the document.
    #[error("there is more behind the end of the document")]
    Trailing,
    /// Not `true`, `false` or `null`.
    #[error("unknown literal")]
    Literal,
    /// Not a JSON number.
    #[error("malformed number")]
    Number,
    /// An unknown escape sequence.
    #[error("unknown escape sequence")]
    Escape,
    /// A `\u` escape for half a surrogate pair.
    #[error("half a surrogate pair")]
    LoneSurrogate,
    /// A raw control byte inside a string.
    #[error("unescaped control byte in a string")]
    Control,
    /// Bytes that are not UTF-8 inside a string.
    #[error("invalid UTF-8")]
    Utf8,
    /// More than 127 containers inside each other.
    #[error("nested too deeply")]
    TooDeep,
}

/// How a body failed to be one message of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Frame {
    /// The message is not whole.
    #[error("it ends too early")]
    Cut,
    /// A call has one request.
    #[error("there is more than one")]
    Second,
    /// Its fields are not protobuf's.
    #[error("its fields cannot be read")]
    Fields,
}

/// The kinds of JSON values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// `-1.5e3`
    Number,
    /// `true`, `false`
    Boolean,
    /// `null`
    Null,
}

impl ValueKind {
    /// The word for it in a sentence, with its article.
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Boolean => "a boolean",
            Self::Null => "null",
        }
    }
}

impl std::error::Error for BodyError {}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, path, problem } = self;
        let place = if path.is_empty() { "the body" } else { path.as_str() };
        match problem {
            Problem::Syntax(syntax) => write!(f, "the body is not valid JSON: {syntax}, at byte {offset}"),
            Problem::Frame(frame) => write!(f, "the body is not a gRPC message: {frame}, at byte {offset}"),
            Problem::Missing => write!(f, "{place} is required, but missing from the object at byte {offset}"),
            Problem::Empty => write!(f, "{place} must not be empty, at byte {offset}"),
            Problem::WrongType { expected, found } => {
                write!(f, "{place} must be {expected}, got {}, at byte {offset}", found.phrase())
            }
            Problem::OutOfRange { expected } => write!(f, "{place} must be {expected}, at byte {offset}"),
            Problem::Repeated { most } => write!(f, "{place} stands there more than {most} times, at byte {offset}"),
        }
    }
}
