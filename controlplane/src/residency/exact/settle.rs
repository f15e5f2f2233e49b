//! What the notes of the events come to: who reaches which block, and which chunks that changes.
//!
//! Reach runs down the chains: who has a block and reaches its parent reaches the block. A change is followed to the
//! children only as long as it changes something, and once for all events since the last drain.

use std::collections::BTreeMap;

use shared::wire::ResidencyGroup;

use super::block::{Block, CHANGED, DIRTY, Text};
use super::chunks::{ChunkEnd, ends};
use super::sets::SetId;
use super::{ExactResidency, Holder};
use crate::residency::slab::NONE;

/// A chunk and who holds it.
type Row = (SetId, u64, u32);

impl ExactResidency {
    /// What changed since the last call, as the holders now are; ordered by holders, then key.
    pub fn drain(&mut self) -> Vec<ResidencyGroup> {
        self.shed_overflow();
        let changed = self.settle();
        let mut rows = Vec::with_capacity(changed.len() + self.gone.len());
        let mut blocks = Vec::new();
        for &number in &changed {
            let Some(block) = self.blocks.get_mut(number) else { continue };
            block.flags &= !CHANGED;
            let reach = block.reach;
            let Some(block) = self.blocks.get(number) else { continue };
            for end in ends(block, &self.tails) {
                if self.chunks.is_single(end.key) {
                    rows.push((reach, end.key, if reach == SetId::EMPTY { 0 } else { end.tokens }));
                } else {
                    self.gone.push(end.key);
                }
            }
        }
        for key in core::mem::take(&mut self.gone) {
            self.chunks.blocks_of(key, &self.blocks, &self.tails, &mut blocks);
            let (holders, tokens) = self.union(key, &blocks);
            rows.push((self.sets.intern(&holders), key, tokens));
        }
        let groups = self.groups(rows);
        self.sets.sweep();
        groups
    }

    /// Is there anything to drain?
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !(self.dirty.is_empty() && self.gone.is_empty())
    }

    /// Everything that is held, as `drain` would tell it to somebody who knows nothing. Changes nothing.
    #[must_use]
    pub fn content(&self) -> Vec<ResidencyGroup> {
        let (mut rows, mut several) = (Vec::new(), Vec::new());
        for (_, block) in self.blocks.iter().filter(|(_, block)| block.reach != SetId::EMPTY) {
            for end in ends(block, &self.tails) {
                if self.chunks.is_single(end.key) {
                    rows.push((block.reach, end.key, end.tokens));
                } else {
                    several.push(end.key);
                }
            }
        }
        several.sort_unstable();
        several.dedup();
        let mut groups = self.by_holders(rows);
        let mut blocks = Vec::new();
        for key in several {
            self.chunks.blocks_of(key, &self.blocks, &self.tails, &mut blocks);
            let (holders, tokens) = self.union(key, &blocks);
            groups.entry(holders).or_default().push((key, tokens));
        }
        groups.into_iter().map(|(holders, chunks)| group(&holders, chunks)).collect()
    }

    /// Who holds `key`, ascending; empty when nobody does.
    #[must_use]
    pub fn holders(&self, key: u64) -> Vec<Holder> {
        let mut blocks = Vec::new();
        self.chunks.blocks_of(key, &self.blocks, &self.tails, &mut blocks);
        self.union(key, &blocks).0
    }

    /// Brings `reach` up to date; returns the blocks where it changed, each marked `CHANGED`.
    fn settle(&mut self) -> Vec<u32> {
        let (mut changed, mut stack) = (Vec::new(), Vec::new());
        for number in core::mem::take(&mut self.dirty) {
            if let Some(block) = self.blocks.get_mut(number) {
                block.flags &= !DIRTY;
            }
            stack.push(number);
            while let Some(number) = stack.pop() {
                if self.refresh(number, &mut changed) {
                    stack.extend_from_slice(self.blocks.children(number));
                }
            }
        }
        changed
    }

    /// Did the block's reach change?
    fn refresh(&mut self, number: u32, changed: &mut Vec<u32>) -> bool {
        let Some(block) = self.blocks.get(number) else { return false };
        let above = self.blocks.get(block.parent).map_or(SetId::EMPTY, |above| above.reach);
        let reach = match block.text() {
            Text::Chained if block.parent == NONE => block.held,
            Text::Chained => self.sets.reaching(block.held, above),
            Text::Unknown | Text::Waiting | Text::Stopped => SetId::EMPTY,
        };
        let Some(block) = self.blocks.get_mut(number).filter(|block| block.reach != reach) else { return false };
        self.sets.swap(block.reach, reach);
        block.reach = reach;
        if !block.has(CHANGED) {
            block.flags |= CHANGED;
            changed.push(number);
        }
        true
    }

    /// Whoever reaches any of `blocks`, and the least tokens that one of them tells for the chunk.
    fn union(&self, key: u64, blocks: &[u32]) -> (Vec<Holder>, u32) {
        let (mut holders, mut tokens) = (Vec::new(), None::<u32>);
        let reached = blocks.iter().filter_map(|&number| self.blocks.get(number)).filter(|b| b.reach != SetId::EMPTY);
        for block in reached {
            holders.extend_from_slice(self.sets.holders(block.reach));
            let end = self.end_of(block, key);
            tokens = tokens.min(end.map(|end| end.tokens)).or(end.map(|end| end.tokens));
        }
        holders.sort_unstable();
        holders.dedup();
        (holders, tokens.unwrap_or(0))
    }

    fn end_of(&self, block: &Block, key: u64) -> Option<ChunkEnd> {
        ends(block, &self.tails).find(|end| end.key == key)
    }

    fn groups(&self, rows: Vec<Row>) -> Vec<ResidencyGroup> {
        self.by_holders(rows).into_iter().map(|(holders, chunks)| group(&holders, chunks)).collect()
    }

    fn by_holders(&self, mut rows: Vec<Row>) -> BTreeMap<Vec<Holder>, Vec<(u64, u32)>> {
        rows.sort_unstable();
        let same_set = |a: &Row, b: &Row| a.0 == b.0;
        let runs = rows.chunk_by(same_set).filter_map(|run| Some((run.first()?.0, run)));
        runs.map(|(set, run)| {
            (self.sets.holders(set).to_vec(), run.iter().map(|&(_, key, tokens)| (key, tokens)).collect())
        })
        .collect()
    }
}

/// A chunk may be listed twice, in the same words.
fn group(holders: &[Holder], mut chunks: Vec<(u64, u32)>) -> ResidencyGroup {
    chunks.sort_unstable();
    chunks.dedup();
    let keys = chunks.iter().map(|&(key, _)| key).collect();
    let tokens = if holders.is_empty() { Vec::new() } else { chunks.iter().map(|&(_, tokens)| tokens).collect() };
    ResidencyGroup { holders: holders.iter().map(|holder| holder.wire()).collect(), keys, tokens }
}
