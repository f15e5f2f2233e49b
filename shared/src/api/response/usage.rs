//! Token counts out of one JSON document, found by its structure: `usage` at the top, or inside a `response` or a
//! `message` there; `meta_info` at SGLang's. The same words inside the generated text mean nothing.
//!
//! A document that is not JSON, or ends early, yields nothing.

use crate::api::json::{NumberReader, Sink, Token, Tokenizer};

/// Token counts as the engine reports them. What it does not report is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// `prompt_tokens` or `input_tokens`. Whether Anthropic's `input_tokens` include the cached ones is the engine's choice.
    pub prompt_tokens: Option<u32>,
    /// `completion_tokens` or `output_tokens`.
    pub output_tokens: Option<u32>,
    /// Prompt tokens that came out of the prefix cache: `cached_tokens` of the details or of SGLang's
    /// `meta_info`, or `cache_read_input_tokens`.
    pub cached_tokens: Option<u32>,
}

impl Usage {
    /// Anthropic reports in two events: what `later` says wins, what it leaves out stays.
    #[must_use]
    pub(super) fn merged(self, later: Self) -> Self {
        Self {
            prompt_tokens: later.prompt_tokens.or(self.prompt_tokens),
            output_tokens: later.output_tokens.or(self.output_tokens),
            cached_tokens: later.cached_tokens.or(self.cached_tokens),
        }
    }
}

/// What one document said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) usage: Option<Usage>,
    /// It lists choices, and there are none: OpenAI's closing chunk.
    pub(super) no_choices: bool,
}

/// Reads one document after the other.
#[derive(Debug, Default)]
pub(super) struct UsageReader {
    tokenizer: Tokenizer,
    search: Search,
    broken: bool,
}

impl UsageReader {
    pub(super) fn restart(&mut self) {
        self.tokenizer = Tokenizer::default();
        self.search.restart();
        self.broken = false;
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.broken = self.broken || self.tokenizer.push(bytes, &mut self.search).is_err();
    }

    pub(super) fn finish(&mut self) -> Reading {
        if self.broken || self.tokenizer.finish(&mut self.search).is_err() {
            return Reading::default();
        }
        Reading { usage: self.search.usage, no_choices: self.search.choices == Choices::Empty }
    }
}

/// Longer keys than this are none of ours.
const MAX_KEY: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Document,
    /// `response` or `message` of an event.
    Wrapper,
    Usage,
    Details,
    Choices,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Member {
    Usage,
    Wrapper,
    Choices,
    Prompt,
    Output,
    Cached,
    Details,
    #[default]
    Other,
}

impl Member {
    fn of(scope: Option<Scope>, key: &[u8]) -> Self {
        match (scope, key) {
            (Some(Scope::Document | Scope::Wrapper), b"usage") | (Some(Scope::Document), b"meta_info") => Self::Usage,
            (Some(Scope::Document), b"response" | b"message") => Self::Wrapper,
            (Some(Scope::Document), b"choices") => Self::Choices,
            (Some(Scope::Usage), b"prompt_tokens" | b"input_tokens") => Self::Prompt,
            (Some(Scope::Usage), b"completion_tokens" | b"output_tokens") => Self::Output,
            (Some(Scope::Usage), b"cache_read_input_tokens" | b"cached_tokens")
            | (Some(Scope::Details), b"cached_tokens") => Self::Cached,
            (Some(Scope::Usage), b"prompt_tokens_details" | b"input_tokens_details") => Self::Details,
            _ => Self::Other,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Choices {
    #[default]
    Unlisted,
    Empty,
    Some,
}

#[derive(Debug, Default)]
struct Search {
    scopes: Vec<Scope>,
    /// Open containers inside the innermost scope.
    depth: u32,
    key: Vec<u8>,
    in_key: bool,
    member: Member,
    number: Option<NumberReader>,
    usage: Option<Usage>,
    choices: Choices,
}

impl Search {
    fn restart(&mut self) {
        self.scopes.clear();
        self.key.clear();
        *self =
            Self { scopes: std::mem::take(&mut self.scopes), key: std::mem::take(&mut self.key), ..Self::default() };
    }

    /// A value begins in the innermost scope. Returns the scope that it opens, if it is a container of interest.
    fn begin(&mut self, token: Token) -> Option<Scope> {
        let Some(&scope) = self.scopes.last() else {
            return (token == Token::ObjectStart).then_some(Scope::Document);
        };
        if scope == Scope::Choices {
            self.choices = Choices::Some;
            return None;
        }
        match (self.member, token) {
            (Member::Usage, _) => {
                let object = token == Token::ObjectStart;
                self.usage = object.then(Usage::default);
                object.then_some(Scope::Usage)
            }
            (Member::Wrapper, Token::ObjectStart) => Some(Scope::Wrapper),
            (Member::Details, Token::ObjectStart) => Some(Scope::Details),
            (Member::Choices, Token::ArrayStart) => {
                self.choices = Choices::Empty;
                Some(Scope::Choices)
            }
            (Member::Prompt | Member::Output | Member::Cached, Token::NumberStart) => {
                self.number = Some(NumberReader::default());
                None
            }
            _ => None,
        }
    }

    fn open(&mut self, token: Token) {
        if self.depth > 0 {
            self.depth += 1;
            return;
        }
        match self.begin(token) {
            Some(scope) => self.scopes.push(scope),
            None => self.depth = 1,
        }
    }

    fn close(&mut self) {
        if self.depth > 0 {
            self.depth -= 1;
        } else {
            self.scopes.pop();
        }
    }

    fn count(&mut self, count: Option<u32>) {
        let usage = self.usage.get_or_insert_default();
        match self.member {
            Member::Prompt => usage.prompt_tokens = count,
            Member::Output => usage.output_tokens = count,
            Member::Cached => usage.cached_tokens = count,
            Member::Usage | Member::Wrapper | Member::Choices | Member::Details | Member::Other => {}
        }
    }
}

impl Sink for Search {
    fn token(&mut self, token: Token, _at: u64) {
        match token {
            Token::ObjectStart | Token::ArrayStart => self.open(token),
            Token::ObjectEnd | Token::ArrayEnd => self.close(),
            _ if self.depth > 0 => {}
            Token::KeyStart => {
                self.key.clear();
                self.in_key = true;
            }
            Token::KeyEnd => {
                self.in_key = false;
                self.member = Member::of(self.scopes.last().copied(), &self.key);
            }
            Token::NumberEnd => {
                if let Some(number) = self.number.take() {
                    self.count(number.limit());
                }
            }
            Token::StringStart | Token::NumberStart | Token::Bool(_) | Token::Null => {
                self.begin(token);
            }
            Token::StringEnd => {}
        }
    }

    fn text(&mut self, text: &[u8]) {
        if self.depth > 0 {
            return;
        }
        if self.in_key {
            // One byte more than fits makes the key unknown.
            let room = (MAX_KEY + 1).saturating_sub(self.key.len());
            self.key.extend_from_slice(text.get(..room).unwrap_or(text));
        } else if let Some(number) = &mut self.number {
            number.push(text);
        }
    }
}
