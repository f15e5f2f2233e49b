//! Cache groups beside full attention, as hybrid models have them: sliding windows and recurrent state. A prompt goes on where
//! all groups can, so the hit is the longest boundary that they have in common.
//!
//! Which boundaries a group keeps is vLLM's `prefix_cache_retention_interval`: with 0 only where the prompt would be resumed
//! (its last full block) and where it left a prefix that others share; with N also every N tokens. Each group has memory of
//! its own here; vLLM's share one pool.

use std::sync::Arc;

use super::chain::BlockHash;
use super::contents::BlockContents;
use super::ledger::{CacheChange, Ledger, Origin};
use super::recent_blocks::RecentBlocks;

/// What a group keeps of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideGroup {
    /// Keys and values of the last tokens: to go on, the last `window - 1` are needed.
    SlidingWindow {
        /// Tokens, at least 2.
        window: u32,
    },
    /// State after a block.
    Mamba,
}

impl SideGroup {
    /// Blocks before a boundary that it takes to go on from there.
    fn needs(self, block_size: u32) -> usize {
        let blocks = match self {
            Self::SlidingWindow { window } => window.saturating_sub(1).div_ceil(block_size.max(1)),
            Self::Mamba => 1,
        };
        usize::try_from(blocks).unwrap_or(usize::MAX)
    }
}

/// What a prompt's blocks are to the groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch<'a> {
    pub(super) identities: &'a [BlockHash],
    pub(super) contents: Option<&'a Arc<BlockContents>>,
    /// Blocks `first..end` are new.
    pub(super) first: usize,
    pub(super) end: usize,
    /// Boundaries to be kept whatever the interval, in blocks.
    pub(super) marks: [usize; 2],
}

#[derive(Debug, Clone)]
struct Group {
    kind: SideGroup,
    needs: usize,
    blocks: RecentBlocks,
}

/// All of an engine's, in order: the first is group 1.
#[derive(Debug, Clone)]
pub(super) struct SideGroups {
    groups: Vec<Group>,
    /// Blocks between kept boundaries; None for marks only.
    interval: Option<usize>,
    uses: u64,
}

impl SideGroups {
    pub(super) fn new(kinds: &[SideGroup], block_size: u32, blocks: u32, retention_interval: u32) -> Self {
        let group = |&kind: &SideGroup| {
            let needs = kind.needs(block_size);
            Group { kind, needs, blocks: RecentBlocks::new(blocks) }
        };
        let interval = (retention_interval > 0).then(|| (retention_interval / block_size.max(1)).max(1));
        let interval = interval.and_then(|blocks| usize::try_from(blocks).ok());
        Self { groups: kinds.iter().map(group).collect(), interval, uses: 0 }
    }

    /// The longest boundary of `chain`, of which full attention has every block, from which all groups can go on.
    pub(super) fn common_boundary(&self, chain: &[BlockHash]) -> usize {
        let resumes = |end: usize| {
            self.groups.iter().all(|group| {
                let window = chain.get(end.saturating_sub(group.needs)..end).unwrap_or_default();
                window.iter().all(|&identity| group.blocks.holds(identity))
            })
        };
        (1..=chain.len()).rev().find(|&end| resumes(end)).unwrap_or(0)
    }

    /// A prompt goes on from the end of `chain`.
    pub(super) fn touch(&mut self, chain: &[BlockHash]) {
        for group in &mut self.groups {
            for &identity in chain.get(chain.len().saturating_sub(group.needs)..).unwrap_or_default() {
                self.uses += 1;
                group.blocks.touch(identity, self.uses);
            }
        }
    }

    /// New blocks of a prompt: each group keeps what it should of them, and says so.
    pub(super) fn keep(&mut self, stretch: Stretch<'_>, mut ledger: Option<&mut Ledger>) {
        let Self { groups, interval, uses } = self;
        for (number, group) in (1u32..).zip(groups) {
            let is_mark = |end: &usize| {
                stretch.marks.contains(end) || interval.is_some_and(|interval| end.is_multiple_of(interval))
            };
            let is_kept = |block: &usize| (block + 1..=block.saturating_add(group.needs)).any(|end| is_mark(&end));
            let kept: Vec<usize> = (stretch.first..stretch.end).filter(is_kept).collect();
            for (&block, &identity) in kept.iter().filter_map(|block| Some((block, stretch.identities.get(*block)?))) {
                *uses += 1;
                if group.blocks.holds(identity) {
                    // Another copy, of which the first is given up at once.
                    group.blocks.touch(identity, *uses);
                    withdraw(ledger.as_deref_mut(), number, origin(stretch.contents, block));
                } else {
                    group.blocks.insert(identity, origin(stretch.contents, block), *uses);
                }
            }
            if let (Some(ledger), Some(contents)) = (ledger.as_deref_mut(), stretch.contents) {
                ledger.store_aside(contents, (stretch.first, stretch.end), (number, group.kind), kept);
            }
            while let Some((_, origin)) = group.blocks.pop_overflow() {
                withdraw(ledger.as_deref_mut(), number, origin);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.groups.iter_mut().for_each(|group| group.blocks.clear());
    }
}

fn origin(contents: Option<&Arc<BlockContents>>, index: usize) -> Option<Origin> {
    contents.map(|contents| Origin { contents: Arc::clone(contents), index })
}

fn withdraw(ledger: Option<&mut Ledger>, group: u32, origin: Option<Origin>) {
    if let (Some(ledger), Some(digest)) = (ledger, origin.as_ref().and_then(Origin::digest)) {
        ledger.push(CacheChange::RemovedAside { digest, group });
    }
}
