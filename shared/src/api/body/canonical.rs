//! The canonical text of a prompt: the same bytes for every spelling of the same prompt, and a prefix of it for every
//! conversation that this one continues.
//!
//! It is framed by bytes that UTF-8 never uses, so it is not UTF-8 itself, and nothing has a closing mark that a longer
//! prompt would have to move: marks open, the next mark closes.
//!
//! ```text
//! SECTION name value …        chat_template, chat_template_kwargs, documents, reasoning_effort, tools
//! MESSAGE role TEXT text … PART type [TEXT text] FIELD key value … FIELD key value …      system first, as a message
//! ```

/// Opens a part of the request that is rendered before the messages; its one-byte name follows.
pub(super) const SECTION: u8 = 0xFF;
/// Opens a message (or one prompt of several); the role follows.
pub(super) const MESSAGE: u8 = 0xFE;
/// Opens a text part of a message.
pub(super) const TEXT: u8 = 0xFD;
/// Opens a part that is not text; its type follows.
pub(super) const PART: u8 = 0xFC;
/// Opens a member of a message, a part or an object; its key follows.
pub(super) const FIELD: u8 = 0xFB;
/// Opens a string value.
pub(super) const STRING: u8 = 0xFA;
/// Opens a number, `true`, `false` or `null`, spelt as in the body.
pub(super) const SCALAR: u8 = 0xF9;
/// Brackets an array value.
pub(super) const ARRAY: [u8; 2] = [0xF8, 0xF7];
/// Brackets an object value.
pub(super) const OBJECT: [u8; 2] = [0xF6, 0xF5];

/// A range of the arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    pub(super) fn of(self, arena: &[u8]) -> &[u8] {
        arena.get(self.start..self.end).unwrap_or_default()
    }
}

/// Appends `span`, to the last piece when it continues it.
pub(super) fn push_span(pieces: &mut Vec<Span>, span: Span) {
    match pieces.last_mut() {
        Some(last) if last.end == span.start => last.end = span.end,
        _ => pieces.push(span),
    }
}

/// The prompt as bytes for the prefix chain; the module page of `canonical` gives its grammar.
#[derive(Clone, Copy, Debug)]
pub struct CanonicalText<'a> {
    arena: &'a [u8],
    spans: &'a [Span],
}

impl<'a> CanonicalText<'a> {
    pub(super) const fn new(arena: &'a [u8], spans: &'a [Span]) -> Self {
        Self { arena, spans }
    }

    /// The text, in order. Where one piece ends and the next begins means nothing.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let arena = self.arena;
        self.spans.iter().map(move |span| span.of(arena))
    }

    /// Bytes over all pieces.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.pieces().map(<[u8]>::len).sum()
    }
}

/// A prompt that came as token ids; several prompts stand behind each other.
#[derive(Clone, Copy, Debug)]
pub struct TokenIds<'a> {
    bytes: &'a [u8],
}

impl<'a> TokenIds<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Each id as a little-endian `u32`.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The ids, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + Clone + use<'a> {
        self.bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id))
    }

    /// Ids, not bytes.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.bytes.len() / 4
    }
}
