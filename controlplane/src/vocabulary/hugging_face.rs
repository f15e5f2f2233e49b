//! `tokenizer.json` of Hugging Face's `tokenizers`: BPE over bytes, or SentencePiece's BPE and Unigram with byte fallback.
//!
//! Every step that touches text must be known to keep it (`shape`); what is unknown is refused, never ignored. Merges
//! are skipped: only the [`super::encoder::Encoder`] needs them.

mod byte_level;
mod pieces;
mod shape;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::draft::Draft;
use super::model_files::TokenizerConfig;
use super::read_error::within;
use super::{ReadError, Vocabulary};
use pieces::Pieces;
use shape::{Alphabet, Shape, unsupported};
use shared::text_form::{LeadingSpace, SPACE_MARK, Spaces, TextForm};

/// Its name in errors.
pub(super) const FILE: &str = "tokenizer.json";
/// Twice the largest in use (Gemma 3: 33 MB).
const MAX_BYTES: usize = 64 << 20;

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    added_tokens: Vec<RawAdded>,
    model: RawModel,
}

#[derive(Deserialize)]
struct RawModel {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    vocab: Pieces,
    #[serde(default)]
    merges: Option<IgnoredAny>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
}

/// A special token as both files list it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RawAdded {
    #[serde(default)]
    id: u64,
    content: String,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

impl RawAdded {
    /// The token, with the id under which a `tokenizer_config.json` lists it.
    pub(super) fn with_id(self, id: u64) -> Self {
        Self { id, ..self }
    }

    /// Its id, if it can be one.
    pub(super) fn id(&self) -> Option<u32> {
        u32::try_from(self.id).ok()
    }

    /// Puts the token into `draft`.
    pub(super) fn put(&self, draft: &mut Draft) -> Result<(), ReadError> {
        let strips = [(self.lstrip, "lstrip"), (self.rstrip, "rstrip")];
        if let Some((_, side)) = strips.into_iter().find(|(strips, _)| *strips) {
            let id = self.id().unwrap_or(u32::MAX);
            return Err(ReadError::Strips { content: self.content.clone(), id, side });
        }
        draft.put_special(self.id, &self.content)
    }
}

/// Refuses an oversized file.
pub(super) const fn bounded(json: &[u8]) -> Result<(), ReadError> {
    within(FILE, json.len(), MAX_BYTES)
}

/// The vocabulary of `json`; what `config` says of special tokens comes on top, as in `transformers`.
pub(super) fn read(json: &[u8], config: &TokenizerConfig) -> Result<Vocabulary, ReadError> {
    bounded(json)?;
    let raw: Raw =
        serde_json::from_slice(json).map_err(|error| ReadError::Malformed { what: FILE, why: error.to_string() })?;
    let shape = shape::of(&raw.normalizer, &raw.pre_tokenizer, &raw.decoder, &raw.post_processor)?;
    raw.model.keeps_text(&shape)?;
    let mut draft = Draft::new(FILE);
    for (id, piece) in raw.model.vocab.into_iter() {
        draft.put(id, shape.alphabet.bytes_of(&piece))?;
    }
    // The tokenizer file wins where both list an id.
    for token in config.added_tokens().iter().chain(&raw.added_tokens) {
        token.put(&mut draft)?;
    }
    let bos = begins_with(&shape, config, &draft)?;
    draft.finish(TextForm { normalizer: shape.normalizer, spaces: shape.spaces, bos: String::new() }, &bos)
}

/// `add_bos_token` of the configuration decides where it stands, else the post-processor.
fn begins_with(shape: &Shape, config: &TokenizerConfig, draft: &Draft) -> Result<Vec<u32>, ReadError> {
    match (config.add_bos_token, &config.bos_token) {
        (Some(false), _) => Ok(Vec::new()),
        (Some(true), Some(text)) => match draft.special_id(text) {
            Some(id) => Ok(vec![id]),
            None => Err(unsupported("tokenizer_config.json: bos_token", text, "the text of an added token")),
        },
        (Some(true), None) | (None, _) => {
            let missing = shape.bos.iter().find(|id| draft.special_text(**id).is_none());
            match missing {
                Some(id) => Err(unsupported("post_processor.special_tokens", &id.to_string(), "ids of added tokens")),
                None => Ok(shape.bos.clone()),
            }
        }
    }
}

impl RawModel {
    /// Is every text the concatenation of its tokens?
    fn keeps_text(&self, shape: &Shape) -> Result<(), ReadError> {
        let kind = match (self.kind.as_deref(), &self.vocab, self.merges.is_some()) {
            // Files of early versions do not name the type.
            (None, Pieces::ById(_), true) => "BPE",
            (None, ..) => "none",
            (Some(kind), ..) => kind,
        };
        if !matches!(kind, "BPE" | "Unigram") {
            return Err(unsupported("model.type", kind, "BPE, Unigram"));
        }
        if shape.alphabet == Alphabet::SentencePiece && !self.byte_fallback {
            return Err(unsupported("model.byte_fallback", "false", "true (others lose unknown characters)"));
        }
        if self.dropout.is_some_and(|dropout| dropout > 0.0) {
            return Err(unsupported("model.dropout", "random merges", "none"));
        }
        let affixes = [
            ("model.continuing_subword_prefix", &self.continuing_subword_prefix),
            ("model.end_of_word_suffix", &self.end_of_word_suffix),
        ];
        match affixes.into_iter().find(|(_, affix)| affix.as_deref().is_some_and(|affix| !affix.is_empty())) {
            Some((at, affix)) => Err(unsupported(at, affix.as_deref().unwrap_or_default(), "none")),
            None => Ok(()),
        }
    }
}

impl Alphabet {
    /// What a piece of the vocabulary stands for.
    fn bytes_of(self, piece: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => byte_level::bytes_of(piece),
            Self::SentencePiece => match fallback_byte(piece) {
                Some(byte) => vec![byte],
                None => piece.replace(SPACE_MARK, " ").into_bytes(),
            },
        }
    }

    const fn spaces(self, leading: LeadingSpace) -> Spaces {
        match self {
            Self::ByteLevel => Spaces::Plain,
            Self::SentencePiece => Spaces::SentencePiece(leading),
        }
    }
}

/// `<0x0A>` is the byte 10.
fn fallback_byte(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests;
