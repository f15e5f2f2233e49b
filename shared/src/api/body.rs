//! Request bodies: what routing needs of them, in one pass over the bytes as they arrive, without a JSON tree.
//!
//! Only broken JSON ends a body early. Whether members are missing or wrong is known at the end, because the last of two
//! members with one name counts.

mod canonical;
mod draft;
mod edit;
mod extract;
mod forbidden;
mod member;
mod message;
mod opaque;
mod search;
mod settings;
#[cfg(test)]
mod tests;

pub use canonical::{CanonicalText, TokenIds};
pub use edit::{Edit, NoStringThere, edited};
pub use search::KeySearch;

use std::ops::Range;

use crate::api::json::{Failure, Tokenizer};
use crate::api::{ApiKind, BodyError, Problem};

use extract::{Extractor, PromptShape};
use message::MessageReader;

/// What routing needs of one request body.
#[derive(Clone, Debug)]
pub struct RequestView<'a> {
    /// As the client spells it; never empty. `None` only where [`ApiKind::has_default_model`] says so.
    pub model: Option<&'a str>,
    /// Where in the body that stands: offsets of what is between its quotes. Means nothing where there is none.
    pub model_at: Range<u64>,
    /// Whether the answer is asked for as server-sent events.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// The client's bound on generated tokens; beyond `u32::MAX` it reads as that.
    pub max_output_tokens: Option<u32>,
    /// Separates the client's prefix cache from those of others; may be empty.
    pub cache_salt: Option<&'a str>,
    /// What the engine will read.
    pub prompt: PromptView<'a>,
    /// Where the body has a key that no engine may see: offsets of what is between its quotes.
    pub forbidden_keys: &'a [Range<u64>],
}

/// The prompt in a form that can be hashed.
#[derive(Clone, Copy, Debug)]
pub enum PromptView<'a> {
    /// Messages in canonical form, or a plain text; behind what stands for media, if there are any.
    Text(CanonicalText<'a>),
    /// A prompt that the client has tokenized.
    Tokens(TokenIds<'a>),
}

/// Reads one body after the other; the buffers are kept.
#[derive(Debug)]
pub struct BodyScanner {
    kind: ApiKind,
    tokenizer: Tokenizer,
    extractor: Extractor,
    message: MessageReader,
}

impl BodyScanner {
    /// A scanner at the start of a body of this API.
    #[must_use]
    pub fn new(kind: ApiKind) -> Self {
        Self {
            kind,
            tokenizer: Tokenizer::default(),
            extractor: Extractor::new(kind),
            message: MessageReader::default(),
        }
    }

    /// Forgets the body and begins another.
    pub fn restart(&mut self, kind: ApiKind) {
        self.kind = kind;
        self.tokenizer = Tokenizer::default();
        self.extractor.restart(kind);
        self.message.restart();
    }

    /// Takes the next bytes, split anywhere.
    ///
    /// # Errors
    /// The bytes so far are not the beginning of a JSON document, or of a gRPC message. Every later call fails the same
    /// way.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), BodyError> {
        if self.kind.is_grpc() {
            return self.message.push(chunk);
        }
        self.tokenizer.push(chunk, &mut self.extractor).map_err(syntax_error)
    }

    /// The body has ended: what it says. To be called once.
    ///
    /// # Errors
    /// The body is not what the API takes, or something is missing from it or wrong in it; the first such place is named.
    pub fn finish(&mut self) -> Result<RequestView<'_>, BodyError> {
        if self.kind.is_grpc() {
            self.message.finish(self.kind)?;
            return Ok(self.message.view());
        }
        self.tokenizer.finish(&mut self.extractor).map_err(syntax_error)?;
        self.extractor.judge()?;
        self.extractor.assemble();
        let Extractor { arena, settings, pieces, prompts, shape, forbidden, .. } = &self.extractor;
        let prompt = match shape {
            PromptShape::TokenIds | PromptShape::Batches if !self.extractor.has_head() => {
                let ids = prompts.first().map_or(&[][..], |span| span.of(arena));
                PromptView::Tokens(TokenIds::new(ids))
            }
            PromptShape::TokenIds | PromptShape::Batches | PromptShape::Unknown | PromptShape::Text => {
                PromptView::Text(CanonicalText::new(arena, pieces))
            }
        };
        Ok(RequestView {
            model: settings.model(self.kind, self.extractor.body_at())?,
            model_at: settings.model_at.map_or(0, |at| at + 1)..settings.model_end,
            stream: settings.stream,
            include_usage: settings.include_usage,
            max_output_tokens: settings.max_completion_tokens.or(settings.max_tokens),
            cache_salt: settings.cache_salt(),
            prompt,
            forbidden_keys: forbidden.ranges(),
        })
    }
}

const fn syntax_error(failure: Failure) -> BodyError {
    BodyError { offset: failure.at, path: String::new(), problem: Problem::Syntax(failure.syntax) }
}
