//! What a value becomes, by where it stands and of what kind it is.

use super::{Capture, Counts, Extractor, Frame, Leaf, PromptShape};
use crate::api::body::canonical::{FIELD, MESSAGE, SECTION, TEXT};
use crate::api::body::member::{Head, Member, MessageMember, PartMember, SamplingMember};
use crate::api::body::opaque::Mode;
use crate::api::json::{NumberReader, Token};
use crate::api::{ApiKind, BodyError, Problem, ValueKind};

/// How a value that is not looked into is treated; `None` when it is.
type Opaquely = Option<(Mode, Capture)>;

const SKIP: Opaquely = Some((Mode::Skip, Capture::Nothing));

#[expect(clippy::wildcard_enum_match_arm, reason = "JSON's kinds are closed; all but the named ones are wrong")]
impl Extractor {
    /// A value of kind `found` begins at `at` with `token`.
    #[inline]
    pub(super) fn begin(&mut self, found: ValueKind, token: Token, at: u64) -> Opaquely {
        self.leaf_at = at;
        self.leaf_start = self.arena.len();
        match self.frames.last() {
            None => self.begin_body(found, at),
            Some(Frame::Body) => self.begin_member(found, token, at),
            Some(Frame::StreamOptions) => self.begin_stream_option(found, token, at),
            Some(Frame::EngineArguments) => SKIP,
            Some(Frame::SamplingParams) => self.begin_sampling_param(found, at),
            Some(Frame::Messages) => self.begin_message(found, at),
            Some(Frame::Message) => self.begin_message_member(found, at),
            Some(Frame::Content) => self.begin_part(found, at),
            Some(Frame::Part) => self.begin_part_member(found, at),
            Some(Frame::Prompt) => self.begin_prompt_element(found, at),
            Some(Frame::Batch) => {
                self.counts.batch += 1;
                self.begin_token_id(found, at)
            }
        }
    }

    fn enter(&mut self, frame: Frame) -> Opaquely {
        self.frames.push(frame);
        None
    }

    fn leaf(&mut self, leaf: Leaf) -> Opaquely {
        self.leaf = leaf;
        None
    }

    /// A string whose text goes to the arena behind `mark`.
    fn marked_leaf(&mut self, leaf: Leaf, mark: u8) -> Opaquely {
        self.arena.push(mark);
        self.leaf(leaf)
    }

    fn wrong(&self, expected: &'static str, found: ValueKind, at: u64) -> BodyError {
        BodyError { offset: at, path: self.place(), problem: Problem::WrongType { expected, found } }
    }

    fn wrong_member(&mut self, expected: &'static str, found: ValueKind, at: u64) -> Opaquely {
        if !self.is_blamed() {
            let error = self.wrong(expected, found, at);
            self.blame_member(error);
        }
        SKIP
    }

    fn wrong_content(&mut self, expected: &'static str, found: ValueKind, at: u64) -> Opaquely {
        if self.content_error.is_none() {
            self.content_error = Some(self.wrong(expected, found, at));
        }
        SKIP
    }

    fn begin_body(&mut self, found: ValueKind, at: u64) -> Opaquely {
        self.body_at = at;
        if found == ValueKind::Object {
            return self.enter(Frame::Body);
        }
        self.root_error = Some(self.wrong("an object", found, at));
        SKIP
    }

    fn begin_member(&mut self, found: ValueKind, token: Token, at: u64) -> Opaquely {
        let member = self.member;
        if member == Member::Ignored {
            return SKIP;
        }
        self.errors.retain(|(blamed, _)| *blamed != member);
        self.present.retain(|present| *present != member);
        if found != ValueKind::Null {
            self.present.push(member);
        }
        match member {
            Member::Ignored | Member::PromptEmbeds => SKIP,
            Member::Model => self.begin_model(found, at),
            Member::Stream => self.begin_stream(found, token, at),
            Member::StreamOptions => self.begin_stream_options(found, at),
            Member::EngineArguments if found == ValueKind::Object => self.enter(Frame::EngineArguments),
            Member::EngineArguments => SKIP,
            Member::MaxTokens => {
                self.settings.max_tokens = None;
                self.begin_limit(Leaf::MaxTokens, found, at)
            }
            Member::MaxCompletionTokens => {
                self.settings.max_completion_tokens = None;
                self.begin_limit(Leaf::MaxCompletionTokens, found, at)
            }
            Member::SamplingParams => {
                self.settings.max_tokens = None;
                // SGLang takes a list of them, too.
                if found == ValueKind::Object { self.enter(Frame::SamplingParams) } else { SKIP }
            }
            Member::CacheSalt => self.begin_cache_salt(found, at),
            Member::Head(head) => self.begin_head(head, found),
            Member::System => self.begin_system(found, at),
            Member::Messages => self.begin_messages("an array of messages", found, at),
            Member::Input => self.begin_input(found, at),
            // One of the two names is null wherever the other counts.
            Member::Prompt | Member::PromptIds if found == ValueKind::Null && self.has_prompt() => None,
            Member::Prompt | Member::PromptIds => self.begin_prompt(found, at),
        }
    }

    fn has_prompt(&self) -> bool {
        [Member::Prompt, Member::PromptIds].iter().any(|member| self.present.contains(member))
    }

    fn begin_model(&mut self, found: ValueKind, at: u64) -> Opaquely {
        self.settings.model.clear();
        self.settings.model_at = None;
        match found {
            ValueKind::String => {
                self.settings.model_at = Some(at);
                self.leaf(Leaf::Model)
            }
            ValueKind::Null => SKIP,
            // SGLang's adapters of several prompts.
            _ if self.kind == ApiKind::SglangGenerate => SKIP,
            _ => self.wrong_member("a string", found, at),
        }
    }

    fn begin_stream(&mut self, found: ValueKind, token: Token, at: u64) -> Opaquely {
        self.settings.stream = token == Token::Bool(true);
        match found {
            ValueKind::Boolean | ValueKind::Null => None,
            _ => self.wrong_member("a boolean", found, at),
        }
    }

    fn begin_stream_options(&mut self, found: ValueKind, at: u64) -> Opaquely {
        self.settings.include_usage = false;
        match found {
            ValueKind::Object => self.enter(Frame::StreamOptions),
            ValueKind::Null => None,
            _ => self.wrong_member("an object", found, at),
        }
    }

    fn begin_stream_option(&mut self, found: ValueKind, token: Token, at: u64) -> Opaquely {
        if !self.wants_usage {
            return SKIP;
        }
        self.errors.retain(|(blamed, _)| *blamed != Member::StreamOptions);
        self.settings.include_usage = token == Token::Bool(true);
        match found {
            ValueKind::Boolean | ValueKind::Null => None,
            _ => self.wrong_member("a boolean", found, at),
        }
    }

    fn begin_limit(&mut self, leaf: Leaf, found: ValueKind, at: u64) -> Opaquely {
        match found {
            ValueKind::Number => {
                self.number = NumberReader::default();
                self.leaf(leaf)
            }
            ValueKind::Null => None,
            _ => self.wrong_member("a whole number", found, at),
        }
    }

    fn begin_sampling_param(&mut self, found: ValueKind, at: u64) -> Opaquely {
        match self.sampling_member {
            SamplingMember::MaxTokens => {
                self.errors.retain(|(blamed, _)| *blamed != Member::SamplingParams);
                self.settings.max_tokens = None;
                self.begin_limit(Leaf::MaxTokens, found, at)
            }
            SamplingMember::EngineArguments if found == ValueKind::Object => self.enter(Frame::EngineArguments),
            SamplingMember::EngineArguments | SamplingMember::Ignored => SKIP,
        }
    }

    fn begin_cache_salt(&mut self, found: ValueKind, at: u64) -> Opaquely {
        self.settings.cache_salt.clear();
        self.settings.salted = found == ValueKind::String;
        match found {
            ValueKind::String => self.leaf(Leaf::Salt),
            ValueKind::Null => None,
            // Those of several prompts.
            _ if self.kind == ApiKind::SglangGenerate => SKIP,
            _ => self.wrong_member("a string", found, at),
        }
    }

    fn begin_head(&mut self, head: Head, found: ValueKind) -> Opaquely {
        if let Some(slot) = self.heads.get_mut(head.index()) {
            *slot = None;
        }
        if found == ValueKind::Null {
            return None;
        }
        self.arena.extend_from_slice(&[SECTION, head.mark()]);
        Some((self.copy_mode(), Capture::Head(head)))
    }

    fn begin_system(&mut self, found: ValueKind, at: u64) -> Opaquely {
        self.system.clear();
        match found {
            ValueKind::String | ValueKind::Array => {
                self.system_start = self.arena.len();
                self.arena.push(MESSAGE);
                self.arena.extend_from_slice(b"system");
                self.begin_content(found, at)
            }
            ValueKind::Null => None,
            _ => self.wrong_member("a string or an array of text parts", found, at),
        }
    }

    fn begin_messages(&mut self, expected: &'static str, found: ValueKind, at: u64) -> Opaquely {
        self.messages.clear();
        self.counts = Counts::default();
        match found {
            ValueKind::Array => self.enter(Frame::Messages),
            ValueKind::Null => None,
            _ => self.wrong_member(expected, found, at),
        }
    }

    fn begin_input(&mut self, found: ValueKind, at: u64) -> Opaquely {
        if found == ValueKind::String {
            self.messages.clear();
            self.arena.push(MESSAGE);
            self.arena.extend_from_slice(b"user");
            return self.marked_leaf(Leaf::InputText, TEXT);
        }
        self.begin_messages("a string or an array of items", found, at)
    }

    fn begin_message(&mut self, found: ValueKind, at: u64) -> Opaquely {
        self.counts.messages += 1;
        if found != ValueKind::Object {
            return self.wrong_member("an object", found, at);
        }
        self.message.restart(at);
        self.content.clear();
        self.content_error = None;
        self.enter(Frame::Message)
    }

    fn begin_message_member(&mut self, found: ValueKind, at: u64) -> Opaquely {
        match self.message_member {
            MessageMember::Role => {
                self.message.role = None;
                self.message.role_error = None;
                if found == ValueKind::String {
                    return self.marked_leaf(Leaf::Role, MESSAGE);
                }
                self.message.role_error = Some(self.wrong("a string", found, at));
                SKIP
            }
            MessageMember::Content => self.begin_content(found, at),
            MessageMember::Field => self.begin_field(Capture::MessageField),
            MessageMember::Ignored => SKIP,
        }
    }

    fn begin_content(&mut self, found: ValueKind, at: u64) -> Opaquely {
        self.content.clear();
        self.content_error = None;
        self.leaf_start = self.arena.len();
        match found {
            ValueKind::String => self.marked_leaf(Leaf::ContentText, TEXT),
            ValueKind::Array => {
                self.counts.parts = 0;
                self.enter(Frame::Content)
            }
            ValueKind::Null => None,
            _ => self.wrong_content("a string, an array of parts or null", found, at),
        }
    }

    fn begin_field(&mut self, capture: Capture) -> Opaquely {
        self.arena.push(FIELD);
        self.arena.extend_from_slice(&self.key);
        self.capture_key_end = self.arena.len();
        Some((self.copy_mode(), capture))
    }

    fn begin_part(&mut self, found: ValueKind, at: u64) -> Opaquely {
        self.counts.parts += 1;
        match found {
            ValueKind::Object => {
                self.part.restart(at);
                self.enter(Frame::Part)
            }
            ValueKind::String => self.marked_leaf(Leaf::TextItem, TEXT),
            _ => self.wrong_content("an object", found, at),
        }
    }

    fn begin_part_member(&mut self, found: ValueKind, at: u64) -> Opaquely {
        match self.part_member {
            PartMember::Type => {
                self.part.kind.clear();
                self.part.typed = found == ValueKind::String;
                self.part.kind_error = None;
                if found == ValueKind::String {
                    return self.leaf(Leaf::PartType);
                }
                self.part.kind_error = Some(self.wrong("a string", found, at));
                SKIP
            }
            PartMember::Text => {
                self.part.text = None;
                self.part.text_error = None;
                if found == ValueKind::String {
                    return self.marked_leaf(Leaf::PartText, TEXT);
                }
                self.part.text_error = Some(self.wrong("a string", found, at));
                SKIP
            }
            PartMember::Field => self.begin_field(Capture::PartField),
            PartMember::Ignored => SKIP,
        }
    }

    fn begin_prompt(&mut self, found: ValueKind, at: u64) -> Opaquely {
        self.prompts.clear();
        self.shape = PromptShape::Unknown;
        self.counts = Counts::default();
        self.prompt_start = self.arena.len();
        match found {
            ValueKind::String => self.leaf(Leaf::PromptText),
            ValueKind::Array => self.enter(Frame::Prompt),
            ValueKind::Null => None,
            _ => self.wrong_member("a string or an array of strings or token ids", found, at),
        }
    }

    #[inline]
    fn begin_prompt_element(&mut self, found: ValueKind, at: u64) -> Opaquely {
        self.counts.prompts += 1;
        if self.shape == PromptShape::Unknown {
            self.shape = match found {
                ValueKind::String => PromptShape::Text,
                ValueKind::Number => PromptShape::TokenIds,
                ValueKind::Array => PromptShape::Batches,
                _ => return self.wrong_member("a string, a token id or an array of token ids", found, at),
            };
        }
        match (self.shape, found) {
            (PromptShape::Text, ValueKind::String) if self.prompts.is_empty() => self.leaf(Leaf::PromptText),
            (PromptShape::Text, ValueKind::String) => self.marked_leaf(Leaf::PromptText, MESSAGE),
            (PromptShape::Batches, ValueKind::Array) => {
                self.counts.batch = 0;
                self.enter(Frame::Batch)
            }
            (PromptShape::TokenIds, _) => self.begin_token_id(found, at),
            (PromptShape::Batches, _) => self.wrong_member("an array of token ids like the ones before it", found, at),
            (PromptShape::Text | PromptShape::Unknown, _) => {
                self.wrong_member("a string like the ones before it", found, at)
            }
        }
    }

    #[inline]
    fn begin_token_id(&mut self, found: ValueKind, at: u64) -> Opaquely {
        if found == ValueKind::Number {
            self.number = NumberReader::default();
            return self.leaf(Leaf::TokenId);
        }
        self.wrong_member("a token id", found, at)
    }
}
