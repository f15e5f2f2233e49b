//! Who has a block, and who has it and every block before it: nearly always the same set, so a block stores one number.
//!
//! Only where they differ (behind a hole, and between an event and the next drain) is there a pair elsewhere.

use super::sets::SetId;

/// A set that is both, or the number of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing(u32);

const APART: u32 = 1 << 31;

impl Standing {
    pub(super) const NOBODY: Self = Self(SetId::EMPTY.0);
}

/// The two sets of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sets {
    /// Who has the block.
    pub(super) held: SetId,
    /// Who has it and every block before it, as of the last drain.
    pub(super) reach: SetId,
}

impl Sets {
    pub(super) const NOBODY: Self = Self { held: SetId::EMPTY, reach: SetId::EMPTY };
}

/// The pairs.
#[derive(Default)]
pub(super) struct Standings {
    pairs: Vec<Sets>,
    free: Vec<u32>,
}

impl Standings {
    pub(super) fn get(&self, standing: Standing) -> Sets {
        if standing.0 & APART == 0 {
            let set = SetId(standing.0);
            return Sets { held: set, reach: set };
        }
        self.pairs.get((standing.0 & !APART) as usize).copied().unwrap_or(Sets::NOBODY)
    }

    /// The block that stood at `standing` has `sets` now.
    pub(super) fn put(&mut self, standing: &mut Standing, sets: Sets) {
        let apart = standing.0 & APART != 0;
        if sets.held == sets.reach {
            if apart {
                self.free.push(standing.0 & !APART);
            }
            *standing = Standing(sets.held.0);
            return;
        }
        if !apart {
            let pair = self.free.pop().unwrap_or_else(|| {
                self.pairs.push(sets);
                u32::try_from(self.pairs.len() - 1).unwrap_or(u32::MAX)
            });
            *standing = Standing(pair | APART);
        }
        if let Some(pair) = self.pairs.get_mut((standing.0 & !APART) as usize) {
            *pair = sets;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.pairs.capacity() * size_of::<Sets>() + self.free.capacity() * 4
    }
}
