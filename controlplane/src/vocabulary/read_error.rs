//! Why a file is no vocabulary for exact mode: what was found, where, and what would be accepted instead.

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The file is larger than any real one.
    #[error("{what} has {bytes} bytes, more than {limit}")]
    TooLarge {
        /// Which file.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The largest accepted.
        limit: usize,
    },
    /// It is not what its name says.
    #[error("{what}: {why}")]
    Malformed {
        /// Which file.
        what: &'static str,
        /// The parser's words.
        why: String,
    },
    /// Well-formed, but its tokens' bytes would not be those of the text.
    #[error("{at}: {found} is not supported; supported: {supported}")]
    Unsupported {
        /// Path in the file.
        at: String,
        /// Value there.
        found: String,
        /// What may stand there.
        supported: &'static str,
    },
    /// An added token that swallows the white space around it: the text keeps it, the token's bytes do not.
    #[error("added token {content:?} ({id}) strips white space ({side}), which is not supported")]
    Strips {
        /// Its text.
        content: String,
        /// Its id.
        id: u32,
        /// `lstrip` or `rstrip`.
        side: &'static str,
    },
    /// A token id that cannot be.
    #[error("{what}: token id {id} {why}")]
    TokenId {
        /// Which file.
        what: &'static str,
        /// The id.
        id: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// Some text has no tokens.
    #[error("{what}: no token stands for byte 0x{byte:02x} alone, so some texts would lose it")]
    ByteMissing {
        /// Which file.
        what: &'static str,
        /// The byte.
        byte: u8,
    },
    /// A rank file names no special tokens, and every chat has some.
    #[error("{0}: special tokens unknown: give a tokenizer_config.json with added_tokens_decoder, or a list")]
    NoSpecialTokens(&'static str),
    /// The tokenizer cannot be built from it.
    #[error("{what}: the tokenizer refuses it: {why}")]
    Encoder {
        /// Which file.
        what: &'static str,
        /// Its words.
        why: String,
    },
}

/// Refuses what is larger than any real file of its kind.
pub(super) const fn within(what: &'static str, bytes: usize, limit: usize) -> Result<(), ReadError> {
    if bytes > limit { Err(ReadError::TooLarge { what, bytes, limit }) } else { Ok(()) }
}
