//! The record of cache changes that KV events are made of: gathered while a step is formed, handed out when it ends.
//!
//! Changes made between steps (a reset, a cancellation) wait for the next step's end, as vLLM's do: an idle engine that was
//! cleared says so only with the next request.

use std::collections::HashMap;
use std::sync::Arc;

use super::contents::{BlockContents, Digest};
use super::groups::SideGroup;
use super::kv_cache::BlockId;

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Medium {
    /// The device's own memory.
    Gpu,
    /// Host memory.
    Cpu,
    /// Disk or an object store.
    Storage,
}

/// One change of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheChange {
    /// Blocks `first..first + count` of a request can be hit from now on. One physical block each: equal contents in two blocks
    /// are stored twice and removed twice.
    Stored {
        /// Whose blocks.
        contents: Arc<BlockContents>,
        /// First block, counted from the request's start.
        first: usize,
        /// How many.
        count: usize,
        /// Where.
        medium: Medium,
    },
    /// A block of which a tier knows the hash and nothing else.
    Placeholder {
        /// Its hash.
        digest: Digest,
        /// Where.
        medium: Medium,
    },
    /// One physical block is gone.
    Removed {
        /// Its hash.
        digest: Digest,
        /// From where.
        medium: Medium,
    },
    /// A group beside full attention has blocks of those that a request filled.
    StoredAside {
        /// Whose blocks.
        contents: Arc<BlockContents>,
        /// First of those that were filled, counted from the request's start.
        first: usize,
        /// How many were filled.
        count: usize,
        /// Those of them that the group keeps, ascending; often none.
        kept: Vec<usize>,
        /// Its number, from 1.
        group: u32,
        /// Its kind.
        kind: SideGroup,
    },
    /// A block of a group beside full attention is gone.
    RemovedAside {
        /// Its hash.
        digest: Digest,
        /// The group's number.
        group: u32,
    },
    /// The whole cache is gone.
    Cleared,
}

/// What one engine step changed.
#[derive(Debug, Clone, PartialEq)]
pub struct StepChanges {
    /// Seconds on the engine's clock: the end of the step.
    pub at: f64,
    /// In the order they happened.
    pub changes: Vec<CacheChange>,
}

/// A physical block's place in the request that filled it.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) contents: Arc<BlockContents>,
    pub(super) index: usize,
}

impl Origin {
    pub(super) fn digest(&self) -> Option<Digest> {
        self.contents.digests.get(self.index).copied()
    }
}

/// Changes so far, and what each announced block is.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    pending: Vec<CacheChange>,
    finished: Vec<StepChanges>,
    announced: HashMap<BlockId, Origin>,
}

impl Ledger {
    /// A device block got content that others may hit.
    pub(super) fn seal(&mut self, block: BlockId, contents: &Arc<BlockContents>, index: usize) {
        if index < contents.digests.len() {
            self.announced.insert(block, Origin { contents: Arc::clone(contents), index });
        }
    }

    /// Announces blocks `first..end` of a request, as far as they have digests.
    pub(super) fn store(&mut self, contents: &Arc<BlockContents>, first: usize, end: usize, medium: Medium) {
        let count = end.min(contents.digests.len()).saturating_sub(first);
        if count > 0 {
            self.pending.push(CacheChange::Stored { contents: Arc::clone(contents), first, count, medium });
        }
    }

    /// Announces what a side group keeps of blocks `first..end`, as far as they have digests.
    pub(super) fn store_aside(
        &mut self,
        contents: &Arc<BlockContents>,
        (first, end): (usize, usize),
        (group, kind): (u32, SideGroup),
        mut kept: Vec<usize>,
    ) {
        let count = end.min(contents.digests.len()).saturating_sub(first);
        kept.retain(|&block| block < contents.digests.len());
        if count > 0 {
            let contents = Arc::clone(contents);
            self.pending.push(CacheChange::StoredAside { contents, first, count, kept, group, kind });
        }
    }

    /// A device block lost its content; gives back what it was.
    pub(super) fn forget(&mut self, block: BlockId) -> Option<Origin> {
        self.announced.remove(&block)
    }

    pub(super) fn push(&mut self, change: CacheChange) {
        self.pending.push(change);
    }

    /// The device cache was cleared as a whole.
    pub(super) fn clear(&mut self) {
        self.announced.clear();
        self.pending.push(CacheChange::Cleared);
    }

    /// As after a restart: nobody will hear of what was not yet published.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// The step ends at `at`.
    pub(super) fn finish_step(&mut self, at: f64) {
        if !self.pending.is_empty() {
            self.finished.push(StepChanges { at, changes: std::mem::take(&mut self.pending) });
        }
    }

    pub(super) fn take(&mut self) -> Vec<StepChanges> {
        std::mem::take(&mut self.finished)
    }
}
