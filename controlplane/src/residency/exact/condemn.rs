//! A verdict that came late: the block and all that hangs on it were published and are no longer.
//!
//! The engine goes on holding them, so they stay known; only their text counts as stopped.

use super::ExactResidency;
use super::block::{Block, RELEASED, Text};
use super::chunks::ends;
use super::hold::mark_dirty;
use super::sets::SetId;
use super::verdict::BlockId;
use crate::residency::slab::NONE;

impl ExactResidency {
    /// The block's tokens are not what a prompt would have: from it on nothing of its chain is published. False when the
    /// block is gone or was stopped before.
    pub fn condemn(&mut self, block: BlockId) -> bool {
        let is_it = |known: &Block| known.block_hash() == block.name && !known.has(RELEASED);
        if !self.blocks.get(block.number).is_some_and(is_it) || !self.stop_published(block.number) {
            return false;
        }
        let mut below = self.blocks.children(block.number).to_vec();
        while let Some(number) = below.pop() {
            if self.stop_published(number) {
                below.extend_from_slice(self.blocks.children(number));
            }
        }
        true
    }

    /// False when no chunk could end in the block or after it.
    fn stop_published(&mut self, number: u32) -> bool {
        let Some(block) = self.blocks.get(number) else { return false };
        match block.text() {
            Text::Chained | Text::Waiting => {}
            Text::Unknown | Text::Stopped => return false,
        }
        let reach = self.standings.get(block.standing).reach;
        for (nth, end) in (0..).zip(ends(block, &self.tails)) {
            if reach != SetId::EMPTY {
                self.gone.push(end.key);
            }
            self.chunks.remove(end.key, number, nth, &self.blocks, &self.tails);
        }
        if reach != SetId::EMPTY && self.sides.any() {
            self.gone.extend(self.chunk_before(number));
            self.parted.push(block.parent);
        }
        if block.tail != NONE {
            self.tails.release(block.tail, block.tail_len());
        }
        self.waiting.take(number);
        if let Some(block) = self.blocks.get_mut(number) {
            (block.tail, block.ends, block.filled) = (NONE, 0, 0);
            block.tokens = 0;
        }
        self.stop(number);
        if let Some(block) = self.blocks.get_mut(number) {
            mark_dirty(block, number, &mut self.dirty);
        }
        true
    }
}

#[cfg(test)]
mod tests;
