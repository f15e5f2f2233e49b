//! Paged KV memory with prefix caching: every block is held (by one or more sequences), idle (cached, evictable) or blank.
//!
//! Idle blocks form one list in order of release. A sequence releases its blocks last one first, so the tail of a prefix is
//! evicted before its head and what stays cached is always a usable prefix. Equal contents computed twice lie in two blocks
//! (twins), as in vLLM: the first is the one that hits, and each is announced and removed for itself.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::chain::BlockHash;
use super::contents::BlockContents;
use super::groups::{SideGroups, Stretch};
use super::ledger::{CacheChange, Ledger, Medium, Origin};
use super::tiers::Tiers;

/// Index of a block of this cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BlockId(u32);

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone)]
struct Block {
    identity: Option<BlockHash>,
    holders: u32,
    older: u32,
    newer: u32,
    /// The next block of the same content.
    twin: u32,
}

/// Whether other blocks of the same content remain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copies {
    Left,
    Gone,
}

/// What the cache holds of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PrefixMatch {
    /// Leading blocks that are present.
    pub(super) blocks: u32,
    /// Of these, held by nobody: reusing them takes them off the evictable list.
    pub(super) idle: u32,
}

#[derive(Debug, Clone)]
pub(super) struct KvCache {
    blocks: Vec<Block>,
    blank: Vec<BlockId>,
    by_identity: HashMap<BlockHash, BlockId, BuildHasherDefault<AlreadyMixed>>,
    oldest: u32,
    newest: u32,
    idle: u32,
    pub(super) evictions: u64,
    pub(super) tiers: Tiers,
    /// None for models with full attention only.
    pub(super) aside: Option<SideGroups>,
    /// None when nobody listens.
    pub(super) ledger: Option<Ledger>,
}

impl KvCache {
    pub(super) fn new(capacity: u32, tiers: Tiers, aside: Option<SideGroups>, ledger: Option<Ledger>) -> Self {
        let blank_block = Block { identity: None, holders: 0, older: NONE, newer: NONE, twin: NONE };
        Self {
            blocks: (0..capacity).map(|_| blank_block.clone()).collect(),
            blank: (0..capacity).rev().map(BlockId).collect(),
            by_identity: HashMap::default(),
            oldest: NONE,
            newest: NONE,
            idle: 0,
            evictions: 0,
            tiers,
            aside,
            ledger,
        }
    }

    pub(super) fn capacity(&self) -> u32 {
        u32::try_from(self.blocks.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn idle(&self) -> u32 {
        self.idle
    }

    pub(super) fn blank(&self) -> u32 {
        u32::try_from(self.blank.len()).unwrap_or(u32::MAX)
    }

    /// Blocks a new sequence could get: blank and idle.
    pub(super) fn available(&self) -> u32 {
        self.blank() + self.idle
    }

    /// How far `chain` can be reused: where it is cached, and all groups can go on.
    pub(super) fn reusable(&self, chain: &[BlockHash]) -> PrefixMatch {
        let found = self.longest_match(chain);
        let Some(aside) = &self.aside else { return found };
        let held = chain.get(..usize::try_from(found.blocks).unwrap_or(usize::MAX)).unwrap_or(chain);
        self.longest_match(held.get(..aside.common_boundary(held)).unwrap_or_default())
    }

    /// What the side groups keep of new blocks.
    pub(super) fn keep_aside(&mut self, stretch: Stretch<'_>) {
        if let Some(aside) = &mut self.aside {
            aside.keep(stretch, self.ledger.as_mut());
        }
    }

    /// How far full attention has `chain`.
    pub(super) fn longest_match(&self, chain: &[BlockHash]) -> PrefixMatch {
        let mut found = PrefixMatch { blocks: 0, idle: 0 };
        for identity in chain {
            let Some(&id) = self.by_identity.get(identity) else { break };
            found.blocks += 1;
            found.idle += u32::from(self.block(id).holders == 0);
        }
        found
    }

    /// One more holder for the cached block of this identity.
    pub(super) fn hold(&mut self, identity: BlockHash) -> Option<BlockId> {
        let id = *self.by_identity.get(&identity)?;
        if self.block(id).holders == 0 {
            self.unlink(id);
        }
        self.block_mut(id).holders += 1;
        Some(id)
    }

    /// A block to write to: blank, or else the longest idle one, whose content is lost.
    pub(super) fn take(&mut self) -> Option<BlockId> {
        let id = match self.blank.pop() {
            Some(id) => id,
            None => self.evict_oldest()?,
        };
        self.block_mut(id).holders = 1;
        Some(id)
    }

    /// Publishes a held block's content: block `index` of `contents`, if anybody described it.
    pub(super) fn seal(
        &mut self,
        id: BlockId,
        identity: BlockHash,
        (contents, index): (Option<&Arc<BlockContents>>, usize),
    ) {
        if self.block(id).identity.is_some() {
            return;
        }
        self.block_mut(id).identity = Some(identity);
        match self.by_identity.get(&identity) {
            Some(&first) => self.append_twin(first, id),
            None => drop(self.by_identity.insert(identity, id)),
        }
        if let (Some(ledger), Some(contents)) = (&mut self.ledger, contents) {
            ledger.seal(id, contents, index);
        }
    }

    fn append_twin(&mut self, first: BlockId, id: BlockId) {
        let mut last = first;
        while self.block(last).twin != NONE {
            last = BlockId(self.block(last).twin);
        }
        self.block_mut(last).twin = id.0;
    }

    /// Takes a block out of its row of twins; says whether it was the only copy.
    fn drop_copy(&mut self, id: BlockId, identity: BlockHash) -> Copies {
        let next = std::mem::replace(&mut self.block_mut(id).twin, NONE);
        let Some(&first) = self.by_identity.get(&identity) else { return Copies::Gone };
        if first != id {
            let mut before = first;
            while self.block(before).twin != id.0 {
                before = BlockId(self.block(before).twin);
            }
            self.block_mut(before).twin = next;
            return Copies::Left;
        }
        match next {
            NONE => {
                self.by_identity.remove(&identity);
                Copies::Gone
            }
            next => {
                self.by_identity.insert(identity, BlockId(next));
                Copies::Left
            }
        }
    }

    /// One holder less.
    pub(super) fn release(&mut self, id: BlockId) {
        let block = self.block_mut(id);
        block.holders -= 1;
        if block.holders > 0 {
            return;
        }
        match block.identity {
            Some(_) => self.link_newest(id),
            None => self.blank.push(id),
        }
    }

    /// Makes every idle block blank without a word, as a crash does.
    pub(super) fn clear_idle(&mut self) {
        while let Some((id, _, _)) = self.pop_oldest() {
            self.blank.push(id);
        }
        self.tiers.clear();
        self.aside.iter_mut().for_each(SideGroups::clear);
        if let Some(ledger) = &mut self.ledger {
            ledger.restart();
        }
    }

    /// Makes every block blank and announces that as one change; refused while a block is held. The tiers keep what they have.
    pub(super) fn reset(&mut self) -> bool {
        if self.available() < self.capacity() {
            return false;
        }
        while let Some((id, _, _)) = self.pop_oldest() {
            self.blank.push(id);
        }
        self.aside.iter_mut().for_each(SideGroups::clear);
        if let Some(ledger) = &mut self.ledger {
            ledger.clear();
        }
        true
    }

    /// Frees the longest idle block for another use: its content moves to the tiers and is announced as removed.
    fn evict_oldest(&mut self) -> Option<BlockId> {
        let (id, identity, copies) = self.pop_oldest()?;
        let origin = self.ledger.as_mut().and_then(|ledger| ledger.forget(id));
        let digest = origin.as_ref().and_then(Origin::digest);
        if let (Some(identity), Copies::Gone) = (identity, copies) {
            self.tiers.offload(identity, origin, self.ledger.as_mut());
        }
        if let (Some(ledger), Some(digest)) = (&mut self.ledger, digest) {
            ledger.push(CacheChange::Removed { digest, medium: Medium::Gpu });
        }
        Some(id)
    }

    fn pop_oldest(&mut self) -> Option<(BlockId, Option<BlockHash>, Copies)> {
        if self.oldest == NONE {
            return None;
        }
        let id = BlockId(self.oldest);
        self.unlink(id);
        let identity = self.block_mut(id).identity.take();
        let copies = identity.map_or(Copies::Gone, |identity| self.drop_copy(id, identity));
        self.evictions += 1;
        Some((id, identity, copies))
    }

    fn link_newest(&mut self, id: BlockId) {
        let before = self.newest;
        let block = self.block_mut(id);
        block.older = before;
        block.newer = NONE;
        match before {
            NONE => self.oldest = id.0,
            before => self.block_mut(BlockId(before)).newer = id.0,
        }
        self.newest = id.0;
        self.idle += 1;
    }

    fn unlink(&mut self, id: BlockId) {
        let Block { older, newer, .. } = *self.block(id);
        match older {
            NONE => self.oldest = newer,
            older => self.block_mut(BlockId(older)).newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.block_mut(BlockId(newer)).older = older,
        }
        self.idle -= 1;
    }

    /// Holders of each block, by walking the blocks: the audit's independent count.
    pub(super) fn holders(&self) -> impl Iterator<Item = u32> + '_ {
        self.blocks.iter().map(|block| block.holders)
    }

    /// Length of the idle list, by walking it.
    pub(super) fn walk_idle(&self) -> u32 {
        let (mut at, mut length) = (self.oldest, 0);
        while at != NONE && length <= self.capacity() {
            length += 1;
            at = self.block(BlockId(at)).newer;
        }
        length
    }

    /// Different published contents.
    pub(super) fn cached(&self) -> u32 {
        u32::try_from(self.by_identity.len()).unwrap_or(u32::MAX)
    }

    #[expect(clippy::indexing_slicing, reason = "block ids are minted by `new` and never leave the cache's range")]
    fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id.0 as usize]
    }

    #[expect(clippy::indexing_slicing, reason = "block ids are minted by `new` and never leave the cache's range")]
    fn block_mut(&mut self, id: BlockId) -> &mut Block {
        &mut self.blocks[id.0 as usize]
    }
}

impl BlockId {
    /// Position among the cache's blocks.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Block hashes are mixed when they are made; hashing them again would be most of a lookup's cost.
#[derive(Debug, Clone, Copy, Default)]
struct AlreadyMixed(u64);

impl Hasher for AlreadyMixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}
