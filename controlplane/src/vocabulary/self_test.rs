//! Proof, before a model's prompts are compared by bytes, that its tokens spell its texts.
//!
//! Built-in texts go through the real tokenizer, back through the table, and must be equal to their form. A refusal
//! quotes only these texts, as hex: nobody's prompt is involved.

mod corpus;

use super::encoder::Encoder;
use super::{UnknownToken, Vocabulary};
use shared::text_form::{LeadingSpace, Spaces};

/// Bytes on each side that a refusal shows from where they differ.
const SHOWN: usize = 16;
/// Special tokens tried: the first and the last half of this, since the middle ones are fillers where there are many.
const SPECIAL_TRIED: usize = 64;

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Texts.
    pub texts: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Why the vocabulary cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The tokenizer fails.
    #[error("the tokenizer cannot encode the built-in text {text:?}")]
    Encode {
        /// Name of the text.
        text: String,
    },
    /// The tokenizer knows a token that the table does not.
    #[error("built-in text {text:?}: {token}")]
    Token {
        /// Name of the text.
        text: String,
        /// Which.
        token: UnknownToken,
    },
    /// The tokens spell something else.
    #[error("built-in text {text:?} differs at byte {at}: expected {expected}, got {got}")]
    Differs {
        /// Name of the text.
        text: String,
        /// First byte that differs.
        at: usize,
        /// What the text has from there, in hex.
        expected: String,
        /// What the tokens have from there, in hex.
        got: String,
    },
}

/// Encodes, decodes, compares. Takes milliseconds.
///
/// # Errors
/// The first text that does not come back.
pub fn run(vocabulary: &Vocabulary, encoder: &Encoder) -> Result<Passed, Refusal> {
    let mut passed = Passed::default();
    for (name, text) in corpus::texts() {
        compare(vocabulary, encoder, name, &text, &mut passed)?;
    }
    let special = vocabulary.special_tokens();
    let half = SPECIAL_TRIED / 2;
    let tail = special.len().saturating_sub(half).max(half);
    for token in special.iter().take(half).chain(special.iter().skip(tail)) {
        let name = format!("around special token {}", token.id);
        compare(vocabulary, encoder, &name, &corpus::around(&token.text), &mut passed)?;
    }
    Ok(passed)
}

/// As a rendered chat and as a completion's prompt.
fn compare(
    vocabulary: &Vocabulary,
    encoder: &Encoder,
    name: &str,
    text: &str,
    passed: &mut Passed,
) -> Result<(), Refusal> {
    let mut tokens = encoder.encode(text).map_err(|_| Refusal::Encode { text: name.to_owned() })?;
    equal(vocabulary, name, &tokens, &vocabulary.form().rendered(text))?;
    passed.texts = passed.texts.saturating_add(1);
    passed.tokens = passed.tokens.saturating_add(tokens.len());
    passed.bytes = passed.bytes.saturating_add(text.len());
    // See `TextForm::completion`: there the form is one space off.
    let adds_first = vocabulary.form().spaces == Spaces::SentencePiece(LeadingSpace::First);
    let excepted = adds_first && tokens.first().is_some_and(|token| vocabulary.is_special(*token));
    if !vocabulary.bos_tokens().is_empty() && !excepted {
        tokens.splice(0..0, vocabulary.bos_tokens().iter().copied());
        equal(vocabulary, &format!("{name} (completion)"), &tokens, &vocabulary.form().completion(text))?;
    }
    Ok(())
}

fn equal(vocabulary: &Vocabulary, name: &str, tokens: &[u32], expected: &str) -> Result<(), Refusal> {
    let mut got = Vec::with_capacity(expected.len());
    let decoded = vocabulary.decode(tokens, vocabulary.root(), &mut got);
    decoded.map_err(|token| Refusal::Token { text: name.to_owned(), token })?;
    if got == expected.as_bytes() {
        return Ok(());
    }
    let at = got.iter().zip(expected.as_bytes()).take_while(|(got, expected)| got == expected).count();
    let shown = |bytes: &[u8]| hex(bytes.get(at..).unwrap_or_default());
    let expected = shown(expected.as_bytes());
    Err(Refusal::Differs { text: name.to_owned(), at, expected, got: shown(&got) })
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "the end".to_owned();
    }
    bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
