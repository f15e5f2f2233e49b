//! What a base model's token ids stand for, as the control plane sends it: piece by piece, whole before it is used.
//!
//! Its bytes are in the form that residency is keyed by (`text_form`), so decoded ids chain like a rendered prompt. Nothing is
//! put before them: whoever sends ids has put the tokenizer's own ones there already.

use crate::wire;

/// Most ids, and most bytes, of a vocabulary: several times those of any known model.
pub const MOST_TOKENS: u32 = 1 << 21;
/// See [`MOST_TOKENS`].
pub const MOST_BYTES: u32 = 24 << 20;

/// A checked `wire::VocabularyPiece`, without its model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Ids of the whole vocabulary; 0: it is gone.
    pub tokens: u32,
    /// Bytes of the whole vocabulary.
    pub bytes: u32,
    /// The first id in here.
    pub first: u32,
    /// Bytes of each id.
    pub lengths: Vec<u32>,
    /// As long as `lengths` together.
    pub text: Vec<u8>,
}

impl Piece {
    /// `None` when the counts contradict each other or exceed the limits.
    #[must_use]
    pub fn from_wire(raw: wire::VocabularyPiece) -> Option<Self> {
        let end = u64::from(raw.first) + raw.lengths.len() as u64;
        let bytes: u64 = raw.lengths.iter().copied().map(u64::from).sum();
        let sound = raw.tokens <= MOST_TOKENS
            && raw.bytes <= MOST_BYTES
            && end <= u64::from(raw.tokens)
            && bytes == raw.text.len() as u64
            && bytes <= u64::from(raw.bytes);
        sound.then_some(Self {
            tokens: raw.tokens,
            bytes: raw.bytes,
            first: raw.first,
            lengths: raw.lengths,
            text: raw.text,
        })
    }
}

/// Token id -> bytes: two loads and a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary {
    text: Vec<u8>,
    /// End of each id's bytes; they begin where the ones before end.
    ends: Vec<u32>,
    tokens: u32,
}

/// A prompt that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The vocabulary has not come whole.
    #[error("the prompt comes as token ids, and the vocabulary is not here yet")]
    Incomplete,
    /// It has no such token.
    #[error("the prompt has a token id that the vocabulary does not know")]
    UnknownToken,
}

impl Vocabulary {
    /// Takes the next piece. False when it does not continue what is here: the whole vocabulary is then of no use.
    #[must_use]
    pub fn take(&mut self, piece: &Piece) -> bool {
        if piece.first == 0 {
            // Exactly what is needed: a VM never gives memory back.
            let (tokens, bytes) = (piece.tokens as usize, piece.bytes as usize);
            *self = Self { text: Vec::with_capacity(bytes), ends: Vec::with_capacity(tokens), tokens: piece.tokens };
        }
        if piece.tokens != self.tokens || piece.first as usize != self.ends.len() {
            return false;
        }
        let mut end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        for length in &piece.lengths {
            end = end.saturating_add(*length);
            self.ends.push(end);
        }
        self.text.extend_from_slice(&piece.text);
        true
    }

    /// Has its last piece come?
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.tokens > 0 && self.ends.len() == self.tokens as usize
    }

    /// What `ids` stand for, one after the other. Never put together: a token may be a hundred bytes long, and a body of
    /// nothing else would fill the VM.
    ///
    /// # Errors
    /// When the vocabulary is not whole, or one of them stands for nothing.
    pub fn decode<I>(&self, ids: I) -> Result<impl Iterator<Item = &[u8]>, Undecodable>
    where
        I: Iterator<Item = u32> + Clone,
    {
        if !self.is_complete() {
            return Err(Undecodable::Incomplete);
        }
        if ids.clone().any(|id| self.bytes_of(id).is_none()) {
            return Err(Undecodable::UnknownToken);
        }
        Ok(ids.filter_map(|id| self.bytes_of(id)))
    }

    fn bytes_of(&self, id: u32) -> Option<&[u8]> {
        let at = id as usize;
        let end = *self.ends.get(at)? as usize;
        let start = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).map(|end| *end as usize))?;
        self.text.get(start..end).filter(|bytes| !bytes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    use super::*;

    /// `tokens` in pieces of `count` ids each.
    fn pieces(tokens: &[Vec<u8>], count: usize) -> Vec<Piece> {
        let text = tokens.concat();
        let whole = |first: usize, piece: &[Vec<u8>]| wire::VocabularyPiece {
            model: "m".to_owned(),
            tokens: u32::try_from(tokens.len()).unwrap(),
            bytes: u32::try_from(text.len()).unwrap(),
            first: u32::try_from(first).unwrap(),
            lengths: piece.iter().map(|token| u32::try_from(token.len()).unwrap()).collect(),
            text: piece.concat(),
        };
        let pieces = tokens.chunks(count).enumerate();
        pieces.map(|(number, piece)| Piece::from_wire(whole(number * count, piece)).unwrap()).collect()
    }

    fn joined(vocabulary: &Vocabulary, ids: &[u32]) -> Result<Vec<u8>, Undecodable> {
        Ok(vocabulary.decode(ids.iter().copied())?.flatten().copied().collect())
    }

    proptest! {
        #[test]
        fn ids_decode_to_the_bytes_of_their_tokens_however_the_vocabulary_was_cut(
            tokens in vec(vec(any::<u8>(), 0..6), 1..60), count in 1usize..70, ids in vec(0u32..70, 0..40),
        ) {
            let mut vocabulary = Vocabulary::default();
            for piece in pieces(&tokens, count) {
                assert_eq!(joined(&vocabulary, &ids), Err(Undecodable::Incomplete));
                assert!(vocabulary.take(&piece));
            }
            let known: Option<Vec<&Vec<u8>>> =
                ids.iter().map(|&id| tokens.get(id as usize).filter(|token| !token.is_empty())).collect();
            let want = known.map(|known| known.into_iter().flatten().copied().collect::<Vec<u8>>());
            assert_eq!(joined(&vocabulary, &ids), want.ok_or(Undecodable::UnknownToken));
        }
    }

    #[test]
    fn a_piece_that_does_not_continue_what_is_here_is_refused_and_the_first_one_begins_anew() {
        let tokens = [b"a".to_vec(), b"bc".to_vec(), b"d".to_vec()];
        let pieces = pieces(&tokens, 1);
        let mut vocabulary = Vocabulary::default();
        assert!(vocabulary.take(&pieces[0]) && !vocabulary.take(&pieces[2]));
        assert!(vocabulary.take(&pieces[0]) && vocabulary.take(&pieces[1]) && vocabulary.take(&pieces[2]));
        assert_eq!(joined(&vocabulary, &[2, 1]), Ok(b"dbc".to_vec()));
    }

    #[test]
    fn counts_that_contradict_each_other_are_no_piece() {
        let sound = wire::VocabularyPiece {
            model: "m".to_owned(),
            tokens: 2,
            bytes: 3,
            first: 0,
            lengths: vec![1, 2],
            text: b"abc".to_vec(),
        };
        assert!(Piece::from_wire(sound.clone()).is_some());
        for broken in [
            wire::VocabularyPiece { tokens: 1, ..sound.clone() },
            wire::VocabularyPiece { bytes: 2, ..sound.clone() },
            wire::VocabularyPiece { first: 1, ..sound.clone() },
            wire::VocabularyPiece { text: b"ab".to_vec(), ..sound.clone() },
            wire::VocabularyPiece { lengths: vec![u32::MAX, 4], ..sound.clone() },
            wire::VocabularyPiece { tokens: u32::MAX, ..sound.clone() },
            wire::VocabularyPiece { bytes: u32::MAX, ..sound },
        ] {
            assert_eq!(Piece::from_wire(broken.clone()), None, "{broken:?}");
        }
    }
}
