//! What is remembered of each engine besides its blocks.

use shared::identity::Slot;

use super::Holder;
use super::block::Naming;
use crate::events::event::CacheKind;

/// What a repeated announcement of a block means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counting {
    /// Another copy: the block is gone when every copy was removed.
    #[default]
    PerBlock,
    /// The same copy again (engines asked for full reports): the first removal ends it.
    Once,
}

/// The engine keeps prompts in a way that nobody here knows how to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// Where a prompt can go on is not known for this kind (cross and encoder attention, and what is newer than this).
    #[error("cache group {group} is of kind {kind:?}: where a prompt can go on with it is not known")]
    Kind {
        /// The group's kind.
        kind: CacheKind,
        /// The group.
        group: u32,
    },
    /// A boundary would need blocks whose place in the prompt the events do not tell.
    #[error("cache group {group} has blocks of {tokens} tokens, full attention of {full}: their places are not told")]
    Blocks {
        /// The group.
        group: u32,
        /// Tokens in one of its blocks.
        tokens: u32,
        /// Tokens in a block of full attention.
        full: u32,
    },
    /// More groups than any known model has.
    #[error("it has more than {most} cache groups beside full attention")]
    TooMany {
        /// That are followed.
        most: usize,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Engine {
    pub(super) naming: Naming,
    pub(super) counting: Counting,
    pub(super) held: u32,
    /// The group of full attention whose blocks make the chains; `None` before it spoke.
    pub(super) full: Option<u32>,
    /// Tokens in one of its blocks; 0: not told yet.
    pub(super) full_tokens: u32,
    refusal: Option<Unsupported>,
}

const FRESH: Engine =
    Engine { naming: Naming::SHARED, counting: Counting::PerBlock, held: 0, full: None, full_tokens: 0, refusal: None };

/// By slot.
#[derive(Default)]
pub(super) struct Engines {
    engines: Vec<Engine>,
    memberships: usize,
}

impl Engines {
    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Engine> {
        if self.engines.len() <= slot.index() {
            self.engines.resize(slot.index() + 1, FRESH);
        }
        self.engines.get_mut(slot.index())
    }

    pub(super) fn get(&self, slot: usize) -> &Engine {
        self.engines.get(slot).unwrap_or(&FRESH)
    }

    pub(super) fn naming(&self, slot: Slot) -> Naming {
        self.get(slot.index()).naming
    }

    pub(super) fn counting(&self, slot: usize) -> Counting {
        self.get(slot).counting
    }

    pub(super) fn refusal(&self, slot: Slot) -> Option<Unsupported> {
        self.get(slot.index()).refusal
    }

    pub(super) fn held(&self, slot: Slot) -> u32 {
        self.get(slot.index()).held
    }

    pub(super) fn refuse(&mut self, slot: Slot, reason: Unsupported) {
        if let Some(engine) = self.get_mut(slot) {
            engine.refusal = Some(reason);
        }
    }

    /// Whoever comes to the slot next is not known yet. Its holdings were cleared before.
    pub(super) fn forget(&mut self, slot: Slot) {
        if let Some(engine) = self.get_mut(slot) {
            *engine = FRESH;
        }
    }

    /// One more membership. Every slot that holds something was asked for by `get_mut` before. Checkpoints are none.
    pub(super) fn gain(&mut self, holder: Holder) {
        if holder.is_checkpoint() {
            return;
        }
        self.memberships += 1;
        if let Some(engine) = self.engines.get_mut(holder.slot_index()) {
            engine.held = engine.held.saturating_add(1);
        }
    }

    pub(super) fn lose(&mut self, holder: Holder) {
        if holder.is_checkpoint() {
            return;
        }
        self.memberships = self.memberships.saturating_sub(1);
        if let Some(engine) = self.engines.get_mut(holder.slot_index()) {
            engine.held = engine.held.saturating_sub(1);
        }
    }

    pub(super) const fn memberships(&self) -> usize {
        self.memberships
    }
}
