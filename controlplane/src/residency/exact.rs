//! Exact residency: one pool's prefix chunks as its engines' own events tell them, without keeping any text.
//!
//! Every block that an engine names continues its parent's byte chain; a chunk is held where the block with its last byte
//! is held. What is published stays prefix-closed: an endpoint is named for a chunk only while it has, in some tier, every
//! block before it. Events only take notes; `ExactResidency::drain` works out what they mean, so a hole that opens and
//! closes between two drains costs nothing. `content` and `holders` tell what the last drain told.
//!
//! An engine with cache groups beside full attention (`sides`) goes on only where all of them can: such boundaries are
//! published as holders of their own (`checkpoints`), beside who holds the chunk.

mod aside;
mod block;
mod checkpoints;
mod chunks;
mod condemn;
mod decoder;
mod engine;
mod fork;
mod hold;
mod learn;
mod naming;
mod rolling;
mod sets;
mod settle;
mod shed;
mod sides;
mod standing;
mod tails;
pub mod verdict;

use std::collections::VecDeque;

use shared::clock::Timestamp;
use shared::identity::Slot;

pub use self::engine::{Counting, Unsupported};

use self::block::Blocks;
use self::chunks::Chunks;
use self::decoder::Decoder;
use self::engine::Engines;
use self::hold::Repeats;
use self::learn::{Scratch, Waiting};
use self::sets::HolderSets;
use self::settle::Row;
use self::sides::{Place, Sides};
use self::standing::Standings;
use self::tails::Tails;
use self::verdict::Verdict;
use super::holder::{Holder, Tier};
use crate::events::event::{KvEvent, Medium};
use crate::vocabulary::table::TokenTable;

/// What a pool's exact residency is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The model as `shared::prefix::ChainRoot` wants it.
    pub model: String,
    /// Bytes in a chunk, 1..=65,535.
    pub chunk_bytes: u16,
    /// Memory that the blocks may take; beyond it the coldest chains go.
    pub budget_bytes: usize,
    /// Random: keeps clients from choosing where their blocks fall in this process.
    pub secret: u64,
}

/// Sizes, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExactSize {
    /// Distinct chunks that end in known blocks.
    pub chunks: usize,
    /// Distinct blocks.
    pub blocks: usize,
    /// (endpoint, tier, block) triples.
    pub memberships: usize,
    /// Memory behind it, without the vocabulary.
    pub bytes: usize,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExactCounters {
    /// Memberships dropped to stay within the budget.
    pub shed: u64,
    /// Blocks whose parent was unknown when they were stored.
    pub orphans: u64,
    /// Orphans that got their chain when the parent came.
    pub adopted: u64,
    /// Orphans whose tokens found no room: they get no chunks unless they are announced again.
    pub forsaken: u64,
    /// Blocks from which on a chain is not published.
    pub stopped: u64,
    /// Engines seen to name blocks differently from the others.
    pub secessions: u64,
    /// Names that were given to another block.
    pub renamed: u64,
}

/// See the module.
pub struct ExactResidency {
    scope: Scope,
    decoder: Decoder,
    verdict: Option<Box<dyn Verdict>>,
    blocks: Blocks,
    tails: Tails,
    chunks: Chunks,
    sets: HolderSets,
    standings: Standings,
    engines: Engines,
    repeats: Repeats,
    sides: Sides,
    waiting: Waiting,
    /// Blocks whose holders, parent or chain changed since the last drain.
    dirty: Vec<u32>,
    /// Blocks whose reach changed since, while draining.
    changed: Vec<u32>,
    /// What a drain tells; empty between drains.
    rows: Vec<Row>,
    /// Published chunks whose block is no longer known.
    gone: Vec<u64>,
    /// Blocks behind which a prompt parted from others that nobody holds any more; hybrid engines only.
    parted: Vec<u32>,
    lingering: VecDeque<u32>,
    /// Ticks of the last event.
    clock: u16,
    counters: ExactCounters,
    scratch: Scratch,
}

impl ExactResidency {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(scope: Scope, vocabulary: TokenTable) -> Self {
        Self {
            decoder: Decoder::new(vocabulary),
            verdict: None,
            blocks: Blocks::new(scope.secret),
            tails: Tails::default(),
            chunks: Chunks::default(),
            sets: HolderSets::new(),
            standings: Standings::default(),
            engines: Engines::default(),
            repeats: Repeats::default(),
            sides: Sides::default(),
            waiting: Waiting::default(),
            dirty: Vec::new(),
            changed: Vec::new(),
            rows: Vec::new(),
            gone: Vec::new(),
            parted: Vec::new(),
            lingering: VecDeque::new(),
            clock: 0,
            counters: ExactCounters::default(),
            scratch: Scratch::default(),
            scope,
        }
    }

    /// From now on `verdict` is asked about every block that is new.
    pub fn set_verdict(&mut self, verdict: Box<dyn Verdict>) {
        self.verdict = Some(verdict);
    }

    /// The blocks may take this much memory from the next drain on.
    pub const fn set_budget(&mut self, bytes: usize) {
        self.scope.budget_bytes = bytes;
    }

    /// How `slot`'s engine repeats itself; [`Counting::PerBlock`] unless told otherwise.
    pub fn set_counting(&mut self, slot: Slot, counting: Counting) {
        if let Some(engine) = self.engines.get_mut(slot) {
            engine.counting = counting;
        }
    }

    /// The engine at `slot` tells of a change. Events of one engine come in its order.
    ///
    /// # Errors
    /// The engine has a cache group that cannot be followed; it holds nothing from then on, until `reset`.
    pub fn apply(&mut self, slot: Slot, event: &KvEvent, now: Timestamp) -> Result<(), Unsupported> {
        if let Some(refusal) = self.engines.refusal(slot) {
            return Err(refusal);
        }
        self.clock = ticks(now);
        match event {
            KvEvent::Stored(stored) => {
                let told = match self.part_of(slot, stored) {
                    Ok(Part::Full) => {
                        self.learn(slot, stored, self.clock);
                        Ok(())
                    }
                    Ok(Part::Side(place)) => self.hold_aside(slot, place, stored),
                    Ok(Part::Elsewhere) => Ok(()),
                    Err(reason) => Err(reason),
                };
                if let Err(reason) = told {
                    self.clear(slot);
                    self.sides.forget(slot);
                    self.engines.refuse(slot, reason);
                    return Err(reason);
                }
            }
            KvEvent::Removed(removed) if self.part_left(slot, removed) != Part::Full => {
                self.release_aside(slot, removed);
            }
            KvEvent::Removed(removed) => {
                let holder = Holder::new(slot, tier(removed.medium));
                let naming = self.engines.naming(slot);
                for &name in &removed.hashes {
                    if let Some(block) = self.blocks.find(naming, name) {
                        self.release(block, holder);
                    }
                }
            }
            KvEvent::Cleared => self.clear(slot),
        }
        Ok(())
    }

    /// The engine at `slot` restarted or went away: nothing of it is known any more.
    pub fn reset(&mut self, slot: Slot) {
        self.clear(slot);
        self.sides.forget(slot);
        self.engines.forget(slot);
    }

    /// Has the engine at `slot` cache groups beside full attention? It then goes on with a prompt only from checkpoints.
    #[must_use]
    pub fn is_hybrid(&self, slot: Slot) -> bool {
        self.sides.get(slot.index()).is_some()
    }

    /// Why the engine at `slot` is not followed; `None` while it is.
    #[must_use]
    pub fn refusal(&self, slot: Slot) -> Option<Unsupported> {
        self.engines.refusal(slot)
    }

    /// Memberships of one endpoint.
    #[must_use]
    pub fn held_by(&self, slot: Slot) -> u32 {
        self.engines.held(slot)
    }

    /// What happened so far.
    #[must_use]
    pub const fn counters(&self) -> ExactCounters {
        self.counters
    }

    /// What it holds and what that costs.
    #[must_use]
    pub fn size(&self) -> ExactSize {
        let lists = self.rows.capacity() * size_of::<Row>()
            + (self.dirty.capacity() + self.changed.capacity()) * 4
            + self.gone.capacity() * 8
            + self.parted.capacity() * 4
            + self.lingering.capacity() * 4;
        ExactSize {
            chunks: self.chunks.len(),
            blocks: self.blocks.len(),
            memberships: self.engines.memberships(),
            bytes: self.blocks.bytes()
                + self.tails.bytes()
                + self.chunks.bytes()
                + self.sets.bytes()
                + self.standings.bytes()
                + self.repeats.bytes()
                + self.sides.bytes()
                + self.waiting.bytes()
                + lists,
        }
    }
}

/// Whose blocks an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Of the group whose blocks make the chains.
    Full,
    /// Of another group.
    Side(Place),
    /// Of another group that was not told of, or outside the device: nothing hangs on them.
    Elsewhere,
}

const fn tier(medium: Medium) -> Tier {
    match medium {
        Medium::Gpu => Tier::Gpu,
        Medium::Cpu => Tier::Cpu,
        Medium::Storage => Tier::Storage,
    }
}

/// Units of about 4.3 s that wrap after 78 hours: only the order of eviction comes from them.
fn ticks(now: Timestamp) -> u16 {
    u16::try_from((now.as_nanos() >> 32) & 0xFFFF).unwrap_or(0)
}

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers")]
mod hybrid_tests;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers")]
mod testing;
#[cfg(test)]
mod tests;
