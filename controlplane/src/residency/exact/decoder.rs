//! Token ids -> bytes at the speed of copying: a word per token that holds its bytes when they are seven or less.
//!
//! A token that the vocabulary does not know ends the text: what stands behind it cannot be told.

use crate::vocabulary::table::TokenTable;

/// Length byte that sends the reader to the table.
const LONG: u8 = u8::MAX;
const INLINE: usize = 7;

pub(super) struct Decoder {
    /// By token: length, then bytes.
    words: Vec<[u8; 8]>,
    table: TokenTable,
}

impl Decoder {
    pub(super) fn new(table: TokenTable) -> Self {
        let ids = 0..u32::try_from(table.size()).unwrap_or(u32::MAX);
        let words = ids.map(|id| word(table.bytes_of(id).unwrap_or_default())).collect();
        Self { words, table }
    }

    /// Appends what `tokens` stand for; `None` when one of them stands for nothing (`into` is then of no use).
    pub(super) fn decode(&self, tokens: &[u32], into: &mut Vec<u8>) -> Option<()> {
        let mut end = into.len();
        into.resize(end + tokens.len() * INLINE + 1, 0);
        for &token in tokens {
            let &[length, bytes @ ..] = self.words.get(usize::try_from(token).ok()?)?;
            if length == LONG {
                let bytes = self.table.bytes_of(token)?;
                into.truncate(end);
                into.extend_from_slice(bytes);
                end = into.len();
                into.resize(end + tokens.len() * INLINE + 1, 0);
                continue;
            }
            if length == 0 {
                return None;
            }
            into.get_mut(end..end + INLINE)?.copy_from_slice(&bytes);
            end += usize::from(length);
        }
        into.truncate(end);
        Some(())
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
        match usize::try_from(token).ok().and_then(|at| self.words.get(at)) {
            Some(&[LONG, ..]) => self.table.bytes_of(token).map_or(0, <[u8]>::len),
            Some(&[length, ..]) => usize::from(length),
            None => 0,
        }
    }
}

fn word(bytes: &[u8]) -> [u8; 8] {
    let mut word = [0; 8];
    match (word.split_first_mut(), u8::try_from(bytes.len())) {
        (Some((length, place)), Ok(n)) if bytes.len() <= INLINE => {
            *length = n;
            place.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        }
        (Some((length, _)), _) => *length = LONG,
        (None, _) => {}
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_tokens_decode_to_their_bytes_and_unknown_ones_to_nothing() {
        let long = [b'x'; 300];
        let decoder =
            Decoder::new(TokenTable::new([Some(&b"ab"[..]), None, Some(&long), Some(b"1234567"), Some(b"12345678")]));
        let mut out = b"=".to_vec();
        decoder.decode(&[0, 2, 3, 4, 0], &mut out).unwrap();
        let expected = [&b"=ab"[..], &long, b"123456712345678ab"].concat();
        assert_eq!(out, expected);
        assert_eq!(decoder.decode(&[0, 1], &mut out), None);
        assert_eq!(decoder.decode(&[5], &mut out), None);
        assert_eq!(decoder.tokens_within(&[0, 2, 3], 301), 1);
        assert_eq!(decoder.tokens_within(&[0, 2, 3], 302), 2);
    }
}
