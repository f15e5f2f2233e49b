//! Bodies that routing does not read, searched for the one key that no engine may see.
//!
//! They have many shapes (a list of chats, token ids with sampling parameters, whatever SageMaker's one route takes), so
//! the key counts directly inside any object called `vllm_xargs` or `extra_args`, however deep; elsewhere it is text.
//! A body that is not JSON is an error and not free of the key: Python's reader takes UTF-16, too.

use std::ops::Range;

use super::forbidden::ForbiddenKeys;
use super::syntax_error;
use crate::api::BodyError;
use crate::api::json::{Sink, Token, Tokenizer};

/// Searches one body.
#[derive(Debug, Default)]
pub struct KeySearch {
    tokenizer: Tokenizer,
    place: Place,
}

impl KeySearch {
    /// Takes the next bytes, split anywhere.
    ///
    /// # Errors
    /// The bytes so far are not the beginning of a JSON document. Every later call fails the same way.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), BodyError> {
        self.tokenizer.push(chunk, &mut self.place).map_err(syntax_error)
    }

    /// The body has ended: where the key is, as [`RequestView::forbidden_keys`](super::RequestView) has it.
    ///
    /// # Errors
    /// The body is not JSON, or has the key more often than anybody means.
    pub fn finish(&mut self) -> Result<&[Range<u64>], BodyError> {
        self.tokenizer.finish(&mut self.place).map_err(syntax_error)?;
        self.place.found.error().map_or(Ok(self.place.found.ranges()), Err)
    }
}

/// Where in the document the search is.
#[derive(Debug, Default)]
struct Place {
    /// One bit per open container, the innermost lowest: 1 for an engine's extra arguments. The tokenizer lets no more
    /// containers inside each other than there are bits.
    arguments: u128,
    key: Vec<u8>,
    /// Offset of the key's opening quote.
    key_at: u64,
    in_key: bool,
    /// The key before the value that comes next is a name of such arguments.
    named: bool,
    found: ForbiddenKeys,
}

impl Sink for Place {
    #[inline]
    fn token(&mut self, token: Token, at: u64) {
        let named = std::mem::take(&mut self.named);
        match token {
            Token::KeyStart => {
                self.key.clear();
                self.key_at = at;
                self.in_key = true;
            }
            Token::KeyEnd => {
                self.in_key = false;
                self.named = matches!(self.key.as_slice(), b"vllm_xargs" | b"extra_args");
                if self.arguments & 1 == 1 {
                    self.found.see(&self.key, self.key_at, at);
                }
            }
            Token::ObjectStart => self.arguments = (self.arguments << 1) | u128::from(named),
            Token::ArrayStart => self.arguments <<= 1,
            Token::ObjectEnd | Token::ArrayEnd => self.arguments >>= 1,
            Token::StringStart
            | Token::StringEnd
            | Token::NumberStart
            | Token::NumberEnd
            | Token::Bool(_)
            | Token::Null => {}
        }
    }

    #[inline]
    fn text(&mut self, text: &[u8]) {
        if self.in_key {
            self.key.extend_from_slice(text);
        }
    }

    #[inline]
    fn buffer(&mut self) -> Option<&mut Vec<u8>> {
        self.in_key.then_some(&mut self.key)
    }
}
