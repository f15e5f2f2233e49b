//! A bounded store of blocks that forgets the one used longest ago: what memories other than the device's paged one keep.

use std::collections::{BTreeMap, HashMap};

use super::chain::BlockHash;
use super::ledger::Origin;

#[derive(Debug, Clone)]
struct Kept {
    used: u64,
    origin: Option<Origin>,
}

/// See the module. `now` grows from use to use.
#[derive(Debug, Clone)]
pub(super) struct RecentBlocks {
    capacity: usize,
    kept: HashMap<BlockHash, Kept>,
    by_use: BTreeMap<u64, BlockHash>,
}

impl RecentBlocks {
    pub(super) fn new(blocks: u32) -> Self {
        let capacity = usize::try_from(blocks).unwrap_or(usize::MAX);
        Self { capacity, kept: HashMap::new(), by_use: BTreeMap::new() }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn holds(&self, identity: BlockHash) -> bool {
        self.kept.contains_key(&identity)
    }

    pub(super) fn touch(&mut self, identity: BlockHash, now: u64) {
        if let Some(kept) = self.kept.get_mut(&identity) {
            self.by_use.remove(&kept.used);
            kept.used = now;
            self.by_use.insert(now, identity);
        }
    }

    pub(super) fn insert(&mut self, identity: BlockHash, origin: Option<Origin>, now: u64) {
        self.kept.insert(identity, Kept { used: now, origin });
        self.by_use.insert(now, identity);
    }

    pub(super) fn pop_overflow(&mut self) -> Option<(BlockHash, Option<Origin>)> {
        if self.kept.len() <= self.capacity {
            return None;
        }
        let (_, identity) = self.by_use.pop_first()?;
        let kept = self.kept.remove(&identity)?;
        Some((identity, kept.origin))
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.by_use.clear();
    }
}
