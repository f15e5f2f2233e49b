//! The simulator's tokenizer: a token is up to four bytes of UTF-8, its id is those bytes packed big-endian.
//!
//! Cutting restarts at every special marker, so a chat message's tokens depend on that message alone and equal conversations
//! share blocks. A real vocabulary is smaller than these ids; nothing here fits into 18 bits.

use crate::engine::{ChainBuilder, scramble};

const TOKEN_BYTES: usize = 4;

/// Markers that are one token each; their ids start with 0xFF, which no UTF-8 text contains.
const SPECIALS: [(&str, u32); 3] =
    [("<|im_start|>", 0xff00_0001), ("<|im_sep|>", 0xff00_0002), ("<|im_end|>", 0xff00_0003)];

/// One message of a conversation, in the order the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user`, `assistant`, …
    pub role: String,
    /// Its text.
    pub content: String,
}

/// Text to ids.
#[must_use]
pub fn tokenize(text: &str) -> Vec<u32> {
    let mut tokens = Vec::with_capacity(text.len() / TOKEN_BYTES + 1);
    let mut rest = text;
    while let Some((at, marker, id)) = next_special(rest) {
        cut(rest.get(..at).unwrap_or_default(), &mut tokens);
        tokens.push(id);
        rest = rest.get(at + marker.len()..).unwrap_or_default();
    }
    cut(rest, &mut tokens);
    tokens
}

/// Ids to text. Bytes that are not UTF-8 become U+FFFD; a NUL at the start of a token is lost.
#[must_use]
pub fn detokenize(tokens: &[u32]) -> String {
    let mut bytes = Vec::with_capacity(tokens.len() * TOKEN_BYTES);
    for &token in tokens {
        match SPECIALS.iter().find(|(_, id)| *id == token) {
            Some((marker, _)) => bytes.extend_from_slice(marker.as_bytes()),
            None => bytes.extend(token.to_be_bytes().into_iter().skip_while(|&byte| byte == 0)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The conversation as the model sees it, up to where its answer begins.
#[must_use]
pub fn tokenize_chat(turns: &[Turn]) -> Vec<u32> {
    let [(_, start), (_, separator), (_, end)] = SPECIALS;
    let mut tokens = Vec::new();
    for turn in turns {
        tokens.push(start);
        tokens.extend(tokenize(&turn.role));
        tokens.push(separator);
        tokens.extend(tokenize(&turn.content));
        tokens.push(end);
    }
    tokens.push(start);
    tokens.extend(tokenize("assistant"));
    tokens.push(separator);
    tokens
}

/// What the simulated model answers to one prompt: endless, a function of seed, prompt, adapter and salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voice(u64);

impl Voice {
    /// The answer to the prompt that `chain` holds; `sample` tells apart several answers to one prompt.
    #[must_use]
    pub fn of(chain: &ChainBuilder, seed: u64, sample: u64) -> Self {
        Self(chain.digest() ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ sample.rotate_left(48))
    }

    /// The answer's token `index`: three letters and a space, so that sent back it is cut into the same tokens.
    #[must_use]
    pub fn word(self, index: u32) -> [u8; TOKEN_BYTES] {
        let draw = scramble(self.0 ^ scramble(u64::from(index)));
        let pick = |letters: &'static [u8], shift: u32| {
            let count = u64::try_from(letters.len()).unwrap_or(1);
            let index = usize::try_from((draw >> shift) % count).unwrap_or_default();
            letters.get(index).copied().unwrap_or(b'x')
        };
        [pick(b"bdfgklmnprstvz", 0), pick(b"aeiou", 16), pick(b"lmnrst", 32), b' ']
    }

    /// The id of that token.
    #[must_use]
    pub fn token(self, index: u32) -> u32 {
        u32::from_be_bytes(self.word(index))
    }
}

fn next_special(text: &str) -> Option<(usize, &'static str, u32)> {
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.find("<|")) {
        let at = from + found;
        let rest = text.get(at..).unwrap_or_default();
        if let Some(&(marker, id)) = SPECIALS.iter().find(|(marker, _)| rest.starts_with(marker)) {
            return Some((at, marker, id));
        }
        from = at + 2;
    }
    None
}

fn cut(text: &str, tokens: &mut Vec<u32>) {
    tokens.extend(
        text.as_bytes()
            .chunks(TOKEN_BYTES)
            .map(|piece| piece.iter().fold(0_u32, |id, &byte| (id << 8) | u32::from(byte))),
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::ChainSeed;

    fn turn(role: &str, content: &str) -> Turn {
        Turn { role: role.to_owned(), content: content.to_owned() }
    }

    #[test]
    fn an_answer_sent_back_extends_the_token_sequence() {
        let first = tokenize_chat(&[turn("system", "be kind"), turn("user", "hello there")]);
        let mut chain = ChainBuilder::new(16, ChainSeed::default());
        chain.push_tokens(&first);
        let voice = Voice::of(&chain, 7, 0);
        let answer: Vec<u32> = (0..20).map(|index| voice.token(index)).collect();
        let text = detokenize(&answer);
        let second = tokenize_chat(&[
            turn("system", "be kind"),
            turn("user", "hello there"),
            turn("assistant", &text),
            turn("user", "more"),
        ]);
        let expected: Vec<u32> = first.iter().chain(&answer).copied().collect();
        assert_eq!(second[..expected.len()], expected[..]);
    }

    #[test]
    fn markers_are_one_token() {
        assert_eq!(tokenize("<|im_start|>ab<|im_end|>").len(), 3);
        assert_eq!(tokenize("<|<|im_end|>").len(), 2);
        assert_eq!(tokenize("<|nothing"), tokenize("<|nothing"));
    }

    proptest! {
        #[test]
        fn text_survives_the_round_trip(text in "[^\u{0}]{0,60}") {
            prop_assert_eq!(detokenize(&tokenize(&text)), text);
        }

        #[test]
        fn four_bytes_make_a_token(text in "[a-z]{0,100}") {
            prop_assert_eq!(tokenize(&text).len(), text.len().div_ceil(4));
        }
    }
}
