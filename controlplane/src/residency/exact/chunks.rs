//! Which blocks end a chunk. Nearly always one; several where one text was cut into tokens in several ways, or by
//! engines that name differently: the chunk is then held by whoever holds any of them.

use hashbrown::HashTable;

use super::block::{Block, Blocks, END_BYTES};
use super::sets::{WordMap, fold};
use super::tails::Tails;

/// One chunk end of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkEnd {
    pub(super) key: u64,
    /// Prompt tokens up to the end of the chunk.
    pub(super) tokens: u32,
}

/// The chunk ends of `block`, in order.
pub(super) fn ends<'a>(block: &'a Block, tails: &'a Tails) -> impl Iterator<Item = ChunkEnd> + 'a {
    let all = if block.ends == 0 { None } else { tails.get(block.tail, block.tail_len()) };
    let ends = all.and_then(|tail| tail.get(..block.ends_len())).unwrap_or_default();
    let (ends, _) = ends.as_chunks::<END_BYTES>();
    ends.iter().map(|&[a, b, c, d, e, f, g, h, low, high]| ChunkEnd {
        key: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        tokens: block.tokens.saturating_sub(u32::from(u16::from_le_bytes([low, high]))),
    })
}

/// Chunk key -> blocks that end it.
#[derive(Default)]
pub(super) struct Chunks {
    /// The first block of each.
    by_key: HashTable<Entry>,
    /// All blocks of chunks that have several.
    several: WordMap<Vec<u32>>,
}

#[derive(Clone, Copy)]
struct Entry {
    block: u32,
    /// Of the key; tells most others apart without a look at the block.
    tag: u32,
}

impl Entry {
    fn hash(self) -> u64 {
        fold(u64::from(self.tag))
    }

    fn is(self, key: u64, blocks: &Blocks, tails: &Tails) -> bool {
        self.tag == tag(key) && blocks.get(self.block).is_some_and(|block| ends(block, tails).any(|end| end.key == key))
    }
}

impl Chunks {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// `block`, whose tail is in place, ends the chunk `key`.
    pub(super) fn insert(&mut self, key: u64, block: u32, blocks: &Blocks, tails: &Tails) {
        let entry = Entry { block, tag: tag(key) };
        match self.by_key.find(entry.hash(), |entry| entry.is(key, blocks, tails)) {
            None => drop(self.by_key.insert_unique(entry.hash(), entry, |&entry| entry.hash())),
            Some(first) if first.block != block => {
                let first = first.block;
                self.several.entry(key).or_insert_with(|| vec![first]).push(block);
            }
            Some(_) => {}
        }
    }

    /// `block`, whose tail is still in place, no longer counts.
    pub(super) fn remove(&mut self, key: u64, block: u32, blocks: &Blocks, tails: &Tails) {
        let hash = Entry { block, tag: tag(key) }.hash();
        if self.several.is_empty() {
            // Then the block alone ends it: no look at its tail is needed.
            if let Ok(entry) = self.by_key.find_entry(hash, |entry| entry.block == block && entry.tag == tag(key)) {
                entry.remove();
            }
            return;
        }
        let Ok(mut entry) = self.by_key.find_entry(hash, |entry| entry.is(key, blocks, tails)) else { return };
        match self.several.get_mut(&key) {
            None if entry.get().block == block => drop(entry.remove()),
            None => {}
            Some(several) => {
                several.retain(|&other| other != block);
                if let Some(&first) = several.first() {
                    entry.get_mut().block = first;
                }
                if several.len() <= 1 {
                    self.several.remove(&key);
                }
            }
        }
    }

    /// Every block that ends `key`.
    pub(super) fn blocks_of(&self, key: u64, blocks: &Blocks, tails: &Tails, into: &mut Vec<u32>) {
        into.clear();
        if let Some(several) = self.several.get(&key) {
            into.extend_from_slice(several);
        } else {
            let hash = fold(u64::from(tag(key)));
            into.extend(self.by_key.find(hash, |entry| entry.is(key, blocks, tails)).map(|entry| entry.block));
        }
    }

    /// Is it known to end in one block only? Cheap; a no may be wrong.
    pub(super) fn is_single(&self, key: u64) -> bool {
        self.several.is_empty() || !self.several.contains_key(&key)
    }

    pub(super) fn bytes(&self) -> usize {
        let lists: usize = self.several.values().map(|list| list.capacity() * 4).sum();
        self.by_key.capacity() * 8 / 7 * 9 + self.several.capacity() * 8 / 7 * 33 + lists
    }
}

fn tag(key: u64) -> u32 {
    u32::try_from(key >> 32).unwrap_or(0)
}
