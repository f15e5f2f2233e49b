//! What a text goes through before its bytes are those of its tokens, and what stands before a prompt.
//!
//! A tokenizer may normalize its text and turn spaces into a mark of its own; decoding the tokens does not give the text
//! back. A prompt and the table of its vocabulary meet in this form: text by the functions here, tokens by the table.

use std::borrow::Cow;

use unicode_normalization_alignments::{IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfkc_quick};

/// `SentencePiece`'s mark for a space; in a text it cannot be told from one.
pub const SPACE_MARK: char = '\u{2581}';

/// Unicode normalization of the text.
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
    /// theirs themselves. Empty: none.
    pub bos: String,
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
        if self.bos.is_empty() {
            return self.rendered(text);
        }
        let text = self.marked(text);
        let adds = self.spaces == Spaces::SentencePiece(LeadingSpace::First);
        let space = if adds && !text.is_empty() && !text.starts_with(' ') { " " } else { "" };
        Cow::Owned([&self.marked(&self.bos), space, &text].concat())
    }

    /// The form of what stands anywhere in a text: nothing is added or dropped at its ends.
    #[must_use]
    pub fn marked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let text = match self.normalizer {
            Normalizer::Nfc if is_nfc_quick(text.chars()) != IsNormalized::Yes => {
                Cow::Owned(text.nfc().map(|(letter, _)| letter).collect())
            }
            Normalizer::Nfkc if is_nfkc_quick(text.chars()) != IsNormalized::Yes => {
                Cow::Owned(text.nfkc().map(|(letter, _)| letter).collect())
            }
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

#[cfg(test)]
mod tests {
    use super::{LeadingSpace, Normalizer, Spaces, TextForm};

    fn form(normalizer: Normalizer, spaces: Spaces, bos: &str) -> TextForm {
        TextForm { normalizer, spaces, bos: bos.to_owned() }
    }

    #[test]
    fn normalization_is_what_the_form_says() {
        let text = "e\u{301}\u{fb01}\u{2581}";
        for (normalizer, want) in [
            (Normalizer::None, "e\u{301}\u{fb01}\u{2581}"),
            (Normalizer::Nfc, "\u{e9}\u{fb01}\u{2581}"),
            (Normalizer::Nfkc, "\u{e9}fi\u{2581}"),
        ] {
            assert_eq!(form(normalizer, Spaces::Plain, "").rendered(text), want);
        }
    }

    #[test]
    fn sentence_piece_reads_its_mark_as_a_space_and_drops_the_first_it_would_add() {
        let cases =
            [(LeadingSpace::Absent, " a b"), (LeadingSpace::First, "a b"), (LeadingSpace::EveryStretch, " a b")];
        for (leading, want) in cases {
            assert_eq!(form(Normalizer::None, Spaces::SentencePiece(leading), "").rendered("\u{2581}a\u{2581}b"), want);
        }
    }

    #[test]
    fn completions_begin_with_the_bos_text() {
        assert_eq!(form(Normalizer::None, Spaces::Plain, "<s>").completion("a"), "<s>a");
        let piece = Spaces::SentencePiece(LeadingSpace::First);
        assert_eq!(form(Normalizer::None, piece, "<s>").completion("a"), "<s> a");
        assert_eq!(form(Normalizer::None, piece, "<s>").completion(" a"), "<s> a");
        assert_eq!(form(Normalizer::None, Spaces::Plain, "").completion("a"), "a");
    }
}
