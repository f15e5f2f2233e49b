//! Staying within the budget: the coldest chains go first, from their ends, so what is left is still prefix-closed.
//!
//! It runs rarely and then drops an eighth at once: ordering all blocks by age is paid by the events until the next time.

use super::ExactResidency;
use super::block::Block;
use crate::residency::slab::NONE;

/// What a block takes in tables, beside its record and its tail: bytes, about.
const TABLES: usize = 16;

impl ExactResidency {
    /// Drops the coldest blocks if the budget is exceeded.
    pub(super) fn shed_overflow(&mut self) {
        if self.used_bytes() > self.scope.budget_bytes {
            while self.end_oldest_lingering().is_some() {}
            self.drop_unmatched_sides();
            self.shed(self.scope.budget_bytes / 8 * 7);
        }
    }

    /// Memory in use. What is allocated and free does not count: it is used before more is allocated.
    fn used_bytes(&self) -> usize {
        let blocks = self.blocks.len() * (size_of::<Block>() + TABLES);
        blocks + self.tails.used_bytes() + self.waiting.bytes() + self.repeats.bytes() + self.sides.used_bytes()
    }

    fn shed(&mut self, target: usize) {
        for number in self.coldest_first() {
            if self.used_bytes() <= target {
                return;
            }
            let dropped = self.drop_held(number);
            self.counters.shed += u64::try_from(dropped).unwrap_or(0);
            self.forget_unused(number);
        }
    }

    /// All blocks; each is as warm as the warmest that hangs on it, and comes after those.
    fn coldest_first(&self) -> Vec<u32> {
        let mut order = Vec::with_capacity(self.blocks.len());
        let mut stack: Vec<u32> = Vec::new();
        for (root, _) in self.blocks.iter().filter(|(_, block)| block.parent == NONE) {
            stack.push(root);
            while let Some(number) = stack.pop() {
                order.push(number);
                stack.extend_from_slice(self.blocks.children(number));
            }
        }
        let mut ages: Vec<u16> = Vec::new();
        let mut aged = Vec::with_capacity(order.len());
        for &number in order.iter().rev() {
            let own = self.blocks.get(number).map_or(0, |block| self.clock.wrapping_sub(block.touched));
            let below = self.blocks.children(number).iter().filter_map(|&child| ages.get(child as usize));
            let age = below.copied().min().map_or(own, |below| below.min(own));
            if ages.len() <= number as usize {
                ages.resize(number as usize + 1, 0);
            }
            if let Some(place) = ages.get_mut(number as usize) {
                *place = age;
            }
            aged.push((age, number));
        }
        // Stable: among equally old blocks, those below stay before those above.
        aged.sort_by_key(|&(age, _)| core::cmp::Reverse(age));
        aged.into_iter().map(|(_, number)| number).collect()
    }
}
