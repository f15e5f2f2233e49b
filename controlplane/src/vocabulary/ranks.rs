//! An encoder from merge ranks alone, as tiktoken has it: the pair whose union ranks lowest merges first.
//!
//! A rank file does not tell how text is cut before merging. With another cut the tokens still spell the text, but they
//! are not the engine's: whoever compares ids asks [`RankEncoder::cuts_like_the_engine`] first.

use std::collections::{BTreeMap, HashMap};

use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

use super::read_error::ReadError;

/// Stands in where the model's own cut is unknown; the pieces need only spell the text.
const ANY_CUT: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+";

/// Why a text has no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unencodable;

/// See the module.
pub(super) struct RankEncoder {
    ids: HashMap<Box<[u8]>, u32>,
    /// By first byte, longest first.
    special: BTreeMap<u8, Vec<(Box<str>, u32)>>,
    split: Split,
    own_cut: bool,
}

impl RankEncoder {
    /// `tokens` in rank order of their ids; `pattern` cuts the text.
    pub(super) fn new(
        what: &'static str,
        tokens: impl Iterator<Item = (u32, Vec<u8>)>,
        special: impl Iterator<Item = (u32, String)>,
        pattern: Option<&str>,
    ) -> Result<Self, ReadError> {
        let regex = SplitPattern::Regex(pattern.unwrap_or(ANY_CUT).to_owned());
        let split = Split::new(regex, SplitDelimiterBehavior::Isolated, false)
            .map_err(|error| ReadError::Encoder { what, why: error.to_string() })?;
        let mut by_first: BTreeMap<u8, Vec<(Box<str>, u32)>> = BTreeMap::new();
        for (id, text) in special {
            if let Some(first) = text.bytes().next() {
                by_first.entry(first).or_default().push((text.into_boxed_str(), id));
            }
        }
        for texts in by_first.values_mut() {
            texts.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        }
        let ids = tokens.map(|(id, bytes)| (bytes.into_boxed_slice(), id)).collect();
        Ok(Self { ids, special: by_first, split, own_cut: pattern.is_some() })
    }

    /// Are its tokens the engine's?
    pub(super) const fn cuts_like_the_engine(&self) -> bool {
        self.own_cut
    }

    /// Tokens of `text`, special ones by their texts.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, Unencodable> {
        let mut out = Vec::new();
        let mut rest = text;
        while let Some((plain, id, after)) = self.next_special(rest) {
            self.encode_plain(plain, &mut out)?;
            out.push(id);
            rest = after;
        }
        self.encode_plain(rest, &mut out)?;
        Ok(out)
    }

    /// The text before the first special token, its id, the text after it.
    fn next_special<'t>(&self, text: &'t str) -> Option<(&'t str, u32, &'t str)> {
        text.char_indices().find_map(|(at, _)| {
            let (before, from) = text.split_at_checked(at)?;
            let texts = self.special.get(from.as_bytes().first()?)?;
            texts.iter().find_map(|(special, id)| Some((before, *id, from.strip_prefix(&**special)?)))
        })
    }

    fn encode_plain(&self, text: &str, out: &mut Vec<u32>) -> Result<(), Unencodable> {
        if text.is_empty() {
            return Ok(());
        }
        let mut cut = PreTokenizedString::from(text);
        self.split.pre_tokenize(&mut cut).map_err(|_| Unencodable)?;
        for (piece, ..) in cut.get_splits(OffsetReferential::Original, OffsetType::None) {
            self.merge(piece.as_bytes(), out)?;
        }
        Ok(())
    }

    /// Time grows with the square of the piece's length; the cut and the caller's bound keep it short.
    fn merge(&self, piece: &[u8], out: &mut Vec<u32>) -> Result<(), Unencodable> {
        if let Some(id) = self.ids.get(piece) {
            out.push(*id);
            return Ok(());
        }
        let mut starts: Vec<usize> = (0..=piece.len()).collect();
        let union = |starts: &[usize], at: usize| {
            let range = *starts.get(at)?..*starts.get(at.checked_add(2)?)?;
            self.ids.get(piece.get(range)?).copied()
        };
        let mut ranks: Vec<Option<u32>> = (0..starts.len()).map(|at| union(&starts, at)).collect();
        while let Some((_, at)) = ranks.iter().enumerate().filter_map(|(at, rank)| rank.map(|rank| (rank, at))).min() {
            let merged = at.saturating_add(1);
            starts.remove(merged);
            ranks.remove(merged);
            for changed in [Some(at), at.checked_sub(1)].into_iter().flatten() {
                if let Some(rank) = ranks.get_mut(changed) {
                    *rank = union(&starts, changed);
                }
            }
        }
        for pair in starts.windows(2) {
            if let [start, end] = pair {
                let id = piece.get(*start..*end).and_then(|bytes| self.ids.get(bytes));
                out.push(*id.ok_or(Unencodable)?);
            }
        }
        Ok(())
    }
}
