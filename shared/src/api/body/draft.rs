//! A message and a content part while their members arrive, in whatever order, and how they are put together at their
//! end: role, content, then the other members by name.
//!
//! A member that comes twice counts as it came last, errors included, as in Python's and serde_json's maps.

use super::canonical::{ARRAY, MESSAGE, PART, SCALAR, STRING, Span, push_span};
use crate::api::{ApiKind, BodyError};

/// A member outside role and content: `FIELD key value` in the arena.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// The whole, mark included.
    pub(super) span: Span,
    pub(super) key_end: usize,
}

impl Field {
    fn key(self, arena: &[u8]) -> &[u8] {
        Span { start: self.span.start + 1, end: self.key_end }.of(arena)
    }

    fn value(self, arena: &[u8]) -> &[u8] {
        Span { start: self.key_end, end: self.span.end }.of(arena)
    }

    /// Null and `[]` render like nothing; the type of a message is that it is one.
    fn is_blank(self, arena: &[u8]) -> bool {
        match self.value(arena).split_first() {
            Some((&SCALAR, text)) => text == b"null",
            Some((&STRING, text)) => text == b"message" && self.key(arena) == b"type",
            _ => self.value(arena) == ARRAY,
        }
    }
}

/// Appends the fields that say something, ordered by key.
fn push_fields(fields: &mut [Field], arena: &[u8], pieces: &mut Vec<Span>) {
    fields.sort_by(|a, b| a.key(arena).cmp(b.key(arena)));
    let mut rest: &[Field] = fields;
    while let Some((field, tail)) = rest.split_first() {
        let repeated = tail.first().is_some_and(|next| next.key(arena) == field.key(arena));
        if !repeated && !field.is_blank(arena) {
            push_span(pieces, field.span);
        }
        rest = tail;
    }
}

#[derive(Debug, Default)]
pub(super) struct MessageDraft {
    /// Offset of the message's brace.
    pub(super) at: u64,
    /// `MESSAGE role` in the arena.
    pub(super) role: Option<Span>,
    pub(super) role_error: Option<BodyError>,
    pub(super) fields: Vec<Field>,
}

impl MessageDraft {
    pub(super) fn restart(&mut self, at: u64) {
        self.at = at;
        self.role = None;
        self.role_error = None;
        self.fields.clear();
    }

    /// Items of the Responses API such as `function_call_output` have a type and no role.
    pub(super) fn may_lack_role(&self, kind: ApiKind, arena: &[u8]) -> bool {
        kind == ApiKind::Responses
            && self.fields.iter().any(|field| field.key(arena) == b"type" && !field.is_blank(arena))
    }

    pub(super) fn push_to(&mut self, pieces: &mut Vec<Span>, content: &[Span], arena: &mut Vec<u8>) {
        let role = self.role.unwrap_or_else(|| {
            arena.push(MESSAGE);
            Span { start: arena.len() - 1, end: arena.len() }
        });
        push_span(pieces, role);
        for &span in content {
            push_span(pieces, span);
        }
        push_fields(&mut self.fields, arena, pieces);
    }
}

#[derive(Debug, Default)]
pub(super) struct PartDraft {
    /// Offset of the part's brace.
    pub(super) at: u64,
    /// The value of `type`, when `typed`.
    pub(super) kind: Vec<u8>,
    pub(super) typed: bool,
    pub(super) kind_error: Option<BodyError>,
    /// `TEXT text` in the arena.
    pub(super) text: Option<Span>,
    pub(super) text_error: Option<BodyError>,
    pub(super) fields: Vec<Field>,
}

impl PartDraft {
    pub(super) fn restart(&mut self, at: u64) {
        self.at = at;
        self.kind.clear();
        self.typed = false;
        self.kind_error = None;
        self.text = None;
        self.text_error = None;
        self.fields.clear();
    }

    pub(super) fn is_text(&self) -> bool {
        if self.typed {
            matches!(self.kind.as_slice(), b"text" | b"input_text" | b"output_text")
        } else {
            self.text.is_some() || self.text_error.is_some()
        }
    }

    /// For a part that is not text.
    pub(super) fn push_to(&mut self, pieces: &mut Vec<Span>, arena: &mut Vec<u8>) {
        let start = arena.len();
        arena.push(PART);
        arena.extend_from_slice(&self.kind);
        // One piece per part at least: the first of the system prompt is looked at alone.
        pieces.push(Span { start, end: arena.len() });
        if let Some(text) = self.text {
            push_span(pieces, text);
        }
        push_fields(&mut self.fields, arena, pieces);
    }
}
