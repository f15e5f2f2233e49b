//! Engines that name blocks alike share what is known of them; here one is found to name differently.
//!
//! The names of vLLM are digests from a seed that all processes share, or each process draws (old versions without
//! `PYTHONHASHSEED`): the same name then never means two blocks, but small numbers of a simulator may.

use std::collections::BTreeMap;

use shared::identity::Slot;

use super::block::{Naming, REPEATED, Text};
use super::chunks::ends;
use super::hold::mark_dirty;
use super::sets::SetId;
use super::{ExactResidency, Holder};
use crate::residency::slab::NONE;

impl ExactResidency {
    /// The engine at `slot` gives the name of `number` to another block: if others hold that, it leaves their naming.
    /// Returns the engine's naming.
    pub(super) fn part_from_others(&mut self, slot: Slot, number: u32) -> Naming {
        let naming = self.engines.naming(slot);
        let Some(block) = self.blocks.get(number) else { return naming };
        let holders = self.sets.holders(self.standings.get(block.standing).held);
        let others = holders.iter().any(|holder| holder.slot_index() != slot.index());
        // Nobody has it, but somebody has what comes after it.
        let needed = holders.is_empty() && block.child != NONE;
        if (others || needed) && naming == Naming::SHARED { self.secede(slot) } else { naming }
    }

    /// The name of `number` is free for another block.
    pub(super) fn rename(&mut self, number: u32) {
        self.counters.renamed += 1;
        self.drop_held(number);
        self.blocks.forget_name(number);
        self.forget_unused(number);
    }

    /// Nobody holds the block any more. Returns how many did; the caller lets go of it.
    pub(super) fn drop_held(&mut self, number: u32) -> usize {
        let Some(block) = self.blocks.get(number) else { return 0 };
        let holders = self.sets.holders(self.standings.get(block.standing).held).to_vec();
        let (repeated, naming, name) = (block.has(REPEATED), block.naming, block.block_hash());
        if self.sides.any() {
            self.drop_side_name(naming, name);
        }
        for &holder in &holders {
            if repeated {
                self.repeats.drop_all(number, holder);
            }
            self.engines.lose(holder);
        }
        self.set_held(number, SetId::EMPTY);
        holders.iter().filter(|holder| !holder.is_checkpoint()).count()
    }

    /// Gives the engine a naming of its own and moves there what it holds.
    fn secede(&mut self, slot: Slot) -> Naming {
        self.counters.secessions += 1;
        let naming = Naming(u16::try_from(slot.index()).unwrap_or(0).saturating_add(1));
        if let Some(engine) = self.engines.get_mut(slot) {
            engine.naming = naming;
        }
        let mut theirs: Vec<(u32, Vec<Holder>)> = Vec::new();
        for (number, block) in self.blocks.iter().filter(|(_, block)| block.naming == Naming::SHARED.0) {
            let holders = self.sets.holders(self.standings.get(block.standing).held).iter().copied();
            let holders: Vec<Holder> = holders.filter(|holder| holder.slot_index() == slot.index()).collect();
            if !holders.is_empty() {
                theirs.push((number, holders));
            }
        }
        let mut copies = BTreeMap::new();
        for (number, holders) in &theirs {
            let Some(copy) = self.copy_chain(*number, naming, &mut copies) else { continue };
            self.look_behind(slot, copy);
            for &holder in holders {
                let more = self.repeats.drop_all(*number, holder);
                self.release_all(*number, holder);
                self.engines.gain(holder);
                let held = self.sets.with(self.sets_of(copy).held, holder);
                self.set_held(copy, held);
                if more > 0
                    && let Some(block) = self.blocks.get_mut(copy)
                {
                    block.flags |= REPEATED;
                    self.repeats.add(copy, holder, more);
                }
            }
        }
        for (number, _) in theirs {
            self.forget_unused(number);
        }
        naming
    }

    /// The block's copy in `naming`, made with copies of all blocks before it unless they are there.
    fn copy_chain(&mut self, number: u32, naming: Naming, copies: &mut BTreeMap<u32, u32>) -> Option<u32> {
        let mut missing = Vec::new();
        let mut above = number;
        while above != NONE && !copies.contains_key(&above) {
            missing.push(above);
            above = self.blocks.get(above)?.parent;
        }
        for original in missing.into_iter().rev() {
            let copy = self.copy_block(original, naming)?;
            let parent = self.blocks.get(original)?.parent;
            if let Some(&parent) = copies.get(&parent) {
                self.blocks.link(copy, parent);
            }
            copies.insert(original, copy);
        }
        copies.get(&number).copied()
    }

    fn copy_block(&mut self, original: u32, naming: Naming) -> Option<u32> {
        let copy = self.blocks.add(naming, self.blocks.get(original)?.block_hash())?;
        let from = self.blocks.get(original)?;
        let (check, tokens, filled, chunks, text) = (from.check, from.tokens, from.filled, from.ends, from.text());
        let tail = match self.tails.get(from.tail, from.tail_len()).filter(|_| text == Text::Chained) {
            Some(tail) => {
                let tail = tail.to_vec();
                self.tails.insert(&tail)?
            }
            None => NONE,
        };
        if let Some(waiting) = self.waiting.get(original) {
            let waiting = waiting.to_vec();
            self.waiting.put(copy, &waiting);
        }
        let to = self.blocks.get_mut(copy)?;
        (to.check, to.tokens, to.filled, to.ends, to.tail) = (check, tokens, filled, chunks, tail);
        to.set_text(text);
        mark_dirty(to, copy, &mut self.dirty);
        let keys: Vec<u64> = ends(self.blocks.get(copy)?, &self.tails).map(|end| end.key).collect();
        for (nth, key) in (0..).zip(keys) {
            self.chunks.insert(key, copy, nth, &self.blocks, &self.tails);
        }
        Some(copy)
    }
}
