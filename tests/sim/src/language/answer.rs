//! What the simulated model says: words of three letters, endless, a function of seed, prompt, adapter and salt.
//!
//! Sent back in the next turn the text is cut into the same tokens, unless the model is told to be non-canonical: then some tokens are
//! ones that no tokenizer would have chosen there, as a sampled model's sometimes are.

use std::sync::Arc;

use super::tokenizer::SpecialTokens;
use super::{Language, Tokenizer, vocabulary};
use crate::engine::{ChainBuilder, scramble};

/// The source of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Voice(u64);

/// An answer's tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) tokens: Arc<[u32]>,
}

impl Voice {
    /// The answer to the prompt that `chain` holds; `sample` tells apart several answers to one prompt.
    pub(crate) fn of(chain: &ChainBuilder, seed: u64, sample: u64) -> Self {
        Self(chain.digest() ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ sample.rotate_left(48))
    }

    /// A number for place `index`.
    pub(crate) fn draw(self, index: u32) -> u64 {
        scramble(self.0 ^ scramble(u64::from(index)))
    }

    fn word(self, index: u32) -> [u8; 4] {
        let draw = self.draw(index);
        let pick = |letters: &'static [u8], shift: u32| {
            let count = u64::try_from(letters.len()).unwrap_or(1);
            let index = usize::try_from((draw >> shift) % count).unwrap_or_default();
            letters.get(index).copied().unwrap_or(b'x')
        };
        [pick(b"bdfgklmnprstvz", 0), pick(b"aeiou", 16), pick(b"lmnrst", 32), b' ']
    }

    /// True for a share `rate` of all places.
    fn slips(self, index: u32, rate: f64) -> bool {
        let draw = scramble(self.draw(index) ^ 0x51);
        rate > 0.0 && u32::try_from(draw >> 32).map_or(0.0, f64::from) < rate * 4_294_967_296.0
    }
}

impl Language {
    /// The first `length` tokens of an answer.
    pub(crate) fn say(&self, voice: Voice, length: u32) -> Answer {
        let rate = self.non_canonical;
        let tokens = match &self.tokenizer {
            Tokenizer::Builtin => (0..length)
                .filter_map(|index| {
                    let [first, second, third, space] = voice.word(index);
                    // Half a word, which the next word would be cut together with.
                    let slip = voice.slips(index, rate);
                    if slip {
                        vocabulary::pair([first, second])
                    } else {
                        vocabulary::word([first, second, third, space])
                    }
                })
                .collect(),
            tokenizer @ Tokenizer::Loaded(_) => {
                let words: Vec<u8> = (0..length).flat_map(|index| voice.word(index)).collect();
                let mut tokens = tokenizer.encode(&String::from_utf8_lossy(&words), SpecialTokens::AsWritten);
                tokens.truncate(usize::try_from(length).unwrap_or(usize::MAX));
                for (token, index) in tokens.iter_mut().zip(0..) {
                    if voice.slips(index, rate) {
                        *token = half(tokenizer, *token).unwrap_or(*token);
                    }
                }
                // A tokenizer with tokens of several words makes fewer than were asked for.
                let filler = tokens.last().copied().unwrap_or_default();
                tokens.resize(usize::try_from(length).unwrap_or_default(), filler);
                tokens
            }
        };
        Answer { tokens: tokens.into() }
    }
}

/// The token of the first half of another one's text.
fn half(tokenizer: &Tokenizer, token: u32) -> Option<u32> {
    let bytes = tokenizer.bytes(token);
    let head = bytes.get(..bytes.len() / 2).filter(|head| !head.is_empty())?;
    let text = std::str::from_utf8(head).ok()?;
    tokenizer.encode(text, SpecialTokens::AsWritten).first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ChainSeed;
    use crate::language::LanguageConfig;

    fn answer(config: &LanguageConfig, length: u32) -> (Language, Answer) {
        let language = Language::load(config).unwrap();
        let answer = language.say(Voice::of(&ChainBuilder::new(16, ChainSeed::default()), 7, 0), length);
        (language, answer)
    }

    #[test]
    fn an_answer_sent_back_is_the_same_tokens() {
        let (language, answer) = answer(&LanguageConfig::default(), 50);
        let text = format!("<|im_sep|>{}<|im_end|>", language.tokenizer.decode(&answer.tokens));
        let tokens = language.tokenizer.encode(&text, SpecialTokens::AsWritten);
        assert_eq!(tokens[1..51], *answer.tokens);
    }

    #[test]
    fn a_non_canonical_answer_is_not() {
        let config = LanguageConfig { non_canonical: 0.1, ..LanguageConfig::default() };
        let (language, answer) = answer(&config, 200);
        let tokens = language.tokenizer.encode(&language.tokenizer.decode(&answer.tokens), SpecialTokens::AsWritten);
        assert_ne!(tokens, *answer.tokens);
        let pairs = answer.tokens.iter().filter(|&&token| vocabulary::bytes(token).len() == 2).count();
        assert!((8..40).contains(&pairs), "{pairs} of 200 at a rate of 0.1");
    }

    #[test]
    fn a_loaded_vocabulary_says_tokens_of_its_own() {
        let path = std::env::temp_dir().join(format!("vllm-sim-answer-{}.json", std::process::id()));
        std::fs::write(&path, vocabulary::tokenizer_json().to_string()).unwrap();
        let config = LanguageConfig { tokenizer: Some(path.clone()), ..LanguageConfig::default() };
        let (_, said) = answer(&config, 30);
        std::fs::remove_file(path).unwrap();
        assert_eq!(said, answer(&LanguageConfig::default(), 30).1);
    }
}
