//! A model's vocabulary as gateways get it, so that a prompt that comes as token ids finds what engines announced for the same
//! tokens. Pieces of it fill segments well; none fills one alone.

use std::sync::Arc;

use shared::wire::VocabularyPiece;

use crate::vocabulary::table::TokenTable;

/// What a vocabulary may take in each worker unless the configuration asks for it: those of the known models take 1.3 to 3 MB.
const LARGEST_UNASKED: usize = 3_000_000;
/// Bytes of a piece's tokens.
const PIECE_BYTES: usize = 24 << 10;
/// Tokens in a piece; each adds a byte or two of its own.
const PIECE_TOKENS: usize = 12 << 10;

/// The pieces of one vocabulary. Equal only to its own clones: comparing megabytes every few milliseconds would cost more than
/// a second copy of an equal vocabulary ever can.
#[derive(Clone, Debug)]
pub struct VocabularyRows(Arc<[VocabularyPiece]>);

impl PartialEq for VocabularyRows {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl VocabularyRows {
    /// Of `model`'s `table`, as the configuration `wants` it: by default when workers hardly notice.
    #[must_use]
    pub fn new(model: &str, table: &TokenTable, wants: Option<bool>) -> Option<Self> {
        if !wants.unwrap_or(table.memory() <= LARGEST_UNASKED) {
            return None;
        }
        let tokens = u32::try_from(table.size()).ok()?;
        let mut pieces: Vec<VocabularyPiece> = Vec::new();
        let mut bytes = 0_u32;
        for token in 0..tokens {
            let text = table.bytes_of(token).unwrap_or_default();
            let full = |piece: &VocabularyPiece| {
                piece.text.len() + text.len() > PIECE_BYTES || piece.lengths.len() >= PIECE_TOKENS
            };
            if pieces.last().is_none_or(full) {
                pieces.push(VocabularyPiece {
                    model: model.to_owned(),
                    tokens,
                    first: token,
                    ..VocabularyPiece::default()
                });
            }
            let length = u32::try_from(text.len()).ok()?;
            bytes = bytes.checked_add(length)?;
            let piece = pieces.last_mut()?;
            piece.lengths.push(length);
            piece.text.extend_from_slice(text);
        }
        pieces.iter_mut().for_each(|piece| piece.bytes = bytes);
        Some(Self(pieces.into()))
    }

    /// In order.
    #[must_use]
    pub fn pieces(&self) -> &[VocabularyPiece] {
        &self.0
    }

    /// What tells gateways that `model` has none any more.
    #[must_use]
    pub fn none(model: &str) -> VocabularyPiece {
        VocabularyPiece { model: model.to_owned(), ..VocabularyPiece::default() }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use shared::table::vocabulary::{Piece, Vocabulary};

    use super::*;
    use crate::publish::split::SEGMENT_BYTES;

    fn table(tokens: u32) -> TokenTable {
        let texts: Vec<String> = (0..tokens).map(|token| format!("t{token} ")).collect();
        TokenTable::new(texts.iter().map(|text| Some(text.as_bytes())))
    }

    #[test]
    fn gateways_decode_by_the_pieces_what_the_table_says() {
        let table = table(150_000);
        let rows = VocabularyRows::new("m", &table, None).unwrap();
        assert!(
            rows.pieces().len() > 30 && rows.pieces().iter().all(|piece| piece.encoded_len() < SEGMENT_BYTES / 3 * 2)
        );
        let mut vocabulary = Vocabulary::default();
        for piece in rows.pieces() {
            assert!(!vocabulary.is_complete() && vocabulary.take(&Piece::from_wire(piece.clone()).unwrap()));
        }
        let text = vocabulary.decode([0, 149_999, 77].into_iter()).unwrap();
        assert_eq!(text.collect::<Vec<_>>().concat(), b"t0 t149999 t77 ");
    }

    #[test]
    fn a_large_vocabulary_goes_to_gateways_only_when_asked_for() {
        let (small, large) = (table(1_000), table(400_000));
        assert!(large.memory() > LARGEST_UNASKED);
        assert!(VocabularyRows::new("m", &small, None).is_some() && VocabularyRows::new("m", &large, None).is_none());
        assert!(VocabularyRows::new("m", &small, Some(false)).is_none());
        assert!(VocabularyRows::new("m", &large, Some(true)).is_some());
    }
}
