//! What is remembered of each engine besides its blocks.

use shared::identity::Slot;

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

/// The engine keeps prompts in a way that "holds the chunk" does not describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cache group {group} is of kind {kind:?}: chunks cannot say what it holds")]
pub struct Unsupported {
    /// The group's kind.
    pub kind: CacheKind,
    /// The group.
    pub group: u32,
}

impl Unsupported {
    /// Sliding windows and recurrent state are usable at some boundaries only, and holder sets that are prefix-closed
    /// cannot say at which; a second group of full attention may evict on its own.
    pub(super) fn reason(kind: CacheKind, group: u32) -> Option<Self> {
        (kind != CacheKind::Full || group != 0).then_some(Self { kind, group })
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Engine {
    pub(super) naming: Naming,
    pub(super) counting: Counting,
    pub(super) held: u32,
    refusal: Option<Unsupported>,
}

const FRESH: Engine = Engine { naming: Naming::SHARED, counting: Counting::PerBlock, held: 0, refusal: None };

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

    fn get(&self, slot: usize) -> &Engine {
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

    /// One more membership of `slot`. Every slot that holds something was asked for by `get_mut` before.
    pub(super) fn gain(&mut self, slot: usize) {
        self.memberships += 1;
        if let Some(engine) = self.engines.get_mut(slot) {
            engine.held = engine.held.saturating_add(1);
        }
    }

    pub(super) fn lose(&mut self, slot: usize) {
        self.memberships = self.memberships.saturating_sub(1);
        if let Some(engine) = self.engines.get_mut(slot) {
            engine.held = engine.held.saturating_sub(1);
        }
    }

    pub(super) const fn memberships(&self) -> usize {
        self.memberships
    }
}
