//! A resumable JSON tokenizer: bytes in, in any chunks, tokens out to a [`Sink`]. It knows the grammar and nothing of any
//! API; it accepts what `serde_json::Value` accepts, and also numbers beyond the range of `f64`.
//!
//! The text of one string may come in several [`Sink::text`] pieces that split UTF-8 sequences; only at the end of the
//! string is the whole known to be UTF-8.

mod number;
mod scan;
mod text;
mod unescape;

pub(crate) use number::NumberReader;
pub(crate) use scan::line_len;

use crate::api::body_error::Syntax;

use text::TextState;

/// Containers inside each other; `serde_json` errs at the same depth.
const MAX_DEPTH: u32 = 127;

/// Receives tokens in document order.
pub(crate) trait Sink {
    /// `at`: offset in the document of a start token's first byte and of the closing quote of a key or string; near the token
    /// for the others.
    fn token(&mut self, token: Token, at: u64);

    /// Unescaped text of the open key or string, or the literal text of the open number.
    fn text(&mut self, text: &[u8]);

    /// Where the text of the open key or string is to be appended; `None`: it is to come through `text`.
    fn buffer(&mut self) -> Option<&mut Vec<u8>> {
        None
    }
}

/// Strings, keys and numbers are bracketed by a start and an end token, with their text between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    KeyStart,
    KeyEnd,
    StringStart,
    StringEnd,
    NumberStart,
    NumberEnd,
    Bool(bool),
    Null,
}

/// Where and how a document broke the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) at: u64,
    pub(crate) syntax: Syntax,
}

/// The rest of a chunk, or what is wrong that many bytes into it.
type Step<'c> = Result<&'c [u8], (usize, Syntax)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    /// Behind `[`: a value or the end.
    FirstElement,
    /// Behind `{`: a key or the end.
    FirstKey,
    Key,
    Colon,
    AfterValue,
    /// In a key or a string.
    Text(TextState),
    Number(NumberPart),
    /// In `true`, `false` or `null`: what must still come.
    Literal(&'static [u8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberPart {
    Start,
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl NumberPart {
    #[inline]
    fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Start, b'-') => Some(Self::Minus),
            (Self::Start | Self::Minus, b'0') => Some(Self::Zero),
            (Self::Start | Self::Minus | Self::Integer, b'0'..=b'9') => Some(Self::Integer),
            (Self::Zero | Self::Integer, b'.') => Some(Self::Point),
            (Self::Point | Self::Fraction, b'0'..=b'9') => Some(Self::Fraction),
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Some(Self::Exponent),
            (Self::Exponent, b'+' | b'-') => Some(Self::ExponentSign),
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => Some(Self::ExponentDigits),
            _ => None,
        }
    }

    /// Whether a number may end here.
    const fn complete(self) -> bool {
        matches!(self, Self::Zero | Self::Integer | Self::Fraction | Self::ExponentDigits)
    }
}

/// One document at a time; `Default` is the beginning of one.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    state: State,
    /// One bit per open container, the innermost lowest: 1 for an object.
    containers: u128,
    depth: u32,
    offset: u64,
    in_key: bool,
    text: text::Pending,
    failure: Option<Failure>,
}

impl Default for Tokenizer {
    fn default() -> Self {
        Self {
            state: State::Value,
            containers: 0,
            depth: 0,
            offset: 0,
            in_key: false,
            text: text::Pending::default(),
            failure: None,
        }
    }
}

impl Tokenizer {
    /// Takes the next bytes. After a failure every further call fails the same way.
    pub(crate) fn push<S: Sink>(&mut self, chunk: &[u8], sink: &mut S) -> Result<(), Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let mut rest = chunk;
        while let Some((&byte, tail)) = rest.split_first() {
            let step = match self.state {
                State::Text(state) => self.text_step(state, rest, sink),
                State::Number(part) => self.number(part, rest, sink),
                State::Literal(left) => self.literal(left, byte).map(|()| tail).map_err(|syntax| (0, syntax)),
                State::Value
                | State::FirstElement
                | State::FirstKey
                | State::Key
                | State::Colon
                | State::AfterValue => match byte {
                    b' ' | b'\n' | b'\r' | b'\t' => Ok(tail),
                    _ => self.structure(byte, rest, sink).map_err(|syntax| (0, syntax)),
                },
            };
            match step {
                Ok(left) => {
                    self.offset += (rest.len() - left.len()) as u64;
                    rest = left;
                }
                Err((ahead, syntax)) => return Err(self.fail(self.offset + ahead as u64, syntax)),
            }
        }
        Ok(())
    }

    /// The document ends here.
    pub(crate) fn finish<S: Sink>(&mut self, sink: &mut S) -> Result<(), Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if let State::Number(part) = self.state
            && part.complete()
        {
            sink.token(Token::NumberEnd, self.offset);
            self.state = State::AfterValue;
        }
        if self.depth == 0 && self.state == State::AfterValue {
            return Ok(());
        }
        let empty = self.depth == 0 && self.state == State::Value;
        Err(self.fail(self.offset, if empty { Syntax::Empty } else { Syntax::UnexpectedEnd }))
    }

    fn fail(&mut self, at: u64, syntax: Syntax) -> Failure {
        // Escapes and UTF-8 sequences are judged where they end and blamed where they begin.
        let at = if matches!(syntax, Syntax::LoneSurrogate | Syntax::Utf8) { self.text.began } else { at };
        let failure = Failure { at, syntax };
        self.failure = Some(failure);
        failure
    }

    fn structure<'c, S: Sink>(&mut self, byte: u8, rest: &'c [u8], sink: &mut S) -> Result<&'c [u8], Syntax> {
        let tail = rest.get(1..).unwrap_or_default();
        match (self.state, byte) {
            (State::FirstElement, b']') | (State::FirstKey, b'}') => self.close(sink),
            (State::Value | State::FirstElement, _) => return self.value(byte, rest, sink),
            (State::FirstKey | State::Key, b'"') => {
                sink.token(Token::KeyStart, self.offset);
                self.in_key = true;
                self.state = State::Text(TextState::Plain);
            }
            (State::FirstKey | State::Key, _) => return Err(Syntax::ExpectedKey),
            (State::Colon, b':') => self.state = State::Value,
            (State::Colon, _) => return Err(Syntax::ExpectedColon),
            _ if self.depth == 0 => return Err(Syntax::Trailing),
            (_, b',') => self.state = if self.in_object() { State::Key } else { State::Value },
            (_, b'}') if self.in_object() => self.close(sink),
            (_, b']') if !self.in_object() => self.close(sink),
            _ if self.in_object() => return Err(Syntax::ExpectedCommaOrBrace),
            _ => return Err(Syntax::ExpectedCommaOrBracket),
        }
        Ok(tail)
    }

    fn value<'c, S: Sink>(&mut self, byte: u8, rest: &'c [u8], sink: &mut S) -> Result<&'c [u8], Syntax> {
        match byte {
            b'{' => self.open(true, sink)?,
            b'[' => self.open(false, sink)?,
            b'"' => {
                sink.token(Token::StringStart, self.offset);
                self.in_key = false;
                self.state = State::Text(TextState::Plain);
            }
            b'-' | b'0'..=b'9' => {
                sink.token(Token::NumberStart, self.offset);
                self.state = State::Number(NumberPart::Start);
                // The first byte is part of the number's text.
                return Ok(rest);
            }
            // Told at their first byte: a misspelt literal fails the document anyway.
            b't' => self.begin_literal(b"rue", Token::Bool(true), sink),
            b'f' => self.begin_literal(b"alse", Token::Bool(false), sink),
            b'n' => self.begin_literal(b"ull", Token::Null, sink),
            0xEF if self.offset == 0 => return Err(Syntax::ByteOrderMark),
            _ => return Err(Syntax::ExpectedValue),
        }
        Ok(rest.get(1..).unwrap_or_default())
    }

    fn open<S: Sink>(&mut self, object: bool, sink: &mut S) -> Result<(), Syntax> {
        if self.depth >= MAX_DEPTH {
            return Err(Syntax::TooDeep);
        }
        self.depth += 1;
        self.containers = (self.containers << 1) | u128::from(object);
        let (token, state) =
            if object { (Token::ObjectStart, State::FirstKey) } else { (Token::ArrayStart, State::FirstElement) };
        self.state = state;
        sink.token(token, self.offset);
        Ok(())
    }

    fn close<S: Sink>(&mut self, sink: &mut S) {
        let token = if self.in_object() { Token::ObjectEnd } else { Token::ArrayEnd };
        self.containers >>= 1;
        self.depth = self.depth.saturating_sub(1);
        self.state = State::AfterValue;
        sink.token(token, self.offset);
    }

    const fn in_object(&self) -> bool {
        self.containers & 1 == 1
    }

    fn number<'c, S: Sink>(&mut self, start: NumberPart, rest: &'c [u8], sink: &mut S) -> Step<'c> {
        let mut part = start;
        let mut length = 0;
        if start == NumberPart::Start && matches!(rest.first(), Some(b'1'..=b'9')) {
            part = NumberPart::Integer;
            length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        }
        for &byte in rest.get(length..).unwrap_or_default() {
            let Some(next) = part.next(byte) else { break };
            part = next;
            length += 1;
        }
        let (number, tail) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        // "01" is the one number that is complete and yet goes on with a digit.
        let zero_led = part == NumberPart::Zero && tail.first().is_some_and(u8::is_ascii_digit);
        if !tail.is_empty() && (zero_led || !part.complete()) {
            return Err((length, Syntax::Number));
        }
        sink.text(number);
        self.state = State::Number(part);
        if !tail.is_empty() {
            sink.token(Token::NumberEnd, self.offset + length as u64);
            self.state = State::AfterValue;
        }
        Ok(tail)
    }

    fn begin_literal<S: Sink>(&mut self, left: &'static [u8], token: Token, sink: &mut S) {
        sink.token(token, self.offset);
        self.state = State::Literal(left);
    }

    fn literal(&mut self, left: &'static [u8], byte: u8) -> Result<(), Syntax> {
        let (&wanted, left) = left.split_first().ok_or(Syntax::Literal)?;
        if byte != wanted {
            return Err(Syntax::Literal);
        }
        self.state = if left.is_empty() { State::AfterValue } else { State::Literal(left) };
        Ok(())
    }
}
