//! Storage for millions of small records under 32-bit numbers, in one piece, so that a record is one bounds check away. It
//! grows by a small part, which large allocations do without copying; numbers of released records are used again, newest
//! first.

/// It grows by one part in this many, and at least by as many records.
const GROWTH: usize = 16;

/// Means "no record" wherever a record number is stored.
pub(super) const NONE: u32 = u32::MAX;

pub(super) struct Slab<T> {
    records: Vec<T>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { records: Vec::new(), free: Vec::new() }
    }

    /// Records in use.
    pub(super) fn len(&self) -> usize {
        self.records.len() - self.free.len()
    }

    /// Memory behind it, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.records.capacity() * size_of::<T>() + self.free.capacity() * size_of::<u32>()
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.records.get(number as usize)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.records.get_mut(number as usize)
    }

    /// `None` when all numbers are taken.
    pub(super) fn insert(&mut self, record: T) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            *self.get_mut(number)? = record;
            return Some(number);
        }
        let number = u32::try_from(self.records.len()).ok().filter(|&number| number != NONE)?;
        if self.records.len() == self.records.capacity() {
            self.records.reserve_exact(GROWTH.max(self.records.len() / GROWTH));
        }
        self.records.push(record);
        Some(number)
    }

    /// The caller releases a number once.
    pub(super) fn release(&mut self, number: u32) {
        self.free.push(number);
    }

    /// All records ever made, in number order; the caller tells released ones apart.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..).zip(&self.records)
    }
}
