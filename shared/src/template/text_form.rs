//! The form in which a prompt's text is compared with what tokens stand for. A tokenizer changes a text before it cuts it; what
//! its tokens say, decoded, is the changed text. ASCII without U+2581 costs one look.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick, is_nfkc_quick};

use crate::table::rendering::Normalization;

/// SentencePiece's mark for a space. In a text it cannot be told from one.
const SPACE_MARK: char = '\u{2581}';

/// What becomes of spaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spaces {
    /// They are letters like others.
    #[default]
    Plain,
    /// They are U+2581 in the vocabulary, so that a literal U+2581 reads as a space.
    Marked,
    /// The same, and the tokenizer puts one before a text that does not begin with one; decoding drops it again.
    MarkedWithFirst,
}

/// What a tokenizer does to a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextForm {
    /// First step.
    pub normalization: Normalization,
    /// Second step.
    pub spaces: Spaces,
    /// What the tokenizer puts before a raw prompt; chat templates write theirs themselves. Empty for nothing.
    pub bos: String,
}

impl TextForm {
    /// The form of a rendered chat.
    #[must_use]
    pub fn rendered<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let text = self.normalized(text);
        match (self.spaces, text) {
            (Spaces::MarkedWithFirst, Cow::Borrowed(text)) => Cow::Borrowed(text.strip_prefix(' ').unwrap_or(text)),
            (Spaces::MarkedWithFirst, Cow::Owned(mut text)) => {
                if text.starts_with(' ') {
                    text.remove(0);
                }
                Cow::Owned(text)
            }
            (Spaces::Plain | Spaces::Marked, text) => text,
        }
    }

    /// The form of a completion's raw prompt, `bos` before it.
    #[must_use]
    pub fn completion<'t>(&self, prompt: &'t str) -> Cow<'t, str> {
        if self.bos.is_empty() {
            return self.rendered(prompt);
        }
        let prompt = self.normalized(prompt);
        let adds = self.spaces == Spaces::MarkedWithFirst && !prompt.is_empty() && !prompt.starts_with(' ');
        Cow::Owned([self.bos.as_str(), if adds { " " } else { "" }, &*prompt].concat())
    }

    fn normalized<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let text = match self.normalization {
            Normalization::Nfc if is_nfc_quick(text.chars()) != IsNormalized::Yes => Cow::Owned(text.nfc().collect()),
            Normalization::Nfkc if is_nfkc_quick(text.chars()) != IsNormalized::Yes => {
                Cow::Owned(text.nfkc().collect())
            }
            Normalization::None | Normalization::Nfc | Normalization::Nfkc => Cow::Borrowed(text),
        };
        if self.spaces != Spaces::Plain && text.contains(SPACE_MARK) {
            return Cow::Owned(text.replace(SPACE_MARK, " "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(normalization: Normalization, spaces: Spaces, bos: &str) -> TextForm {
        TextForm { normalization, spaces, bos: bos.to_owned() }
    }

    #[test]
    fn texts_are_composed() {
        let nfc = form(Normalization::Nfc, Spaces::Plain, "");
        let nfkc = form(Normalization::Nfkc, Spaces::Plain, "");
        assert_eq!(nfc.rendered("e\u{301} ﬁ"), "é ﬁ");
        assert_eq!(nfkc.rendered("e\u{301} ﬁ"), "é fi");
        assert_eq!(TextForm::default().rendered("e\u{301}"), "e\u{301}");
        assert!(matches!(nfc.rendered("é 你好"), Cow::Borrowed(_)), "what is composed is not copied");
        assert!(matches!(nfkc.rendered("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn marks_are_spaces_and_the_first_of_a_text_goes() {
        let first = form(Normalization::None, Spaces::MarkedWithFirst, "<s>");
        assert_eq!(first.rendered(" a\u{2581}b"), "a b");
        assert_eq!(first.rendered("\u{2581}a"), "a");
        assert_eq!(form(Normalization::None, Spaces::Marked, "").rendered(" a\u{2581}b"), " a b");
        assert_eq!(TextForm::default().rendered(" a\u{2581}b"), " a\u{2581}b");
    }

    #[test]
    fn raw_prompts_get_what_the_tokenizer_puts_before_them() {
        let first = form(Normalization::None, Spaces::MarkedWithFirst, "<s>");
        assert_eq!(first.completion("a"), "<s> a");
        assert_eq!(first.completion(" a"), "<s> a");
        assert_eq!(first.completion(""), "<s>");
        assert_eq!(form(Normalization::Nfc, Spaces::Plain, "<b>").completion("e\u{301}"), "<b>é");
        assert_eq!(TextForm::default().completion("a"), "a");
    }
}
