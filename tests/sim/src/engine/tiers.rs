//! Slower memories behind the device: what is evicted there goes to the CPU, what falls out of the CPU goes to storage.
//!
//! A tier keeps its copy when a block is loaded back, so one block may lie in several places. Each tier forgets the block that was
//! used longest ago.

use super::chain::BlockHash;
use super::ledger::{CacheChange, Ledger, Medium, Origin};
use super::recent_blocks::RecentBlocks;

/// What a tier tells of a block it takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TierEvents {
    /// One hash and nothing else, as vLLM's offloading connector by default.
    #[default]
    Placeholder,
    /// Tokens, parent and all, as with `self_describing_kv_events`.
    SelfDescribing,
}

/// Leading blocks that the tiers hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TierMatch {
    pub(super) cpu: u32,
    pub(super) storage: u32,
}

impl TierMatch {
    pub(super) fn blocks(self) -> u32 {
        self.cpu + self.storage
    }
}

#[derive(Debug, Clone)]
struct Tier {
    medium: Medium,
    blocks: RecentBlocks,
}

/// All tiers of an engine; without capacity they keep nothing.
#[derive(Debug, Clone)]
pub(super) struct Tiers {
    cpu: Tier,
    storage: Tier,
    uses: u64,
    telling: TierEvents,
}

impl Tiers {
    pub(super) fn new(cpu_blocks: u32, storage_blocks: u32, telling: TierEvents) -> Self {
        Self {
            cpu: Tier { medium: Medium::Cpu, blocks: RecentBlocks::new(cpu_blocks) },
            storage: Tier { medium: Medium::Storage, blocks: RecentBlocks::new(storage_blocks) },
            uses: 0,
            telling,
        }
    }

    /// How far `chain` is kept here, and marks it as used.
    pub(super) fn use_prefix(&mut self, chain: &[BlockHash]) -> TierMatch {
        let found = self.longest_match(chain);
        let length = usize::try_from(found.blocks()).unwrap_or(usize::MAX);
        for &identity in chain.iter().take(length).rev() {
            self.uses += 1;
            self.cpu.blocks.touch(identity, self.uses);
            self.storage.blocks.touch(identity, self.uses);
        }
        found
    }

    /// How far `chain` is kept here. A block in both tiers comes from the CPU.
    pub(super) fn longest_match(&self, chain: &[BlockHash]) -> TierMatch {
        let mut found = TierMatch::default();
        for &identity in chain {
            if self.cpu.blocks.holds(identity) {
                found.cpu += 1;
            } else if self.storage.blocks.holds(identity) {
                found.storage += 1;
            } else {
                break;
            }
        }
        found
    }

    /// Takes a block that leaves the device, pushing older ones down.
    pub(super) fn offload(&mut self, identity: BlockHash, origin: Option<Origin>, ledger: Option<&mut Ledger>) {
        let Self { cpu, storage, uses, telling } = self;
        let mut ledger = ledger;
        let mut falling = Some((identity, origin));
        for tier in [cpu, storage] {
            let Some((identity, origin)) = falling.take() else { return };
            *uses += 1;
            if tier.blocks.capacity() == 0 {
                falling = Some((identity, origin));
            } else if tier.blocks.holds(identity) {
                tier.blocks.touch(identity, *uses);
            } else {
                announce(ledger.as_deref_mut(), *telling, tier.medium, origin.as_ref());
                tier.blocks.insert(identity, origin, *uses);
                falling = tier.blocks.pop_overflow();
                let gone = falling.as_ref().and_then(|(_, origin)| origin.as_ref()).and_then(Origin::digest);
                if let (Some(ledger), Some(digest)) = (ledger.as_deref_mut(), gone) {
                    ledger.push(CacheChange::Removed { digest, medium: tier.medium });
                }
            }
        }
    }

    pub(super) fn clear(&mut self) {
        for tier in [&mut self.cpu, &mut self.storage] {
            tier.blocks.clear();
        }
    }

    /// Blocks kept in the CPU tier and in storage.
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.cpu.blocks.len(), self.storage.blocks.len())
    }
}

fn announce(ledger: Option<&mut Ledger>, telling: TierEvents, medium: Medium, origin: Option<&Origin>) {
    let (Some(ledger), Some(origin)) = (ledger, origin) else { return };
    match telling {
        TierEvents::SelfDescribing => ledger.store(&origin.contents, origin.index, origin.index + 1, medium),
        TierEvents::Placeholder => {
            if let Some(digest) = origin.digest() {
                ledger.push(CacheChange::Placeholder { digest, medium });
            }
        }
    }
}
