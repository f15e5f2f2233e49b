//! Token ids -> bytes at the speed of copying: a word per token that holds its bytes when they are 15 or less.
//!
//! A token that the vocabulary does not know ends the text: what stands behind it cannot be told.

use crate::vocabulary::table::TokenTable;

/// Length that sends the reader to the table.
const LONG: usize = 0xFF;
const INLINE: usize = 15;
/// Bytes in a word; as many may be written past the end of a text.
const WORD: usize = 16;

pub(super) struct Decoder {
    /// By token: the length in the low byte, then the bytes.
    words: Vec<u128>,
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
        let all = into.len();
        let mut rest = into.as_mut_slice();
        for &token in tokens {
            let word = *self.words.get(token as usize)?;
            let length = length(word);
            if length.wrapping_sub(1) >= INLINE {
                return self.decode_long(tokens, into);
            }
            *rest.first_chunk_mut::<WORD>()? = (word >> 8).to_le_bytes();
            rest = rest.get_mut(length..)?;
        }
        Some(all - rest.len())
    }

    /// As `decode`, whatever the tokens' lengths.
    #[cold]
    fn decode_long(&self, tokens: &[u32], into: &mut Vec<u8>) -> Option<usize> {
        let mut end = 0;
        for &token in tokens {
            let bytes = self.table.bytes_of(token)?;
            into.resize(into.len().max(end + bytes.len()), 0);
            into.get_mut(end..end + bytes.len())?.copy_from_slice(bytes);
            end += bytes.len();
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

const fn length(word: u128) -> usize {
    (word & 0xFF) as usize
}

fn word(bytes: &[u8]) -> u128 {
    if bytes.len() > INLINE {
        return LONG as u128;
    }
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u128::from(byte)) << 8 | bytes.len() as u128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_tokens_decode_to_their_bytes_and_unknown_ones_to_nothing() {
        let (long, edge) = ([b'x'; 300], [b'y'; 15]);
        let past = [b'z'; 16];
        let decoder = Decoder::new(TokenTable::new([Some(&b"ab"[..]), None, Some(&long), Some(&edge), Some(&past)]));
        let mut out = Vec::new();
        for (tokens, expected) in [
            (&[0, 3, 0][..], [&b"ab"[..], &edge, b"ab"].concat()),
            (&[0, 2, 3, 4, 0], [&b"ab"[..], &long, &edge, &past, b"ab"].concat()),
        ] {
            let length = decoder.decode(tokens, &mut out).unwrap();
            assert_eq!(out[..length], expected);
        }
        assert_eq!(decoder.decode(&[0, 1], &mut out), None);
        assert_eq!(decoder.decode(&[5], &mut out), None);
        assert_eq!(decoder.tokens_within(&[0, 2, 3], 301), 1);
        assert_eq!(decoder.tokens_within(&[0, 2, 3], 302), 2);
    }
}
