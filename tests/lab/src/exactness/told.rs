//! What an engine's published steps amount to, straight from its record: no event, decoder, index or table in between.
//!
//! It is not what the engine holds: a step evicts when it begins and says so when it ends. Who only listens to an engine can
//! know this much of it and no more. Full attention only: what side groups keep is left out.

use std::collections::HashMap;

use vllm_sim::engine::{BlockHash, CacheChange, Digest, Medium};

/// Copies of each block on one engine's device, as of its last published step.
#[derive(Default)]
pub(super) struct Told {
    copies: HashMap<Digest, u32>,
    twins: u64,
}

impl Told {
    /// The engine published a step.
    pub(super) fn follow(&mut self, changes: &[CacheChange]) {
        for change in changes {
            match change {
                CacheChange::Stored { contents, first, count, medium: Medium::Gpu } => {
                    for &digest in contents.digests.iter().skip(*first).take(*count) {
                        let copies = self.copies.entry(digest).or_default();
                        self.twins += u64::from(*copies > 0);
                        *copies += 1;
                    }
                }
                CacheChange::Removed { digest, medium: Medium::Gpu } => self.drop_one(*digest),
                CacheChange::Cleared => self.copies.clear(),
                CacheChange::Stored { medium: Medium::Cpu | Medium::Storage, .. }
                | CacheChange::Removed { medium: Medium::Cpu | Medium::Storage, .. }
                | CacheChange::Placeholder { .. }
                | CacheChange::StoredAside { .. }
                | CacheChange::RemovedAside { .. } => {}
            }
        }
    }

    /// Leading blocks of `chain` that it has.
    pub(super) fn prefix(&self, chain: &[BlockHash]) -> u32 {
        let blocks = chain.iter().take_while(|&&block| self.copies.contains_key(&Digest::from(block)));
        u32::try_from(blocks.count()).unwrap_or(u32::MAX)
    }

    /// Blocks stored although there was one like them.
    pub(super) const fn twins(&self) -> u64 {
        self.twins
    }

    fn drop_one(&mut self, digest: Digest) {
        match self.copies.get_mut(&digest) {
            Some(copies) if *copies > 1 => *copies -= 1,
            Some(_) | None => drop(self.copies.remove(&digest)),
        }
    }
}
