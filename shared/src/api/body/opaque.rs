//! Values that routing does not look into: copied to the arena in canonical form, or passed over.
//!
//! Keys keep the order of the body, because templates print objects in that order; two spellings that differ in it are
//! two prompts.

use super::canonical::{ARRAY, FIELD, OBJECT, SCALAR, STRING};
use crate::api::json::Token;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Copy everything.
    Copy,
    /// Copy all but members called `cache_control`: Anthropic's clients move them from turn to turn.
    CopyWithoutCacheControl,
    Skip,
}

/// One value in passing.
#[derive(Debug)]
pub(super) struct Opaque {
    mode: Mode,
    depth: u32,
    /// Depth of the object whose member is being left out.
    hole: Option<u32>,
    key_start: usize,
}

impl Opaque {
    pub(super) const fn new(mode: Mode) -> Self {
        Self { mode, depth: 0, hole: None, key_start: 0 }
    }

    /// Takes the value's next token; true when that was its last.
    pub(super) fn token(&mut self, token: Token, arena: &mut Vec<u8>) -> bool {
        if self.is_copying() {
            self.write(token, arena);
        }
        match token {
            Token::KeyStart | Token::KeyEnd | Token::StringStart | Token::NumberStart => return false,
            Token::ObjectStart | Token::ArrayStart => {
                self.depth += 1;
                return false;
            }
            Token::ObjectEnd | Token::ArrayEnd => self.depth = self.depth.saturating_sub(1),
            Token::StringEnd | Token::NumberEnd | Token::Bool(_) | Token::Null => {}
        }
        if self.hole == Some(self.depth) {
            self.hole = None;
        }
        self.depth == 0
    }

    /// Takes text of the string, key or number at hand.
    #[inline]
    pub(super) fn text(&self, text: &[u8], arena: &mut Vec<u8>) {
        if self.is_copying() {
            arena.extend_from_slice(text);
        }
    }

    /// Does the text at hand go to the arena?
    pub(super) fn is_copying(&self) -> bool {
        self.mode != Mode::Skip && self.hole.is_none()
    }

    fn write(&mut self, token: Token, arena: &mut Vec<u8>) {
        let [array_start, array_end] = ARRAY;
        let [object_start, object_end] = OBJECT;
        match token {
            Token::KeyStart => {
                self.key_start = arena.len();
                arena.push(FIELD);
            }
            Token::KeyEnd => self.leave_out_cache_control(arena),
            Token::StringStart => arena.push(STRING),
            Token::NumberStart => arena.push(SCALAR),
            Token::ObjectStart => arena.push(object_start),
            Token::ObjectEnd => arena.push(object_end),
            Token::ArrayStart => arena.push(array_start),
            Token::ArrayEnd => arena.push(array_end),
            Token::Bool(value) => {
                arena.push(SCALAR);
                arena.extend_from_slice(if value { b"true" } else { b"false" });
            }
            Token::Null => {
                arena.push(SCALAR);
                arena.extend_from_slice(b"null");
            }
            Token::StringEnd | Token::NumberEnd => {}
        }
    }

    fn leave_out_cache_control(&mut self, arena: &mut Vec<u8>) {
        let key = arena.get(self.key_start + 1..).unwrap_or_default();
        if self.mode == Mode::CopyWithoutCacheControl && key == b"cache_control" {
            arena.truncate(self.key_start);
            self.hole = Some(self.depth);
        }
    }
}
