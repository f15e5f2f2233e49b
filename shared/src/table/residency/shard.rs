//! One part of the index: linear probing in a table of any size, which grows by a third when it is three quarters full.
//!
//! A full copy stands beside the old one only while this one shard grows.

use super::super::holders::SetId;

/// One chunk. Key 0 marks an empty entry; no chunk has it (`prefix::chain`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) key: u64,
    pub(super) set: SetId,
    /// 0: unknown.
    pub(super) tokens: u32,
}

const VACANT: Entry = Entry { key: 0, set: SetId::EMPTY, tokens: 0 };
const SMALLEST: usize = 8;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Shard {
    entries: Box<[Entry]>,
    used: usize,
}

impl Shard {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.key != 0)
    }

    pub(super) const fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Entry>()
    }

    pub(super) fn find(&self, key: u64) -> Option<&Entry> {
        self.entries.get(self.position(key)?).filter(|entry| entry.key == key && key != 0)
    }

    /// Adds or replaces; what was there before.
    pub(super) fn put(&mut self, entry: Entry) -> Option<Entry> {
        if (self.used + 1) * 4 > self.entries.len() * 3 {
            self.grow();
        }
        let place = self.position(entry.key).and_then(|at| self.entries.get_mut(at))?;
        let old = core::mem::replace(place, entry);
        if old.key == 0 {
            self.used += 1;
            return None;
        }
        Some(old)
    }

    /// Removes the key's entry; what was there.
    pub(super) fn remove(&mut self, key: u64) -> Option<Entry> {
        let mut hole = self.position(key)?;
        let removed = *self.entries.get(hole).filter(|entry| key != 0 && entry.key == key)?;
        self.used -= 1;
        // Backward-shift deletion: close the hole with every later entry that may move up to it.
        let mut at = hole;
        loop {
            at = self.after(at);
            let Some(&entry) = self.entries.get(at).filter(|entry| entry.key != 0) else { break };
            if self.distance(self.home(entry.key), at) >= self.distance(hole, at) {
                if let Some(place) = self.entries.get_mut(hole) {
                    *place = entry;
                }
                hole = at;
            }
        }
        if let Some(place) = self.entries.get_mut(hole) {
            *place = VACANT;
        }
        Some(removed)
    }

    fn grow(&mut self) {
        let size = (self.entries.len() + self.entries.len() / 3).max(SMALLEST);
        let old = core::mem::replace(&mut self.entries, vec![VACANT; size].into_boxed_slice());
        for entry in old.iter().filter(|entry| entry.key != 0) {
            if let Some(place) = self.position(entry.key).and_then(|at| self.entries.get_mut(at)) {
                *place = *entry;
            }
        }
    }

    /// The low half of the key as a fraction of the table.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low half is wanted; the product's high half is below the size"
    )]
    const fn home(&self, key: u64) -> usize {
        (((key as u32 as u64) * (self.entries.len() as u64)) >> 32) as usize
    }

    const fn after(&self, at: usize) -> usize {
        if at + 1 < self.entries.len() { at + 1 } else { 0 }
    }

    /// Steps from `from` to `to`, around the end.
    const fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.entries.len() - from }
    }

    /// Where `key` is, or the vacant entry where it would go; `None` only when there are no entries at all.
    fn position(&self, key: u64) -> Option<usize> {
        let mut at = self.home(key);
        loop {
            let entry = self.entries.get(at)?;
            if entry.key == key || entry.key == 0 {
                return Some(at);
            }
            at = self.after(at);
        }
    }
}
