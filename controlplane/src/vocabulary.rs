//! What the tokens of a model stand for, as bytes: read once per model, off the request path.
//!
//! The bytes of a prompt's tokens are those of its text only after [`shared::text_form::TextForm`], and only for tokenizers that the
//! [`self_test`] has passed. A reader that does not know a shape refuses it: a wrong table would route by fiction.

pub mod canonical;
mod draft;
pub mod encoder;
pub mod fetch;
mod hugging_face;
pub mod model_files;
mod ranks;
mod read_error;
pub mod self_test;
pub mod table;
mod tekken;
#[cfg(test)]
pub(crate) mod testing;
mod tiktoken;

use xxhash_rust::xxh64::xxh64;

pub use read_error::ReadError;
use shared::text_form::{LeadingSpace, Spaces, TextForm};
use table::TokenTable;

/// A token with a meaning of its own, which stands in rendered prompts as its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    /// Its id.
    pub id: u32,
    /// What a template writes for it.
    pub text: String,
}

/// Tokens to bytes, and text to the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    table: TokenTable,
    form: TextForm,
    /// By id.
    special: Vec<SpecialToken>,
    bos: Vec<u32>,
    digest: u64,
}

/// Where decoding goes on: kept with a chain's last block, it decides about the first token of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seam {
    /// The next token begins a stretch of text, whose first space the tokenizer has added: it is dropped.
    Edge,
    /// Tokens decode to all their bytes.
    Within,
}

/// The engine's tokens are of another vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the vocabulary has no token {0}")]
pub struct UnknownToken(pub u32);

impl Vocabulary {
    fn new(table: TokenTable, form: TextForm, special: Vec<SpecialToken>, bos: Vec<u32>) -> Self {
        let mut digest = table.digest();
        for token in &special {
            digest = xxh64(token.text.as_bytes(), digest ^ u64::from(token.id));
        }
        digest = xxh64(format!("{form:?}").as_bytes(), digest);
        Self { table, form, special, bos, digest }
    }

    /// Names this vocabulary with its form: equal ids decode and compare alike.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.digest
    }

    /// Token ids are below this.
    #[must_use]
    pub fn size(&self) -> usize {
        self.table.size()
    }

    /// The bare table.
    #[must_use]
    pub const fn table(&self) -> &TokenTable {
        &self.table
    }

    /// What prompts go through before they are compared.
    #[must_use]
    pub const fn form(&self) -> &TextForm {
        &self.form
    }

    /// By id.
    #[must_use]
    pub fn special_tokens(&self) -> &[SpecialToken] {
        &self.special
    }

    /// Ids of the tokens behind [`TextForm::bos`].
    #[must_use]
    pub fn bos_tokens(&self) -> &[u32] {
        &self.bos
    }

    /// Has this token a meaning of its own?
    #[must_use]
    pub fn is_special(&self, token: u32) -> bool {
        self.special.binary_search_by_key(&token, |known| known.id).is_ok()
    }

    /// Where decoding begins at the root of a chain.
    #[must_use]
    pub const fn root(&self) -> Seam {
        match self.form.spaces {
            Spaces::Plain | Spaces::SentencePiece(LeadingSpace::Absent) => Seam::Within,
            Spaces::SentencePiece(LeadingSpace::First | LeadingSpace::EveryStretch) => Seam::Edge,
        }
    }

    /// Appends what `tokens` stand for to `out`, and tells where to go on.
    ///
    /// # Errors
    /// A token does not exist: `out` ends before it.
    pub fn decode(&self, tokens: &[u32], from: Seam, out: &mut Vec<u8>) -> Result<Seam, UnknownToken> {
        let mut seam = from;
        for &token in tokens {
            let mut bytes = self.table.bytes_of(token).ok_or(UnknownToken(token))?;
            if seam == Seam::Edge && !self.is_special(token) {
                bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            }
            out.extend_from_slice(bytes);
            seam = self.after(token);
        }
        Ok(seam)
    }

    fn after(&self, token: u32) -> Seam {
        match self.form.spaces {
            Spaces::SentencePiece(LeadingSpace::EveryStretch) if self.is_special(token) => Seam::Edge,
            Spaces::SentencePiece(_) | Spaces::Plain => Seam::Within,
        }
    }
}
