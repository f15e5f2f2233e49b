//! Text to tokens and back, with the built-in vocabulary or a model's `tokenizer.json`.
//!
//! Loaded tokenizers decode by table, token by token: exact for byte-level vocabularies, and for the others as far as a token's text
//! does not depend on its neighbours.

use std::collections::HashMap;

use super::{LanguageError, vocabulary};

/// Whether the tokenizer may put tokens around the text (a BOS, usually).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpecialTokens {
    /// As for a bare prompt.
    Added,
    /// As for a rendered conversation.
    AsWritten,
}

/// A tokenizer.
#[derive(Debug)]
pub(crate) enum Tokenizer {
    Builtin,
    Loaded(Box<Loaded>),
}

/// A model's tokenizer and the bytes of each of its tokens.
#[derive(Debug)]
pub(crate) struct Loaded {
    tokenizer: tokenizers::Tokenizer,
    bytes: Vec<Box<[u8]>>,
}

impl Tokenizer {
    pub(super) fn load(json: &str) -> Result<Self, LanguageError> {
        let failed = |error: tokenizers::Error| LanguageError::Tokenizer(error.to_string());
        let tokenizer = tokenizers::Tokenizer::from_bytes(json).map_err(failed)?;
        let described: serde_json::Value =
            serde_json::from_str(json).map_err(|error| LanguageError::Tokenizer(error.to_string()))?;
        let byte_level = described.get("decoder").is_some_and(|decoder| decoder.to_string().contains("ByteLevel"));
        let spelling: HashMap<char, u8> = (0..=255).map(|byte| (vocabulary::spelled(byte), byte)).collect();
        let added = tokenizer.get_added_tokens_decoder();
        let mut bytes: Vec<Box<[u8]>> = Vec::new();
        let mut entries: Vec<(String, u32)> = tokenizer.get_vocab(true).into_iter().collect();
        entries.sort_unstable_by_key(|(_, id)| *id);
        for (text, id) in entries {
            let Ok(index) = usize::try_from(id) else { continue };
            if bytes.len() <= index {
                bytes.resize(index + 1, Box::default());
            }
            let text = match (added.get(&id), byte_level) {
                (Some(_), _) => text.into_bytes(),
                (None, true) => text.chars().filter_map(|character| spelling.get(&character).copied()).collect(),
                (None, false) => byte_token(&text).unwrap_or_else(|| text.replace('\u{2581}', " ").into_bytes()),
            };
            if let Some(slot) = bytes.get_mut(index) {
                *slot = text.into();
            }
        }
        Ok(Self::Loaded(Box::new(Loaded { tokenizer, bytes })))
    }

    /// Text to ids. A text the tokenizer refuses has none.
    pub(crate) fn encode(&self, text: &str, special: SpecialTokens) -> Vec<u32> {
        match self {
            Self::Builtin => vocabulary::encode(text),
            Self::Loaded(loaded) => loaded
                .tokenizer
                .encode_fast(text, special == SpecialTokens::Added)
                .map(|encoding| encoding.get_ids().to_vec())
                .unwrap_or_default(),
        }
    }

    /// Ids to text. Bytes that are not UTF-8 become U+FFFD.
    pub(crate) fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| self.bytes(token)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes of one token; empty when it is none.
    pub(crate) fn bytes(&self, token: u32) -> Vec<u8> {
        match self {
            Self::Builtin => vocabulary::bytes(token),
            Self::Loaded(loaded) => {
                let bytes = usize::try_from(token).ok().and_then(|index| loaded.bytes.get(index));
                bytes.map(|bytes| bytes.to_vec()).unwrap_or_default()
            }
        }
    }
}

/// `<0xNN>`, as SentencePiece spells bytes it has no token for.
fn byte_token(text: &str) -> Option<Vec<u8>> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(hex, 16).ok().map(|byte| vec![byte])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vocabulary_loads_as_any_other() {
        let loaded = Tokenizer::load(&vocabulary::tokenizer_json().to_string()).unwrap();
        let text = "<|im_start|>user<|im_sep|>caf\u{e9} 42 bal gor <|im_end|>";
        let tokens = loaded.encode(text, SpecialTokens::AsWritten);
        assert_eq!(tokens, Tokenizer::Builtin.encode(text, SpecialTokens::AsWritten));
        assert_eq!(loaded.decode(&tokens), text);
        assert_eq!(loaded.bytes(u32::MAX), b"");
    }

    #[test]
    fn a_file_that_is_no_tokenizer_is_refused() {
        assert!(Tokenizer::load("{}").unwrap_err().to_string().starts_with("tokenizer: "));
    }
}
