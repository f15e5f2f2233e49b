//! The inside of keys and strings: plain runs in bulk, escapes and UTF-8 sequences that a chunk may split.
//!
//! Plain ASCII goes through the vector scan of [`super::scan`]; a run with other characters is checked by `str::from_utf8`
//! as a whole, and only a sequence cut off by the end of a chunk is put together byte by byte.

use super::unescape::{unescape, unescaped};
use super::{Sink, State, Step, Token, Tokenizer, scan};
use crate::api::body_error::Syntax;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextState {
    Plain,
    /// Behind a backslash.
    Escape,
    /// In the four digits of `\uXXXX`.
    Hex,
    /// Behind the first half of a surrogate pair: the backslash of the second must follow.
    LowBackslash,
    /// Behind that backslash: `u` must follow.
    LowU,
    /// In a UTF-8 sequence that an earlier chunk began.
    Utf8,
}

/// What is known of an escape or of a UTF-8 sequence before its end.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Offset of its first byte.
    pub(super) began: u64,
    hex: u32,
    hex_digits: u8,
    high_surrogate: Option<u32>,
    utf8: [u8; 4],
    utf8_length: usize,
}

impl Tokenizer {
    pub(super) fn text_step<'c, S: Sink>(&mut self, state: TextState, rest: &'c [u8], sink: &mut S) -> Step<'c> {
        let Some((&byte, tail)) = rest.split_first() else { return Ok(rest) };
        let done = match state {
            TextState::Plain => return self.plain(rest, sink),
            TextState::Escape => self.escape(byte, sink),
            TextState::Hex => self.hex(byte, sink),
            TextState::LowBackslash if byte == b'\\' => Ok(TextState::LowU),
            TextState::LowU if byte == b'u' => {
                self.begin_hex();
                Ok(TextState::Hex)
            }
            TextState::LowBackslash | TextState::LowU => Err(Syntax::LoneSurrogate),
            TextState::Utf8 => self.utf8(byte, sink),
        };
        self.state = State::Text(done.map_err(|syntax| (0, syntax))?);
        Ok(tail)
    }

    fn plain<'c, S: Sink>(&mut self, rest: &'c [u8], sink: &mut S) -> Step<'c> {
        let mut left = rest;
        loop {
            if let Some(buffer) = sink.buffer() {
                left = unescape(left, buffer);
            }
            let (plain, stopped) = left.split_at_checked(scan::plain_len(left)).unwrap_or((left, &[]));
            if !plain.is_empty() {
                sink.text(plain);
            }
            let ahead = rest.len() - stopped.len();
            let Some((&stop, tail)) = stopped.split_first() else { return Ok(stopped) };
            match stop {
                b'"' => {
                    self.end_text(self.offset + ahead as u64, sink);
                    return Ok(tail);
                }
                b'\\' => {
                    // Most escapes are one letter long and whole in the chunk: they do not leave the loop.
                    if let Some((&letter, behind)) = tail.split_first()
                        && let Some(byte) = unescaped(letter)
                    {
                        sink.text(&[byte]);
                        left = behind;
                        continue;
                    }
                    self.text.began = self.offset + ahead as u64;
                    self.state = State::Text(TextState::Escape);
                    return Ok(tail);
                }
                0..0x20 => return Err((ahead, Syntax::Control)),
                _ => return self.beyond_ascii(ahead, stopped, sink),
            }
        }
    }

    /// `at`: offset of the closing quote.
    fn end_text<S: Sink>(&mut self, at: u64, sink: &mut S) {
        let (token, state) =
            if self.in_key { (Token::KeyEnd, State::Colon) } else { (Token::StringEnd, State::AfterValue) };
        sink.token(token, at);
        self.state = state;
    }

    /// `run` begins with a byte of 0x80 or above, `ahead` bytes into the rest of the chunk.
    fn beyond_ascii<'c, S: Sink>(&mut self, ahead: usize, run: &'c [u8], sink: &mut S) -> Step<'c> {
        let (text, tail) = run.split_at_checked(scan::text_len(run)).unwrap_or((run, &[]));
        let Err(error) = str::from_utf8(text) else {
            sink.text(text);
            return Ok(tail);
        };
        let (valid, cut) = text.split_at_checked(error.valid_up_to()).unwrap_or((text, &[]));
        self.text.began = self.offset + (ahead + valid.len()) as u64;
        if error.error_len().is_some() || !tail.is_empty() {
            return Err((0, Syntax::Utf8));
        }
        sink.text(text);
        self.text.utf8_length = cut.len();
        for (slot, &byte) in self.text.utf8.iter_mut().zip(cut) {
            *slot = byte;
        }
        self.state = State::Text(TextState::Utf8);
        Ok(tail)
    }

    fn utf8<S: Sink>(&mut self, byte: u8, sink: &mut S) -> Result<TextState, Syntax> {
        let length = self.text.utf8_length;
        *self.text.utf8.get_mut(length).ok_or(Syntax::Utf8)? = byte;
        self.text.utf8_length = length + 1;
        let state = match str::from_utf8(self.text.utf8.get(..=length).unwrap_or_default()) {
            Ok(_) => TextState::Plain,
            Err(error) if error.error_len().is_none() => TextState::Utf8,
            Err(_) => return Err(Syntax::Utf8),
        };
        sink.text(&[byte]);
        Ok(state)
    }

    fn escape<S: Sink>(&mut self, byte: u8, sink: &mut S) -> Result<TextState, Syntax> {
        if byte == b'u' {
            self.begin_hex();
            return Ok(TextState::Hex);
        }
        sink.text(&[unescaped(byte).ok_or(Syntax::Escape)?]);
        Ok(TextState::Plain)
    }

    const fn begin_hex(&mut self) {
        self.text.hex = 0;
        self.text.hex_digits = 0;
    }

    fn hex<S: Sink>(&mut self, byte: u8, sink: &mut S) -> Result<TextState, Syntax> {
        let digit = char::from(byte).to_digit(16).ok_or(Syntax::Escape)?;
        self.text.hex = (self.text.hex << 4) | digit;
        self.text.hex_digits += 1;
        if self.text.hex_digits < 4 {
            return Ok(TextState::Hex);
        }
        let unit = self.text.hex;
        let scalar = match self.text.high_surrogate.take() {
            None if (0xD800..0xDC00).contains(&unit) => {
                self.text.high_surrogate = Some(unit);
                return Ok(TextState::LowBackslash);
            }
            None => unit,
            Some(high) if (0xDC00..0xE000).contains(&unit) => 0x1_0000 + ((high - 0xD800) << 10) + (unit - 0xDC00),
            Some(_) => return Err(Syntax::LoneSurrogate),
        };
        let character = char::from_u32(scalar).ok_or(Syntax::LoneSurrogate)?;
        sink.text(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(TextState::Plain)
    }
}
