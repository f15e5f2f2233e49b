//! What the notes of the events come to: who reaches which block, and which chunks that changes.
//!
//! Reach runs down the chains: who has a block and reaches its parent reaches the block. A change is followed to the
//! children only as long as it changes something, and once for all events since the last drain.

use std::collections::BTreeMap;

use shared::table::residency::RESUMES_AT_CHECKPOINTS;
use shared::wire::ResidencyGroup;

use super::block::{CHANGED, DIRTY, Text};
use super::chunks::ends;
use super::sets::SetId;
use super::standing::Sets;
use super::{ExactResidency, Holder};
use crate::residency::slab::NONE;

/// A chunk and who holds it.
pub(super) type Row = (SetId, u64, u32);

impl ExactResidency {
    /// What changed since the last call, as the holders now are; ordered by holders, then key.
    pub fn drain(&mut self) -> Vec<ResidencyGroup> {
        self.shed_overflow();
        if self.sides.any() {
            self.settle_checkpoints();
        }
        self.settle();
        let mut rows = core::mem::take(&mut self.rows);
        if self.sides.any() {
            self.name_neighbours();
        }
        let mut changed = core::mem::take(&mut self.changed);
        for number in changed.drain(..) {
            let Some(block) = self.blocks.get_mut(number) else { continue };
            block.flags &= !CHANGED;
            let reach = self.standings.get(block.standing).reach;
            let Some(block) = self.blocks.get(number) else { continue };
            for (nth, end) in (0..).zip(ends(block, &self.tails)) {
                if self.chunks.is_single(end.key, number, nth, &self.blocks, &self.tails) {
                    let named = self.named(number, nth).map_or(reach, |holders| self.sets.intern(&holders));
                    rows.push((named, end.key, if reach == SetId::EMPTY { 0 } else { end.tokens }));
                } else {
                    self.gone.push(end.key);
                }
            }
        }
        self.changed = changed;
        if core::mem::take(&mut self.sides.turned) {
            let resuming = self.resuming();
            rows.push((self.sets.intern(&resuming), RESUMES_AT_CHECKPOINTS, 0));
        }
        let mut gone = core::mem::take(&mut self.gone);
        for key in gone.drain(..) {
            let (holders, tokens) = self.union(key);
            rows.push((self.sets.intern(&holders), key, tokens));
        }
        self.gone = gone;
        let groups = self.groups(&mut rows);
        rows.clear();
        self.rows = rows;
        self.sets.sweep();
        groups
    }

    /// Is there anything to drain?
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !(self.dirty.is_empty() && self.gone.is_empty()) || self.sides.is_dirty()
    }

    /// Everything that is held, as `drain` would tell it to somebody who knows nothing. Changes nothing.
    #[must_use]
    pub fn content(&self) -> Vec<ResidencyGroup> {
        let (mut rows, mut several) = (Vec::new(), Vec::new());
        for (number, block) in self.blocks.iter() {
            let reach = self.standings.get(block.standing).reach;
            for (nth, end) in (0..).zip(ends(block, &self.tails)).filter(|_| reach != SetId::EMPTY) {
                let single = self.chunks.is_single(end.key, number, nth, &self.blocks, &self.tails);
                if single && self.named(number, nth).is_none() {
                    rows.push((reach, end.key, end.tokens));
                } else {
                    several.push(end.key);
                }
            }
        }
        several.sort_unstable();
        several.dedup();
        let mut unions = BTreeMap::<_, Vec<_>>::new();
        for key in several {
            let (holders, tokens) = self.union(key);
            unions.entry(holders).or_default().push((key, tokens));
        }
        if self.sides.any() {
            unions.entry(self.resuming()).or_default().push((RESUMES_AT_CHECKPOINTS, 0));
        }
        let mut groups = self.groups(&mut rows);
        groups.extend(unions.into_iter().map(|(holders, chunks)| group(&holders, chunks.into_iter())));
        groups
    }

    /// Who holds `key`, ascending; empty when nobody does.
    #[must_use]
    pub fn holders(&self, key: u64) -> Vec<Holder> {
        self.union(key).0
    }

    /// Brings `reach` up to date; lists the blocks where it changed, each marked `CHANGED`.
    fn settle(&mut self) {
        let mut dirty = core::mem::take(&mut self.dirty);
        let mut below = Vec::new();
        for number in dirty.drain(..) {
            // Others were forgotten since, or came after their parents.
            if self.blocks.get(number).is_some_and(|block| block.has(DIRTY)) {
                below.push(number);
            }
            while let Some(number) = below.pop() {
                if self.refresh(number) {
                    below.extend_from_slice(self.blocks.children(number));
                }
            }
        }
        self.dirty = dirty;
    }

    /// Did the block's reach change?
    fn refresh(&mut self, number: u32) -> bool {
        let Some(block) = self.blocks.get_mut(number) else { return false };
        block.flags &= !DIRTY;
        let before = self.standings.get(block.standing);
        let reach = match block.text() {
            Text::Chained if block.parent == NONE => before.held,
            Text::Chained => {
                let above = block.parent;
                self.sets.reaching(before.held, self.sets_of(above).reach)
            }
            Text::Unknown | Text::Waiting | Text::Stopped => SetId::EMPTY,
        };
        if reach == before.reach {
            return false;
        }
        let Some(block) = self.blocks.get_mut(number) else { return false };
        self.sets.swap(before.reach, reach);
        self.standings.put(&mut block.standing, Sets { reach, ..before });
        if !block.has(CHANGED) {
            block.flags |= CHANGED;
            self.changed.push(number);
        }
        true
    }

    /// Checkpoints are told with chunks of other blocks than they are in.
    fn name_neighbours(&mut self) {
        for number in self.neighbours() {
            if let Some(block) = self.blocks.get_mut(number)
                && !block.has(CHANGED)
            {
                block.flags |= CHANGED;
                self.changed.push(number);
            }
        }
    }

    /// Whoever reaches any of the blocks that end `key`, and the least tokens that one of them tells for the chunk.
    fn union(&self, key: u64) -> (Vec<Holder>, u32) {
        let (mut holders, mut tokens) = (Vec::new(), None::<u32>);
        for number in self.chunks.blocks_of(key, &self.blocks, &self.tails) {
            let Some(block) = self.blocks.get(number) else { continue };
            let reach = self.standings.get(block.standing).reach;
            if reach != SetId::EMPTY {
                let end = (0..).zip(ends(block, &self.tails)).find(|(_, end)| end.key == key);
                match end.and_then(|(nth, _)| self.named(number, nth)) {
                    Some(named) => holders.extend(named),
                    None => holders.extend_from_slice(self.sets.holders(reach)),
                }
                let end = end.map(|(_, end)| end.tokens);
                tokens = tokens.min(end).or(end);
            }
        }
        holders.sort_unstable();
        holders.dedup();
        (holders, tokens.unwrap_or(0))
    }

    /// A chunk may be listed twice, in the same words.
    fn groups(&self, rows: &mut Vec<Row>) -> Vec<ResidencyGroup> {
        rows.sort_unstable();
        rows.dedup();
        let runs = rows.chunk_by(|a, b| a.0 == b.0);
        let of_set = |run: &[Row]| {
            let holders = self.sets.holders(run.first()?.0);
            Some(group(holders, run.iter().map(|&(_, key, tokens)| (key, tokens))))
        };
        let mut groups: Vec<_> = runs.filter_map(of_set).collect();
        groups.sort_unstable_by(|a, b| a.holders.cmp(&b.holders));
        groups
    }
}

fn group(holders: &[Holder], chunks: impl ExactSizeIterator<Item = (u64, u32)>) -> ResidencyGroup {
    let (keys, mut tokens): (Vec<u64>, Vec<u32>) = chunks.unzip();
    if holders.is_empty() {
        tokens.clear();
    }
    ResidencyGroup { holders: holders.iter().map(|holder| holder.wire()).collect(), keys, tokens }
}
