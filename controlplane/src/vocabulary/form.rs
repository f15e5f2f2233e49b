//! What a text goes through before its bytes are those of its tokens, and which text stands before a prompt.
//!
//! Both sides of a comparison go through it: prompts by [`TextForm::rendered`] or [`TextForm::completion`], tokens by
//! the table, which a reader has brought into this form. Decoding tokens alone does not give the text back.

use std::borrow::Cow;

use unicode_normalization_alignments::UnicodeNormalization;

/// SentencePiece's mark for a space. In a text it cannot be told from one.
pub(super) const SPACE_MARK: char = '\u{2581}';

/// Unicode normalisation of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalizer {
    /// The text as it is.
    #[default]
    None,
    /// Canonical composition.
    Nfc,
    /// Compatibility composition.
    Nfkc,
}

/// What becomes of spaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spaces {
    /// Spaces are bytes like others.
    #[default]
    Plain,
    /// Spaces are U+2581 in the vocabulary, so that a literal U+2581 becomes a space.
    SentencePiece(LeadingSpace),
}

/// Where the tokenizer adds a space that the text does not have; decoding drops it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeadingSpace {
    /// Nowhere.
    #[default]
    Absent,
    /// Before a text that does not begin with one (or with a special token).
    First,
    /// Before every stretch of text: at the start and after each special token, always.
    EveryStretch,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextForm {
    /// First step.
    pub normalizer: Normalizer,
    /// Second step.
    pub spaces: Spaces,
    /// Text of the special tokens that the tokenizer puts before a prompt of `/v1/completions`; chat templates write
    /// theirs themselves.
    pub bos: Option<String>,
}

impl TextForm {
    /// The form of a text whose special tokens are written out, as a chat template renders it.
    #[must_use]
    pub fn rendered<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let text = self.marked(text);
        match self.spaces {
            Spaces::SentencePiece(LeadingSpace::First) => without_first_space(text),
            Spaces::Plain | Spaces::SentencePiece(LeadingSpace::Absent | LeadingSpace::EveryStretch) => text,
        }
    }

    /// The form of a completion's prompt: begins with `bos`. With [`LeadingSpace::First`], a prompt that itself begins
    /// with a special token gets a space too many: such prompts look uncached, nothing worse.
    #[must_use]
    pub fn completion<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(bos) = self.bos.as_deref().filter(|bos| !bos.is_empty()) else { return self.rendered(text) };
        let text = self.marked(text);
        let adds = self.spaces == Spaces::SentencePiece(LeadingSpace::First);
        let space = if adds && !text.is_empty() && !text.starts_with(' ') { " " } else { "" };
        Cow::Owned([&self.marked(bos), space, &text].concat())
    }

    /// The form of what stands anywhere in a text: nothing is added or dropped at its ends.
    pub(super) fn marked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let text = match self.normalizer {
            Normalizer::Nfc if !text.is_ascii() => Cow::Owned(text.nfc().map(|(c, _)| c).collect()),
            Normalizer::Nfkc if !text.is_ascii() => Cow::Owned(text.nfkc().map(|(c, _)| c).collect()),
            Normalizer::None | Normalizer::Nfc | Normalizer::Nfkc => Cow::Borrowed(text),
        };
        match self.spaces {
            Spaces::SentencePiece(_) if text.contains(SPACE_MARK) => Cow::Owned(text.replace(SPACE_MARK, " ")),
            Spaces::SentencePiece(_) | Spaces::Plain => text,
        }
    }
}

fn without_first_space(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_prefix(' ').unwrap_or(text)),
        Cow::Owned(mut text) => {
            if text.starts_with(' ') {
                text.remove(0);
            }
            Cow::Owned(text)
        }
    }
}
