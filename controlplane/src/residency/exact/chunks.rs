//! Which blocks end a chunk. Nearly always one; several where one text was cut into tokens in several ways, or by
//! engines that name differently: the chunk is then held by whoever holds any of them.

use hashbrown::HashTable;

use super::block::{Block, Blocks, END_BYTES};
use super::sets::fold;
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

/// The key of chunk end `nth` of `block`.
fn key_of(block: &Block, nth: u8, tails: &Tails) -> Option<u64> {
    let start = usize::from(nth) * END_BYTES;
    let key = tails.get(block.tail, block.tail_len())?.get(start..start + 8)?;
    key.first_chunk().map(|&key| u64::from_le_bytes(key))
}

/// Chunk key -> blocks that end it. The keys themselves stand in the blocks' tails.
#[derive(Default)]
pub(super) struct Chunks {
    ends: HashTable<Place>,
    /// Places whose key has another place.
    repeated: usize,
}

/// Where a chunk end stands: a block and which of its ends. 5 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    block: [u8; 4],
    nth: u8,
}

impl Place {
    fn new(block: u32, nth: u8) -> Self {
        Self { block: block.to_le_bytes(), nth }
    }

    fn block(self) -> u32 {
        u32::from_le_bytes(self.block)
    }

    fn key(self, blocks: &Blocks, tails: &Tails) -> Option<u64> {
        key_of(blocks.get(self.block())?, self.nth, tails)
    }
}

impl Chunks {
    pub(super) fn len(&self) -> usize {
        self.ends.len() - self.repeated
    }

    /// `block`, whose tail is in place, ends the chunk `key` with its end `nth`.
    pub(super) fn insert(&mut self, key: u64, block: u32, nth: u8, blocks: &Blocks, tails: &Tails) {
        self.repeated += usize::from(self.is_known(key, blocks, tails));
        let rehash = |place: &Place| place.key(blocks, tails).map_or(0, fold);
        self.ends.insert_unique(fold(key), Place::new(block, nth), rehash);
    }

    /// `block`, whose tail is still in place, no longer counts.
    pub(super) fn remove(&mut self, key: u64, block: u32, nth: u8, blocks: &Blocks, tails: &Tails) {
        let place = Place::new(block, nth);
        if let Ok(entry) = self.ends.find_entry(fold(key), |&other| other == place) {
            entry.remove();
            if self.repeated > 0 && self.is_known(key, blocks, tails) {
                self.repeated -= 1;
            }
        }
    }

    /// Every block that ends `key`.
    pub(super) fn blocks_of(&self, key: u64, blocks: &Blocks, tails: &Tails) -> impl Iterator<Item = u32> {
        self.places(key, blocks, tails).map(Place::block)
    }

    /// Has any chunk several blocks that end it?
    pub(super) const fn has_repeated(&self) -> bool {
        self.repeated > 0
    }

    /// Does no other block end `key`, the end `nth` of `block`?
    pub(super) fn is_single(&self, key: u64, block: u32, nth: u8, blocks: &Blocks, tails: &Tails) -> bool {
        let own = Place::new(block, nth);
        let is_other = |&place: &Place| place != own && place.key(blocks, tails) == Some(key);
        self.repeated == 0 || !self.ends.iter_hash(fold(key)).any(is_other)
    }

    fn is_known(&self, key: u64, blocks: &Blocks, tails: &Tails) -> bool {
        self.places(key, blocks, tails).next().is_some()
    }

    fn places(&self, key: u64, blocks: &Blocks, tails: &Tails) -> impl Iterator<Item = Place> {
        self.ends.iter_hash(fold(key)).copied().filter(move |place| place.key(blocks, tails) == Some(key))
    }

    pub(super) fn bytes(&self) -> usize {
        self.ends.allocation_size()
    }
}
