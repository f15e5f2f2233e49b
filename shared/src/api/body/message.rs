//! Requests of vLLM's gRPC service, `vllm.grpc.engine.VllmEngine`: prompt, limit and stream flag out of one message.
//!
//! Field numbers are those of vLLM's `vllm_engine.proto`. A compressed message is passed on unread: its prompt is empty,
//! and such a request goes where the load is least.

use super::canonical::{CanonicalText, Span, TokenIds, push_span};
use super::{PromptView, RequestView};
use crate::api::body_error::Frame;
use crate::api::grpc::{Fields, Frames, Malformed, Piece, Value};
use crate::api::{ApiKind, BodyError, Problem};

/// The message keeps this much between bodies.
const KEPT_BYTES: usize = 4 << 20;

/// Which field of the prompt came last: only that one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Prompt {
    #[default]
    None,
    Text,
    TokenIds,
}

#[derive(Debug, Default)]
pub(super) struct MessageReader {
    frames: Frames,
    message: Vec<u8>,
    begun: bool,
    compressed: bool,
    failure: Option<BodyError>,
    offset: u64,
    /// Media first, then the prompt: its text, or its ids as little-endian words.
    arena: Vec<u8>,
    pieces: Vec<Span>,
    prompt: Prompt,
    prompt_start: usize,
    max_tokens: Option<u32>,
    stream: bool,
}

impl MessageReader {
    pub(super) fn restart(&mut self) {
        let (mut message, mut arena) = (std::mem::take(&mut self.message), std::mem::take(&mut self.arena));
        for buffer in [&mut message, &mut arena] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES);
        }
        *self = Self { message, arena, ..Self::default() };
    }

    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), BodyError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let mut rest = chunk;
        while let Some(piece) = self.frames.next(&mut rest) {
            match piece {
                Piece::Start { .. } if self.begun => {
                    let failure = self.wrong(Frame::Second);
                    self.failure = Some(failure.clone());
                    return Err(failure);
                }
                Piece::Start { compressed } => (self.begun, self.compressed) = (true, compressed),
                Piece::Bytes(bytes) if !self.compressed => self.message.extend_from_slice(bytes),
                Piece::Bytes(_) | Piece::End => {}
            }
        }
        self.offset = self.offset.saturating_add(chunk.len() as u64);
        Ok(())
    }

    const fn wrong(&self, frame: Frame) -> BodyError {
        BodyError { offset: self.offset, path: String::new(), problem: Problem::Frame(frame) }
    }

    /// Reads the message, which is whole.
    pub(super) fn finish(&mut self, kind: ApiKind) -> Result<(), BodyError> {
        if !self.begun || !self.frames.is_between() {
            return Err(self.wrong(Frame::Cut));
        }
        let message = std::mem::take(&mut self.message);
        let read = self.read(kind, &message);
        self.message = message;
        read.map_err(|Malformed| self.wrong(Frame::Fields))?;
        push_span(&mut self.pieces, Span { start: self.prompt_start, end: self.arena.len() });
        Ok(())
    }

    /// What the message says, once it is read.
    pub(super) fn view(&self) -> RequestView<'_> {
        let prompt = match self.prompt {
            Prompt::TokenIds if self.prompt_start == 0 => PromptView::Tokens(TokenIds::new(&self.arena)),
            Prompt::TokenIds | Prompt::Text | Prompt::None => {
                PromptView::Text(CanonicalText::new(&self.arena, &self.pieces))
            }
        };
        RequestView {
            model: None,
            model_at: 0..0,
            stream: self.stream,
            include_usage: true,
            max_output_tokens: self.max_tokens,
            cache_salt: None,
            prompt,
            forbidden_keys: &[],
        }
    }

    /// In two passes, because the wire has fields in any order.
    fn read(&mut self, kind: ApiKind, message: &[u8]) -> Result<(), Malformed> {
        const MEDIA: u32 = 7;
        if kind == ApiKind::GrpcGenerate {
            for field in Fields::new(message) {
                if let (MEDIA, Value::Bytes(media)) = field? {
                    self.media(media)?;
                }
            }
        }
        self.prompt_start = self.arena.len();
        push_span(&mut self.pieces, Span { start: 0, end: self.prompt_start });
        for field in Fields::new(message) {
            match (kind, field?) {
                (_, (2, Value::Bytes(tokenized))) => self.tokenized(tokenized)?,
                (ApiKind::GrpcGenerate, (3, Value::Bytes(text))) => {
                    self.begin_prompt(Prompt::Text);
                    self.arena.extend_from_slice(text);
                }
                (ApiKind::GrpcGenerate, (4, Value::Bytes(sampling))) => self.sampling(sampling)?,
                (ApiKind::GrpcGenerate, (5, Value::Varint(stream))) => self.stream = stream != 0,
                _ => {}
            }
        }
        Ok(())
    }

    /// A text replaces what came before it, ids continue ids.
    fn begin_prompt(&mut self, prompt: Prompt) {
        if prompt == Prompt::Text || self.prompt != prompt {
            self.arena.truncate(self.prompt_start);
        }
        self.prompt = prompt;
    }

    fn tokenized(&mut self, tokenized: &[u8]) -> Result<(), Malformed> {
        self.begin_prompt(Prompt::TokenIds);
        for field in Fields::new(tokenized) {
            if let (2, ids) = field? {
                Fields::numbers(ids, |id| self.arena.extend_from_slice(&id.to_le_bytes()))?;
            }
        }
        Ok(())
    }

    fn sampling(&mut self, sampling: &[u8]) -> Result<(), Malformed> {
        for field in Fields::new(sampling) {
            if let (8, most) = field? {
                self.max_tokens = most.number();
            }
        }
        Ok(())
    }

    /// By their hashes: the rest is tensors.
    fn media(&mut self, media: &[u8]) -> Result<(), Malformed> {
        for field in Fields::new(media) {
            if let (6, Value::Bytes(hash)) = field? {
                self.arena.extend_from_slice(hash);
                self.arena.push(b'\n');
            }
        }
        Ok(())
    }
}
