//! Who has a block: gaining, losing, counting copies, and letting go of blocks that nobody has.
//!
//! A block that nobody has may linger where engines offload: the announcement of its copy in host memory names it
//! without its tokens, and may come after the device copy went.

use shared::identity::Slot;

use super::block::{Block, CHANGED, DIRTY, LINGERING, RELEASED, REPEATED};
use super::chunks::ends;
use super::sets::{SetId, WordMap};
use super::standing::Sets;
use super::verdict::BlockId;
use super::{Counting, ExactResidency, Holder};
use crate::residency::slab::NONE;

/// Lingering blocks per known block, and at least.
const LINGER_SHARE: usize = 8;
const LINGER_LEAST: usize = 1024;

/// Copies beyond the first, by block and holder.
#[derive(Default)]
pub(super) struct Repeats {
    copies: WordMap<u32>,
    /// Was any block announced outside device memory? Only then may a departed block be named again.
    pub(super) offloads: bool,
}

impl Repeats {
    pub(super) fn bytes(&self) -> usize {
        self.copies.allocation_size()
    }

    fn key(block: u32, holder: Holder) -> u64 {
        u64::from(block) << 16 | u64::from(holder.wire())
    }

    pub(super) fn add(&mut self, block: u32, holder: Holder, copies: u32) {
        let count = self.copies.entry(Self::key(block, holder)).or_insert(0);
        *count = count.saturating_add(copies);
    }

    /// Was there a copy beyond the first?
    fn drop_one(&mut self, block: u32, holder: Holder) -> bool {
        let key = Self::key(block, holder);
        match self.copies.get_mut(&key) {
            None => return false,
            Some(1) => drop(self.copies.remove(&key)),
            Some(count) => *count -= 1,
        }
        true
    }

    pub(super) fn drop_all(&mut self, block: u32, holder: Holder) -> u32 {
        self.copies.remove(&Self::key(block, holder)).unwrap_or(0)
    }
}

impl ExactResidency {
    /// Who has the block and who reaches it.
    pub(super) fn sets_of(&self, number: u32) -> Sets {
        self.blocks.get(number).map_or(Sets::NOBODY, |block| self.standings.get(block.standing))
    }

    /// `holder` announced the block.
    pub(super) fn hold(&mut self, number: u32, holder: Holder, now: u16) {
        let Some(block) = self.blocks.get_mut(number) else { return };
        block.touched = now;
        let before = self.standings.get(block.standing).held;
        let held = self.sets.with(before, holder);
        if held != before {
            self.engines.gain(holder);
            self.set_held(number, held);
            if self.sides.any() {
                self.look_at(holder, number);
            }
        } else if self.engines.counting(holder.slot_index()) == Counting::PerBlock {
            block.flags |= REPEATED;
            self.repeats.add(number, holder, 1);
        }
    }

    /// `holder` dropped one copy.
    pub(super) fn release(&mut self, number: u32, holder: Holder) {
        let Some(block) = self.blocks.get(number) else { return };
        if block.has(REPEATED) {
            let more = self.repeats.drop_one(number, holder);
            if more && self.engines.counting(holder.slot_index()) == Counting::PerBlock {
                return;
            }
            self.repeats.drop_all(number, holder);
        }
        self.release_all(number, holder);
        self.let_go(number);
    }

    /// `holder` has no copy left; the caller lets go of the block.
    pub(super) fn release_all(&mut self, number: u32, holder: Holder) {
        let before = self.sets_of(number).held;
        let held = self.sets.without(before, holder);
        if held != before {
            self.engines.lose(holder);
            let held = if self.sides.any() { self.without_stray_checkpoint(held, holder) } else { held };
            self.set_held(number, held);
        }
    }

    pub(super) fn set_held(&mut self, number: u32, held: SetId) {
        let Some(block) = self.blocks.get_mut(number) else { return };
        let before = self.standings.get(block.standing);
        self.sets.swap(before.held, held);
        self.standings.put(&mut block.standing, Sets { held, ..before });
        mark_dirty(block, number, &mut self.dirty);
    }

    /// The engine dropped everything.
    pub fn clear(&mut self, slot: Slot) {
        self.sides.clear(slot);
        if self.engines.held(slot) == 0 {
            return;
        }
        let of_slot = |holder: &&Holder| holder.slot_index() == slot.index();
        let mut theirs: Vec<(u32, Holder)> = Vec::new();
        for (number, block) in self.blocks.iter() {
            let holders = self.sets.holders(self.standings.get(block.standing).held).iter().filter(of_slot);
            theirs.extend(holders.map(|&holder| (number, holder)));
        }
        for &(number, holder) in &theirs {
            if self.blocks.get(number).is_some_and(|block| block.has(REPEATED)) {
                self.repeats.drop_all(number, holder);
            }
            self.release_all(number, holder);
        }
        for (number, _) in theirs {
            self.forget_unused(number);
        }
    }

    #[cfg(test)]
    pub(super) fn repeats_are_empty(&self) -> bool {
        self.repeats.copies.is_empty()
    }

    /// Forgets the block if nobody has it and nothing needs it; it may linger first.
    fn let_go(&mut self, number: u32) {
        if !self.repeats.offloads {
            return self.forget_unused(number);
        }
        let Some(block) = self.blocks.get_mut(number) else { return };
        if self.standings.get(block.standing).held != SetId::EMPTY || block.child != NONE || block.has(LINGERING) {
            return;
        }
        block.flags |= LINGERING;
        self.lingering.push_back(number);
        while self.lingering.len() > LINGER_LEAST.max(self.blocks.len() / LINGER_SHARE) {
            self.end_oldest_lingering();
        }
    }

    pub(super) fn end_oldest_lingering(&mut self) -> Option<()> {
        let oldest = self.lingering.pop_front()?;
        if let Some(block) = self.blocks.get_mut(oldest) {
            block.flags &= !LINGERING;
        }
        self.forget_unused(oldest);
        Some(())
    }

    /// Forgets the block if nobody has it and nothing hangs on it, then its ancestors for which the same became true.
    pub(super) fn forget_unused(&mut self, mut number: u32) {
        while let Some(block) = self.blocks.get(number) {
            let sets = self.standings.get(block.standing);
            let needed = sets.held != SetId::EMPTY || block.child != NONE;
            if needed || block.has(LINGERING | CHANGED | RELEASED) {
                return;
            }
            let id = BlockId::new(number, block.block_hash());
            for (nth, end) in (0..).zip(ends(block, &self.tails)) {
                if sets.reach != SetId::EMPTY {
                    self.gone.push(end.key);
                }
                self.chunks.remove(end.key, number, nth, &self.blocks, &self.tails);
            }
            if sets.reach != SetId::EMPTY && self.sides.any() {
                self.gone.extend(self.chunk_before(number));
                self.parted.push(block.parent);
            }
            if block.tail != NONE {
                self.tails.release(block.tail, block.tail_len());
            }
            self.sets.swap(sets.reach, SetId::EMPTY);
            if let Some(block) = self.blocks.get_mut(number) {
                self.standings.put(&mut block.standing, Sets::NOBODY);
            }
            self.waiting.take(number);
            if let Some(verdict) = &mut self.verdict {
                verdict.forget(id);
            }
            let parent = self.blocks.unlink(number);
            self.blocks.release(number);
            let Some(parent) = parent else { return };
            number = parent;
        }
    }
}

/// `number` is to be looked at when draining.
pub(super) fn mark_dirty(block: &mut Block, number: u32, dirty: &mut Vec<u32>) {
    if !block.has(DIRTY) {
        block.flags |= DIRTY;
        dirty.push(number);
    }
}
