//! Storage for millions of small records under 32-bit numbers. It grows by pages, so it never holds twice what it needs
//! and never copies; numbers of released records are used again, newest first.

const PAGE_BITS: u32 = 10;
const PAGE: usize = 1 << PAGE_BITS;

/// Means "no record" wherever a record number is stored.
pub(super) const NONE: u32 = u32::MAX;

pub(super) struct Slab<T> {
    pages: Vec<Vec<T>>,
    free: Vec<u32>,
    used: u32,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { pages: Vec::new(), free: Vec::new(), used: 0 }
    }

    /// Records in use.
    pub(super) fn len(&self) -> usize {
        self.used as usize - self.free.len()
    }

    /// Memory behind it, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.pages.len() * PAGE * size_of::<T>() + self.free.capacity() * size_of::<u32>()
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.pages.get((number >> PAGE_BITS) as usize)?.get(number as usize % PAGE)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.pages.get_mut((number >> PAGE_BITS) as usize)?.get_mut(number as usize % PAGE)
    }

    /// `None` when all numbers are taken.
    pub(super) fn insert(&mut self, record: T) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            *self.get_mut(number)? = record;
            return Some(number);
        }
        let number = self.used;
        if number == NONE {
            return None;
        }
        if self.pages.last().is_none_or(|page| page.len() == PAGE) {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        self.pages.last_mut()?.push(record);
        self.used += 1;
        Some(number)
    }

    /// The caller releases a number once.
    pub(super) fn release(&mut self, number: u32) {
        self.free.push(number);
    }

    /// All records ever made, in number order; the caller tells released ones apart.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..).zip(self.pages.iter().flatten())
    }
}
