//! A vocabulary while it is read: tokens come in any order of ids, special ones after the others.
//!
//! Special tokens are put in as texts: the form of the text decides about their bytes.

use std::collections::BTreeMap;

use super::read_error::ReadError;
use super::table::TokenTable;
use super::{SpecialToken, Vocabulary};
use shared::text_form::TextForm;

/// Four times the largest vocabulary in use. Ids are indices of the table, so this bounds its memory.
const MAX_TOKENS: u32 = 1 << 20;
/// Bytes that occur in no UTF-8 text.
const NEVER_IN_TEXT: [u8; 2] = [0xc0, 0xc1];
const LAST_IN_TEXT: u8 = 0xf4;

/// See the module.
pub(super) struct Draft {
    what: &'static str,
    tokens: Vec<Option<Vec<u8>>>,
    special: BTreeMap<u32, String>,
}

impl Draft {
    /// Nothing yet; `what` names the file in errors.
    pub(super) const fn new(what: &'static str) -> Self {
        Self { what, tokens: Vec::new(), special: BTreeMap::new() }
    }

    /// A token of the model proper. Of several with one id the last counts.
    pub(super) fn put(&mut self, id: u64, bytes: Vec<u8>) -> Result<(), ReadError> {
        let small = u32::try_from(id).ok().filter(|id| *id < MAX_TOKENS);
        let at = small.and_then(|id| usize::try_from(id).ok());
        let at = at.ok_or(ReadError::TokenId { what: self.what, id, why: "is larger than any vocabulary" })?;
        if at >= self.tokens.len() {
            self.tokens.resize(at.saturating_add(1), None);
        }
        if let Some(slot) = self.tokens.get_mut(at) {
            *slot = Some(bytes);
        }
        Ok(())
    }

    /// A special token, which replaces one of the model with the same id.
    pub(super) fn put_special(&mut self, id: u64, text: &str) -> Result<(), ReadError> {
        self.put(id, Vec::new())?;
        if let Ok(id) = u32::try_from(id) {
            self.special.insert(id, text.to_owned());
        }
        Ok(())
    }

    /// Is there a token with this id?
    pub(super) fn has(&self, id: u32) -> bool {
        usize::try_from(id).ok().and_then(|at| self.tokens.get(at)).is_some_and(Option::is_some)
    }

    /// Is there a special token at all?
    pub(super) fn has_special(&self) -> bool {
        !self.special.is_empty()
    }

    /// Text of a special token.
    pub(super) fn special_text(&self, id: u32) -> Option<&str> {
        self.special.get(&id).map(String::as_str)
    }

    /// Id of the special token with this text.
    pub(super) fn special_id(&self, text: &str) -> Option<u32> {
        self.special.iter().find(|(_, known)| *known == text).map(|(id, _)| *id)
    }

    /// The whole. `bos` are the special tokens before a completion's prompt.
    pub(super) fn finish(mut self, form: TextForm, bos: &[u32]) -> Result<Vocabulary, ReadError> {
        self.require_every_byte()?;
        for (id, text) in &self.special {
            if let Some(slot) = usize::try_from(*id).ok().and_then(|at| self.tokens.get_mut(at)) {
                *slot = Some(form.marked(text).into_owned().into_bytes());
            }
        }
        let text: String = bos.iter().filter_map(|id| self.special_text(*id)).collect();
        let form = TextForm { bos: text, ..form };
        let table = TokenTable::new(self.tokens.iter().map(Option::as_deref));
        let special = self.special.into_iter().map(|(id, text)| SpecialToken { id, text }).collect();
        Ok(Vocabulary::new(table, form, special, bos.to_vec()))
    }

    fn require_every_byte(&self) -> Result<(), ReadError> {
        let mut present = [false; 256];
        for token in self.tokens.iter().flatten() {
            if let [byte] = token.as_slice()
                && let Some(seen) = present.get_mut(usize::from(*byte))
            {
                *seen = true;
            }
        }
        let wanted = (0..=LAST_IN_TEXT).filter(|byte| !NEVER_IN_TEXT.contains(byte));
        match wanted.into_iter().find(|byte| !present.get(usize::from(*byte)).copied().unwrap_or_default()) {
            Some(byte) => Err(ReadError::ByteMissing { what: self.what, byte }),
            None => Ok(()),
        }
    }
}
