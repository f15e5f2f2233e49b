//! The real tokenizer: texts to tokens. The self-test and the canonicality check need it, requests never do.
//!
//! It is heavy (tens of times the table: 240 MB for Gemma 3): whoever needs it for the self-test only
//! drops it afterwards.

use super::ReadError;
use super::hugging_face;
use super::ranks::RankEncoder;

/// See the module.
pub struct Encoder(Kind);

enum Kind {
    HuggingFace(Box<tokenizers::Tokenizer>),
    Ranks(Box<RankEncoder>),
}

/// The tokenizer failed on a text. Its words may quote the text, so they are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tokenizer cannot encode this text")]
pub struct EncodeError;

impl Encoder {
    /// From a `tokenizer.json`. Takes seconds for the largest: not for an async thread.
    ///
    /// # Errors
    /// It is too large, or the tokenizer refuses it.
    pub(super) fn hugging_face(json: &[u8]) -> Result<Self, ReadError> {
        hugging_face::bounded(json)?;
        let refused = |why: String| ReadError::Encoder { what: hugging_face::FILE, why };
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(json).map_err(|error| refused(error.to_string()))?;
        tokenizer.with_truncation(None).map_err(|error| refused(error.to_string()))?;
        tokenizer.with_padding(None);
        Ok(Self(Kind::HuggingFace(Box::new(tokenizer))))
    }

    /// From ranks.
    pub(super) fn ranks(encoder: RankEncoder) -> Self {
        Self(Kind::Ranks(Box::new(encoder)))
    }

    /// Are its tokens the engine's own? A rank file without its pattern gives tokens that only spell the text.
    pub(super) fn matches_the_engine(&self) -> bool {
        match &self.0 {
            Kind::HuggingFace(_) => true,
            Kind::Ranks(ranks) => ranks.cuts_like_the_engine(),
        }
    }

    /// Tokens of a rendered text: special tokens in it count, none are added.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        match &self.0 {
            Kind::HuggingFace(tokenizer) => {
                tokenizer.encode_fast(text, false).map(|encoding| encoding.get_ids().to_vec()).map_err(|_| EncodeError)
            }
            Kind::Ranks(ranks) => ranks.encode(text).map_err(|_| EncodeError),
        }
    }
}
