//! What happens where a string, a number or a container ends.

use super::{Extractor, Frame, Leaf, PromptShape};
use crate::api::body::canonical::{Span, TEXT, push_span};
use crate::api::body::member::Member;
use crate::api::{ApiKind, BodyError, Problem};

/// Anthropic's clients open the system prompt with such a line, different in every request; vLLM strips it before it
/// renders the prompt.
const BILLING_LINE: &[u8] = b"x-anthropic-billing-header";

impl Extractor {
    /// `at`: offset of a string's closing quote.
    #[inline]
    pub(super) fn leaf_end(&mut self, at: u64) {
        let span = self.leaf_span();
        match self.leaf {
            Leaf::Key | Leaf::Salt | Leaf::PartType => {}
            Leaf::Model => self.settings.model_end = at,
            Leaf::Role => self.message.role = Some(span),
            Leaf::ContentText => {
                self.content.push(span);
                self.content_end();
            }
            Leaf::TextItem => self.content.push(span),
            Leaf::PartText => self.part.text = Some(span),
            Leaf::InputText => self.messages.push(span),
            Leaf::PromptText => {
                self.shape = PromptShape::Text;
                self.prompts.push(span);
            }
            Leaf::TokenId => match self.number.token_id() {
                Some(id) => self.arena.extend_from_slice(&id.to_le_bytes()),
                None => self.out_of_range("a token id from 0 to 4294967295"),
            },
            Leaf::MaxTokens => self.settings.max_tokens = self.limit(),
            Leaf::MaxCompletionTokens => self.settings.max_completion_tokens = self.limit(),
        }
    }

    fn limit(&mut self) -> Option<u32> {
        let limit = self.number.limit();
        if limit.is_none() {
            self.out_of_range("a whole number that is not negative");
        }
        limit
    }

    fn out_of_range(&mut self, expected: &'static str) {
        if !self.is_blamed() {
            let (offset, path) = (self.leaf_at, self.place());
            self.blame_member(BodyError { offset, path, problem: Problem::OutOfRange { expected } });
        }
    }

    pub(super) fn close(&mut self) {
        match self.frames.pop() {
            Some(Frame::Message) => self.message_end(),
            Some(Frame::Content) => self.content_end(),
            Some(Frame::Part) => self.part_end(),
            Some(Frame::Prompt) => {
                if matches!(self.shape, PromptShape::TokenIds | PromptShape::Batches) {
                    self.prompts.push(Span { start: self.prompt_start, end: self.arena.len() });
                }
            }
            Some(
                Frame::Body
                | Frame::StreamOptions
                | Frame::EngineArguments
                | Frame::SamplingParams
                | Frame::Messages
                | Frame::Batch,
            )
            | None => {}
        }
    }

    fn message_end(&mut self) {
        let role_missing = self.message.role.is_none()
            && self.message.role_error.is_none()
            && !self.message.may_lack_role(self.kind, &self.arena);
        if role_missing && !self.is_blamed() {
            self.message.role_error = Some(self.missing(self.message.at, ".role"));
        }
        let errors = [self.message.role_error.take(), self.content_error.take()];
        if let Some(error) = errors.into_iter().flatten().min_by_key(|error| error.offset) {
            self.blame_member(error);
        }
        self.message.push_to(&mut self.messages, &self.content, &mut self.arena);
    }

    fn missing(&self, offset: u64, member: &str) -> BodyError {
        BodyError { offset, path: self.place() + member, problem: Problem::Missing }
    }

    fn part_end(&mut self) {
        let kind_error = self.part.kind_error.take();
        if kind_error.is_some() {
            self.keep_content_error(kind_error);
            return;
        }
        if !self.part.is_text() {
            self.part.push_to(&mut self.content, &mut self.arena);
            return;
        }
        if let Some(text) = self.part.text {
            self.content.push(text);
        } else if self.content_error.is_none() {
            let error = self.part.text_error.take();
            self.content_error = Some(error.unwrap_or_else(|| self.missing(self.part.at, ".text")));
        }
    }

    /// The content is whole: the system prompt becomes a message here, a message waits for its other members.
    fn content_end(&mut self) {
        if self.frames.last() != Some(&Frame::Body) || self.member != Member::System {
            return;
        }
        if let Some(error) = self.content_error.take() {
            self.blame_member(error);
        }
        let head = Span { start: self.system_start, end: self.system_start + 1 + b"system".len() };
        self.system.push(head);
        let content = std::mem::take(&mut self.content);
        for &span in &content {
            if matches!(self.kind, ApiKind::Messages | ApiKind::RawPredict) {
                self.push_without_billing_line(span);
            } else {
                push_span(&mut self.system, span);
            }
        }
        self.content = content;
    }

    fn push_without_billing_line(&mut self, span: Span) {
        let text = Span { start: span.start + 1, end: span.end };
        if !text.of(&self.arena).starts_with(BILLING_LINE) {
            push_span(&mut self.system, span);
        } else if let Some(line) = text.of(&self.arena).iter().position(|&byte| byte == b'\n') {
            let mark = self.arena.len();
            self.arena.push(TEXT);
            push_span(&mut self.system, Span { start: mark, end: mark + 1 });
            push_span(&mut self.system, Span { start: text.start + line + 1, end: text.end });
        }
    }
}
