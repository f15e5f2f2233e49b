//! What the groups beside full attention say of their blocks. An event only lists blocks whose boundaries are to be looked
//! at (`checkpoints`); a group may tell before full attention does, or of blocks that it never tells of.

use shared::identity::Slot;

use super::block::Naming;
use super::sets::SetId;
use super::sides::Place;
use super::{ExactResidency, Holder, Part, Unsupported};
use crate::events::event::{BlockHash, BlockRemoved, BlockStored, CacheKind, Medium};

impl ExactResidency {
    /// Whose blocks are stored. Groups make themselves known by their events: the first of full attention that has blocks
    /// on the device makes the chains, whatever its number.
    pub(super) fn part_of(&mut self, slot: Slot, event: &BlockStored) -> Result<Part, Unsupported> {
        let on_device = event.medium == Medium::Gpu;
        if let Some(place) = self.sides.place(slot, event.group) {
            return Ok(if on_device { Part::Side(place) } else { Part::Elsewhere });
        }
        let full = self.engines.get(slot.index()).full;
        if event.kind == CacheKind::Full && full.is_none_or(|full| full == event.group) {
            if let Some(engine) = self.engines.get_mut(slot).filter(|_| on_device) {
                engine.full = Some(event.group);
            }
            return Ok(Part::Full);
        }
        if !on_device {
            return Ok(Part::Elsewhere);
        }
        if full == Some(event.group) {
            // What came before did not say its kind.
            self.clear(slot);
            if let Some(engine) = self.engines.get_mut(slot) {
                (engine.full, engine.full_tokens) = (None, 0);
            }
        }
        let place = self.sides.open(slot, event.group, event.kind)?;
        self.look_at_all_of(slot);
        Ok(Part::Side(place))
    }

    /// Whose blocks went.
    pub(super) fn part_left(&self, slot: Slot, event: &BlockRemoved) -> Part {
        match self.sides.place(slot, event.group) {
            Some(place) if event.medium == Medium::Gpu => Part::Side(place),
            Some(_) => Part::Elsewhere,
            None if self.engines.get(slot.index()).full.is_none_or(|full| full == event.group) => Part::Full,
            None => Part::Elsewhere,
        }
    }

    /// A side group has the blocks. Their tokens are not looked at: events may list more of them than they name.
    pub(super) fn hold_aside(&mut self, slot: Slot, place: Place, event: &BlockStored) -> Result<(), Unsupported> {
        let full_tokens = self.engines.get(slot.index()).full_tokens;
        if self.sides.set_block_tokens(slot, place, event.block_size, full_tokens)? {
            self.look_at_all_of(slot);
        }
        let counting = self.engines.counting(slot.index());
        for &name in &event.hashes {
            let new = self.sides.get_mut(slot.index()).is_some_and(|side| side.hold(name, place, counting));
            if new {
                self.look_behind_name(slot, place, name);
            }
        }
        Ok(())
    }

    pub(super) fn release_aside(&mut self, slot: Slot, event: &BlockRemoved) {
        let Part::Side(place) = self.part_left(slot, event) else { return };
        for &name in &event.hashes {
            if self.sides.get_mut(slot.index()).is_some_and(|side| side.release(name, place)) {
                self.look_behind_name(slot, place, name);
            }
        }
    }

    /// The group has the named block, or has it no longer.
    fn look_behind_name(&mut self, slot: Slot, place: Place, name: BlockHash) {
        let Some(number) = self.blocks.find(self.engines.naming(slot), name) else { return };
        let Some(side) = self.sides.get_mut(slot.index()) else { return };
        let influence = side.groups().find(|&(at, _)| at == place).map_or(0, |(_, group)| group.need.influence());
        side.spread.push((number, influence));
    }

    /// `holder` has the block now.
    pub(super) fn look_at(&mut self, holder: Holder, number: u32) {
        if let Some(side) = self.sides.get_mut(holder.slot_index()) {
            side.own.push(number);
        }
    }

    /// Everything that the engine has.
    fn look_at_all_of(&mut self, slot: Slot) {
        let Some(side) = self.sides.get_mut(slot.index()) else { return };
        for (number, block) in self.blocks.iter() {
            let holders = self.sets.holders(self.standings.get(block.standing).held);
            if holders.iter().any(|holder| holder.slot_index() == slot.index()) {
                side.own.push(number);
            }
        }
    }

    /// The engine's boundaries from the block on may have changed.
    pub(super) fn look_behind(&mut self, slot: Slot, number: u32) {
        if let Some(side) = self.sides.get_mut(slot.index()) {
            side.spread.push((number, u32::MAX));
        }
    }

    /// It became known what the block is, and with that what those behind it are.
    pub(super) fn look_behind_everywhere(&mut self, number: u32) {
        for slot in self.sides.slots().collect::<Vec<_>>() {
            self.look_behind(slot, number);
        }
    }

    /// The name means another block from now on.
    pub(super) fn drop_side_name(&mut self, naming: u16, name: BlockHash) {
        for slot in self.sides.slots().collect::<Vec<_>>() {
            if self.engines.naming(slot) == Naming(naming)
                && let Some(side) = self.sides.get_mut(slot.index())
            {
                side.drop_name(name);
            }
        }
    }

    /// Names of which full attention told nothing, or nothing any more.
    pub(super) fn drop_unmatched_sides(&mut self) {
        for slot in self.sides.slots().collect::<Vec<_>>() {
            let naming = self.engines.naming(slot);
            if let Some(side) = self.sides.get_mut(slot.index()) {
                side.keep_names(|name| self.blocks.find(naming, name).is_some());
            }
        }
    }

    /// `held` less the checkpoint of `holder`'s endpoint if that has the block nowhere any more.
    pub(super) fn without_stray_checkpoint(&mut self, held: SetId, holder: Holder) -> SetId {
        let mut theirs = self.sets.holders(held).iter().filter(|other| other.slot_index() == holder.slot_index());
        match (theirs.next(), theirs.next()) {
            (Some(&only), None) if only.is_checkpoint() => self.sets.without(held, only),
            _ => held,
        }
    }
}
