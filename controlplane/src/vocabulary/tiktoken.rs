//! tiktoken's rank files: a line for each token, its bytes in base64 and its rank, which is its id.
//!
//! They hold neither the special tokens nor the pattern that cuts text. Special tokens come from a companion
//! `tokenizer_config.json` or from a list; without the pattern the self-test still works, comparing ids does not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::draft::Draft;
use super::model_files::{RankHints, TokenizerConfig};
use super::ranks::RankEncoder;
use super::read_error::within;
use super::{ReadError, Vocabulary};
use shared::text_form::TextForm;

/// Its name in errors.
pub(super) const FILE: &str = "tiktoken ranks";
/// Four times the largest in use (Qwen 3.6: 4.6 MB).
const MAX_BYTES: usize = 16 << 20;

/// The vocabulary of `ranks`.
pub(super) fn read(ranks: &[u8], config: &TokenizerConfig, hints: &RankHints) -> Result<Vocabulary, ReadError> {
    let mut draft = Draft::new(FILE);
    for (id, bytes) in parse(ranks)? {
        draft.put(u64::from(id), bytes)?;
    }
    let listed = hints.special.iter().map(|(id, _)| *id);
    let companions = config.added_tokens().iter().filter_map(|token| token.id());
    if let Some(id) = companions.chain(listed).find(|id| draft.has(*id)) {
        return Err(ReadError::TokenId { what: FILE, id: u64::from(id), why: "is a rank and a special token at once" });
    }
    for token in config.added_tokens() {
        token.put(&mut draft)?;
    }
    for (id, text) in &hints.special {
        draft.put_special(u64::from(*id), text)?;
    }
    if !draft.has_special() {
        return Err(ReadError::NoSpecialTokens(FILE));
    }
    let adds = config.add_bos_token.unwrap_or_default();
    let bos = config.bos_token.as_deref().filter(|_| adds).and_then(|text| draft.special_id(text));
    draft.finish(TextForm::default(), bos.as_slice())
}

/// Its encoder, with the special tokens of `vocabulary`.
pub(super) fn encoder(ranks: &[u8], vocabulary: &Vocabulary, hints: &RankHints) -> Result<RankEncoder, ReadError> {
    let special = vocabulary.special_tokens().iter().map(|token| (token.id, token.text.clone()));
    RankEncoder::new(FILE, parse(ranks)?.into_iter(), special, hints.pattern.as_deref())
}

fn parse(ranks: &[u8]) -> Result<Vec<(u32, Vec<u8>)>, ReadError> {
    within(FILE, ranks.len(), MAX_BYTES)?;
    let lines = ranks.split(|byte| *byte == b'\n').enumerate();
    lines.filter(|(_, line)| !line.trim_ascii().is_empty()).map(|(at, line)| parse_line(at, line)).collect()
}

fn parse_line(at: usize, line: &[u8]) -> Result<(u32, Vec<u8>), ReadError> {
    let wrong = |why: &str| ReadError::Malformed { what: FILE, why: format!("line {}: {why}", at.saturating_add(1)) };
    let line = std::str::from_utf8(line).map_err(|_| wrong("not UTF-8"))?;
    let (bytes, rank) = line.trim().split_once(' ').ok_or_else(|| wrong("not `base64 rank`"))?;
    let bytes = STANDARD.decode(bytes).map_err(|_| wrong("not base64"))?;
    Ok((rank.trim().parse().map_err(|_| wrong("rank is no number"))?, bytes))
}

#[cfg(test)]
mod tests;
