//! Batches that cannot be applied yet, by number, within bounds. What does not fit is dropped: the hole that this leaves
//! is found and healed like any other.

use std::collections::BTreeMap;

use super::step::Numbered;

#[derive(Debug)]
pub(super) struct Held<T> {
    batches: BTreeMap<u64, Numbered<T>>,
    bytes: usize,
    most: usize,
    most_bytes: usize,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Kept,
    Dropped,
}

impl<T> Held<T> {
    pub(super) const fn new(most: usize, most_bytes: usize) -> Self {
        Self { batches: BTreeMap::new(), bytes: 0, most, most_bytes }
    }

    pub(super) fn put(&mut self, batch: Numbered<T>) -> Put {
        let bytes = self.bytes.saturating_add(batch.bytes);
        if self.batches.len() >= self.most || bytes > self.most_bytes {
            return Put::Dropped;
        }
        self.bytes = bytes;
        if let Some(twin) = self.batches.insert(batch.seq, batch) {
            self.bytes = self.bytes.saturating_sub(twin.bytes);
        }
        Put::Kept
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.batches.first_key_value().map(|(seq, _)| *seq)
    }

    pub(super) fn pop(&mut self) -> Option<Numbered<T>> {
        let (_, batch) = self.batches.pop_first()?;
        self.bytes = self.bytes.saturating_sub(batch.bytes);
        Some(batch)
    }

    pub(super) fn clear(&mut self) {
        self.batches.clear();
        self.bytes = 0;
    }
}
