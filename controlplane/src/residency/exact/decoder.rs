//! Token ids -> bytes at the speed of copying: a word per token that holds its bytes when they are seven or less.
//!
//! A token that the vocabulary does not know ends the text: what stands behind it cannot be told.

use crate::vocabulary::table::TokenTable;

/// Length that sends the reader to the table.
const LONG: usize = 0xFF;
const INLINE: usize = 7;
/// Bytes in a word; as many may be written past the end of a text.
const WORD: usize = 8;

pub(super) struct Decoder {
    /// By token: the length in the low byte, then the bytes.
    words: Vec<u64>,
    table: TokenTable,
}

impl Decoder {
    pub(super) fn new(table: TokenTable) -> Self {
        let ids = 0..u32::try_from(table.size()).unwrap_or(u32::MAX);
        let words = ids.map(|id| word(table.bytes_of(id).unwrap_or_default())).collect();
        Self { words, table }
    }

    /// Writes what `tokens` stand for to the front of `into`, which grows as needed, and returns its length. `None` when
    /// one of them stands for nothing.
    pub(super) fn decode(&self, tokens: &[u32], into: &mut Vec<u8>) -> Option<usize> {
        let needed = tokens.len() * INLINE + WORD;
        if into.len() < needed {
            into.resize(needed, 0);
        }
        let mut end = 0;
        for (at, &token) in tokens.iter().enumerate() {
            let word = *self.words.get(token as usize)?;
            match length(word) {
                0 => return None,
                LONG => {
                    let bytes = self.table.bytes_of(token)?;
                    into.resize(into.len().max(end + bytes.len() + (tokens.len() - at) * INLINE + WORD), 0);
                    into.get_mut(end..end + bytes.len())?.copy_from_slice(bytes);
                    end += bytes.len();
                }
                length => {
                    *into.get_mut(end..)?.first_chunk_mut::<WORD>()? = (word >> 8).to_le_bytes();
                    end += length;
                }
            }
        }
        Some(end)
    }

    /// How many of the first `tokens` lie within their first `bytes` bytes.
    pub(super) fn tokens_within(&self, tokens: &[u32], bytes: usize) -> usize {
        let mut end = 0;
        tokens
            .iter()
            .take_while(|&&token| {
                end += self.len_of(token);
                end <= bytes
            })
            .count()
    }

    fn len_of(&self, token: u32) -> usize {
        match self.words.get(token as usize).map_or(0, |&word| length(word)) {
            LONG => self.table.bytes_of(token).map_or(0, <[u8]>::len),
            length => length,
        }
    }
}

const fn length(word: u64) -> usize {
    (word & 0xFF) as usize
}

fn word(bytes: &[u8]) -> u64 {
    if bytes.len() > INLINE {
        return LONG as u64;
    }
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)) << 8 | bytes.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_tokens_decode_to_their_bytes_and_unknown_ones_to_nothing() {
        let long = [b'x'; 300];
        let decoder =
            Decoder::new(TokenTable::new([Some(&b"ab"[..]), None, Some(&long), Some(b"1234567"), Some(b"12345678")]));
        let mut out = Vec::new();
        let length = decoder.decode(&[0, 2, 3, 4, 0], &mut out).unwrap();
        let expected = [&b"ab"[..], &long, b"123456712345678ab"].concat();
        assert_eq!(out[..length], expected);
        assert_eq!(decoder.decode(&[0, 1], &mut out), None);
        assert_eq!(decoder.decode(&[5], &mut out), None);
        assert_eq!(decoder.tokens_within(&[0, 2, 3], 301), 1);
        assert_eq!(decoder.tokens_within(&[0, 2, 3], 302), 2);
    }
}
