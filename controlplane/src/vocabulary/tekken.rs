//! Mistral's `tekken.json`: ranks with their pattern, behind a block of special tokens.
//!
//! Ids are ranks moved up by the number of special tokens, and the vocabulary is cut off at its stated size: the file
//! lists more ranks than the model has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::draft::Draft;
use super::ranks::RankEncoder;
use super::read_error::within;
use super::{ReadError, Vocabulary};
use shared::text_form::TextForm;

/// Its name in errors.
pub(super) const FILE: &str = "tekken.json";
/// Three times the largest in use (19 MB).
const MAX_BYTES: usize = 64 << 20;
/// The special tokens of files that list none (up to v7), from `mistral-common`.
const EARLY: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];
const BOS: &str = "<s>";

#[derive(Deserialize)]
struct Raw {
    config: RawConfig,
    vocab: Vec<RawToken>,
    #[serde(default)]
    special_tokens: Option<Vec<RawSpecial>>,
}

#[derive(Deserialize)]
struct RawConfig {
    pattern: String,
    default_vocab_size: u32,
    default_num_special_tokens: u32,
}

#[derive(Deserialize)]
struct RawToken {
    rank: u32,
    token_bytes: String,
}

#[derive(Deserialize)]
struct RawSpecial {
    rank: u32,
    token_str: String,
}

/// The vocabulary of `json`.
pub(super) fn read(json: &[u8]) -> Result<Vocabulary, ReadError> {
    let raw = Raw::parse(json)?;
    let mut draft = Draft::new(FILE);
    for (id, bytes) in raw.tokens()? {
        draft.put(u64::from(id), bytes)?;
    }
    for (id, text) in raw.special()? {
        draft.put_special(u64::from(id), &text)?;
    }
    let bos = draft.special_id(BOS);
    draft.finish(TextForm::default(), bos.as_slice())
}

/// Its encoder.
pub(super) fn encoder(json: &[u8]) -> Result<RankEncoder, ReadError> {
    let raw = Raw::parse(json)?;
    RankEncoder::new(FILE, raw.tokens()?.into_iter(), raw.special()?.into_iter(), Some(&raw.config.pattern))
}

impl Raw {
    fn parse(json: &[u8]) -> Result<Self, ReadError> {
        within(FILE, json.len(), MAX_BYTES)?;
        serde_json::from_slice(json).map_err(|error| ReadError::Malformed { what: FILE, why: error.to_string() })
    }

    fn tokens(&self) -> Result<Vec<(u32, Vec<u8>)>, ReadError> {
        let RawConfig { default_vocab_size: size, default_num_special_tokens: special, .. } = self.config;
        let ranks = size.saturating_sub(special);
        let kept = self.vocab.iter().filter(|token| token.rank < ranks);
        kept.map(|token| {
            let bytes = STANDARD.decode(&token.token_bytes);
            let wrong = || format!("vocab: rank {}: token_bytes are not base64", token.rank);
            let bytes = bytes.map_err(|_| ReadError::Malformed { what: FILE, why: wrong() })?;
            Ok((token.rank.saturating_add(special), bytes))
        })
        .collect()
    }

    /// Those listed, then fillers up to their stated number.
    fn special(&self) -> Result<Vec<(u32, String)>, ReadError> {
        let count = self.config.default_num_special_tokens;
        let mut texts: Vec<(u32, String)> = match &self.special_tokens {
            Some(listed) => listed.iter().map(|token| (token.rank, token.token_str.clone())).collect(),
            None => (0..).zip(EARLY.map(str::to_owned)).collect(),
        };
        if let Some((id, _)) = texts.iter().find(|(id, _)| *id >= count) {
            return Err(ReadError::TokenId { what: FILE, id: u64::from(*id), why: "is no special token's" });
        }
        let listed = u32::try_from(texts.len()).unwrap_or(u32::MAX);
        texts.extend((listed..count).map(|id| (id, format!("<SPECIAL_{id}>"))));
        Ok(texts)
    }
}

#[cfg(test)]
mod tests;
