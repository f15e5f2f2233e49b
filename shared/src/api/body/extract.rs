//! From tokens to what routing needs: follows the one path through a body that matters and passes over the rest.
//!
//! Only broken JSON stops a body at once. A wrong value is remembered with its member and forgotten when the member comes
//! again, because the last one counts; what is left is judged at the end.

mod begin;
mod complete;

use super::canonical::{Span, push_span};
use super::draft::{Field, MessageDraft, PartDraft};
use super::forbidden::ForbiddenKeys;
use super::member::{HEADS, Head, Member, MessageMember, PartMember, SamplingMember};
use super::opaque::{Mode, Opaque};
use super::settings::Settings;
use crate::api::json::{NumberReader, Sink, Token};
use crate::api::{ApiKind, BodyError, Problem, ValueKind};

/// The arena keeps this much between bodies: one huge body must not pin its size for the life of a worker.
const KEPT_BYTES: usize = 4 << 20;

/// An open container that is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Body,
    StreamOptions,
    EngineArguments,
    SamplingParams,
    Messages,
    Message,
    Content,
    Part,
    Prompt,
    /// A list of token ids inside `Prompt`.
    Batch,
}

/// What becomes of the text of the open key, string or number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaf {
    Key,
    Model,
    Salt,
    Role,
    /// A message's content that is one string.
    ContentText,
    /// A string among content parts.
    TextItem,
    PartType,
    PartText,
    /// The Responses API's input that is one string.
    InputText,
    PromptText,
    TokenId,
    MaxTokens,
    MaxCompletionTokens,
}

/// What a value that is copied whole belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Capture {
    Nothing,
    Head(Head),
    MessageField,
    PartField,
}

/// The shape of a prompt that is not messages, known from its first element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PromptShape {
    #[default]
    Unknown,
    Text,
    TokenIds,
    Batches,
}

/// Elements begun in each list on the way to the current value.
#[derive(Debug, Default)]
struct Counts {
    messages: u64,
    parts: u64,
    prompts: u64,
    batch: u64,
}

#[derive(Debug)]
pub(super) struct Extractor {
    kind: ApiKind,
    /// All text that is kept, in the order of the body.
    pub(super) arena: Vec<u8>,
    key: Vec<u8>,
    /// Offset of the key's opening quote.
    key_at: u64,
    frames: Vec<Frame>,
    leaf: Leaf,
    leaf_at: u64,
    leaf_start: usize,
    number: NumberReader,
    opaque: Option<Opaque>,
    capture: Capture,
    capture_key_end: usize,
    member: Member,
    message_member: MessageMember,
    part_member: PartMember,
    wants_usage: bool,
    sampling_member: SamplingMember,
    counts: Counts,
    body_at: u64,
    pub(super) settings: Settings,
    heads: [Option<Span>; HEADS],
    system: Vec<Span>,
    system_start: usize,
    messages: Vec<Span>,
    message: MessageDraft,
    content: Vec<Span>,
    content_error: Option<BodyError>,
    part: PartDraft,
    pub(super) shape: PromptShape,
    pub(super) prompts: Vec<Span>,
    prompt_start: usize,
    /// Members that brought a prompt.
    present: Vec<Member>,
    errors: Vec<(Member, BodyError)>,
    root_error: Option<BodyError>,
    pub(super) forbidden: ForbiddenKeys,
    /// The canonical text, once complete.
    pub(super) pieces: Vec<Span>,
}

impl Extractor {
    pub(super) fn new(kind: ApiKind) -> Self {
        Self {
            kind,
            arena: Vec::new(),
            key: Vec::new(),
            key_at: 0,
            frames: Vec::new(),
            leaf: Leaf::Key,
            leaf_at: 0,
            leaf_start: 0,
            number: NumberReader::default(),
            opaque: None,
            capture: Capture::Nothing,
            capture_key_end: 0,
            member: Member::Ignored,
            message_member: MessageMember::Ignored,
            part_member: PartMember::Ignored,
            wants_usage: false,
            sampling_member: SamplingMember::Ignored,
            counts: Counts::default(),
            body_at: 0,
            settings: Settings::default(),
            heads: [None; HEADS],
            system: Vec::new(),
            system_start: 0,
            messages: Vec::new(),
            message: MessageDraft::default(),
            content: Vec::new(),
            content_error: None,
            part: PartDraft::default(),
            shape: PromptShape::Unknown,
            prompts: Vec::new(),
            prompt_start: 0,
            present: Vec::new(),
            errors: Vec::new(),
            root_error: None,
            forbidden: ForbiddenKeys::default(),
            pieces: Vec::new(),
        }
    }

    /// Begins another body, keeping the buffers.
    pub(super) fn restart(&mut self, kind: ApiKind) {
        self.kind = kind;
        self.arena.clear();
        self.arena.shrink_to(KEPT_BYTES);
        self.frames.clear();
        self.opaque = None;
        self.body_at = 0;
        self.settings.restart();
        self.heads = [None; HEADS];
        for spans in [&mut self.system, &mut self.messages, &mut self.content, &mut self.prompts, &mut self.pieces] {
            spans.clear();
        }
        self.content_error = None;
        self.shape = PromptShape::Unknown;
        self.present.clear();
        self.errors.clear();
        self.root_error = None;
        self.forbidden.restart();
    }

    /// Where the value at hand stands, for example `messages[3].content[0].text`.
    fn place(&self) -> String {
        let mut place = String::new();
        let last = |count: u64| count.saturating_sub(1);
        for frame in &self.frames {
            match frame {
                Frame::Body => place.push_str(self.member.name(self.kind)),
                Frame::StreamOptions => place.push_str(".include_usage"),
                // Nothing in there is looked at, so nothing is wrong.
                Frame::EngineArguments => {}
                Frame::SamplingParams => place.push_str(SamplingMember::path(self.kind)),
                Frame::Messages => place.push_str(&format!("[{}]", last(self.counts.messages))),
                Frame::Message => place.push_str(match self.message_member {
                    MessageMember::Role => ".role",
                    MessageMember::Content => ".content",
                    MessageMember::Field | MessageMember::Ignored => "",
                }),
                Frame::Content => place.push_str(&format!("[{}]", last(self.counts.parts))),
                Frame::Part => place.push_str(match self.part_member {
                    PartMember::Type => ".type",
                    PartMember::Text => ".text",
                    PartMember::Field | PartMember::Ignored => "",
                }),
                Frame::Prompt => place.push_str(&format!("[{}]", last(self.counts.prompts))),
                Frame::Batch => place.push_str(&format!("[{}]", last(self.counts.batch))),
            }
        }
        place
    }

    /// Remembers the first error of the current member.
    fn blame_member(&mut self, error: BodyError) {
        if !self.is_blamed() {
            self.errors.push((self.member, error));
        }
    }

    fn is_blamed(&self) -> bool {
        self.errors.iter().any(|(member, _)| *member == self.member)
    }

    fn keep_content_error(&mut self, error: Option<BodyError>) {
        if self.content_error.is_none() {
            self.content_error = error;
        }
    }

    #[inline]
    fn leaf_span(&self) -> Span {
        Span { start: self.leaf_start, end: self.arena.len() }
    }

    /// `at`: offset of the closing quote.
    fn key_end(&mut self, at: u64) {
        match self.frames.last() {
            Some(Frame::Body) => self.member = Member::of(self.kind, &self.key),
            Some(Frame::StreamOptions) => self.wants_usage = self.key == b"include_usage",
            Some(Frame::EngineArguments) => self.forbidden.see(&self.key, self.key_at, at),
            Some(Frame::SamplingParams) => self.sampling_member = SamplingMember::of(self.kind, &self.key),
            Some(Frame::Message) => self.message_member = MessageMember::of(self.kind, &self.key),
            Some(Frame::Part) => self.part_member = PartMember::of(&self.key),
            Some(Frame::Messages | Frame::Content | Frame::Prompt | Frame::Batch) | None => {}
        }
    }

    fn opaque_end(&mut self) {
        self.opaque = None;
        let span = self.leaf_span();
        let field = Field { span, key_end: self.capture_key_end };
        match std::mem::replace(&mut self.capture, Capture::Nothing) {
            Capture::Nothing => {}
            Capture::Head(head) => {
                if let Some(slot) = self.heads.get_mut(head.index()) {
                    *slot = Some(span);
                }
            }
            Capture::MessageField => self.message.fields.push(field),
            Capture::PartField => self.part.fields.push(field),
        }
    }

    const fn copy_mode(&self) -> Mode {
        if matches!(self.kind, ApiKind::Messages | ApiKind::RawPredict) {
            Mode::CopyWithoutCacheControl
        } else {
            Mode::Copy
        }
    }

    #[inline]
    fn start(&mut self, found: ValueKind, token: Token, at: u64) {
        if let Some((mode, capture)) = self.begin(found, token, at) {
            self.capture = capture;
            let mut opaque = Opaque::new(mode);
            if opaque.token(token, &mut self.arena) {
                self.opaque_end();
            } else {
                self.opaque = Some(opaque);
            }
        }
    }

    /// The most specific complaint: the first in the body, then what is missing from it.
    pub(super) fn judge(&mut self) -> Result<(), BodyError> {
        let wrong =
            self.errors.drain(..).map(|(_, error)| error).chain(self.root_error.take()).chain(self.forbidden.error());
        if let Some(error) = wrong.min_by_key(|error| error.offset) {
            return Err(error);
        }
        self.settings.model(self.kind, self.body_at)?;
        let required = Member::required(self.kind);
        let Some(first) = required.first().filter(|_| !required.iter().any(|member| self.present.contains(member)))
        else {
            return Ok(());
        };
        Err(BodyError { offset: self.body_at, path: first.name(self.kind).to_owned(), problem: Problem::Missing })
    }

    /// Does something stand before the prompts?
    pub(super) fn has_head(&self) -> bool {
        self.heads.iter().any(Option::is_some)
    }

    pub(super) const fn body_at(&self) -> u64 {
        self.body_at
    }

    /// Puts the sections into canonical order.
    pub(super) fn assemble(&mut self) {
        self.pieces.clear();
        let heads = self.heads.iter().flatten();
        for &span in heads.chain(&self.system).chain(&self.messages).chain(&self.prompts) {
            push_span(&mut self.pieces, span);
        }
    }
}

impl Sink for Extractor {
    #[inline]
    fn token(&mut self, token: Token, at: u64) {
        if let Some(opaque) = &mut self.opaque {
            if opaque.token(token, &mut self.arena) {
                self.opaque_end();
            }
            return;
        }
        match token {
            Token::KeyStart => {
                self.key.clear();
                self.key_at = at;
                self.leaf = Leaf::Key;
            }
            Token::KeyEnd => self.key_end(at),
            Token::StringEnd | Token::NumberEnd => self.leaf_end(at),
            Token::ObjectEnd | Token::ArrayEnd => self.close(),
            Token::ObjectStart => self.start(ValueKind::Object, token, at),
            Token::ArrayStart => self.start(ValueKind::Array, token, at),
            Token::StringStart => self.start(ValueKind::String, token, at),
            Token::NumberStart => self.start(ValueKind::Number, token, at),
            Token::Bool(_) => self.start(ValueKind::Boolean, token, at),
            Token::Null => self.start(ValueKind::Null, token, at),
        }
    }

    #[inline]
    fn text(&mut self, text: &[u8]) {
        if let Some(opaque) = &self.opaque {
            opaque.text(text, &mut self.arena);
            return;
        }
        match self.leaf {
            Leaf::Role | Leaf::ContentText | Leaf::TextItem | Leaf::PartText | Leaf::InputText | Leaf::PromptText => {
                self.arena.extend_from_slice(text)
            }
            Leaf::Key => self.key.extend_from_slice(text),
            Leaf::Model => self.settings.model.extend_from_slice(text),
            Leaf::Salt => self.settings.cache_salt.extend_from_slice(text),
            Leaf::PartType => self.part.kind.extend_from_slice(text),
            Leaf::TokenId | Leaf::MaxTokens | Leaf::MaxCompletionTokens => self.number.push(text),
        }
    }

    #[inline]
    fn buffer(&mut self) -> Option<&mut Vec<u8>> {
        if let Some(opaque) = &self.opaque {
            return opaque.is_copying().then_some(&mut self.arena);
        }
        match self.leaf {
            Leaf::Role | Leaf::ContentText | Leaf::TextItem | Leaf::PartText | Leaf::InputText | Leaf::PromptText => {
                Some(&mut self.arena)
            }
            Leaf::Key => Some(&mut self.key),
            Leaf::Model => Some(&mut self.settings.model),
            Leaf::Salt => Some(&mut self.settings.cache_salt),
            Leaf::PartType => Some(&mut self.part.kind),
            Leaf::TokenId | Leaf::MaxTokens | Leaf::MaxCompletionTokens => None,
        }
    }
}
