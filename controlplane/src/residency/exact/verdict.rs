//! Who may decide that a chain is not what a prompt would say: a generated block whose tokens another turn will not
//! reproduce is held by the engine, but no prompt will hit it.
//!
//! The answer may come at once (`Verdict::goes_on`) or later (`ExactResidency::condemn`); until then the block is published.

use crate::events::event::BlockHash;

/// A block, as long as it is known. Numbers are used again, with other names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    pub(super) number: u32,
    pub(super) name: BlockHash,
}

impl BlockId {
    /// For whoever tests without a residency.
    #[must_use]
    pub const fn new(number: u32, name: BlockHash) -> Self {
        Self { number, name }
    }
}

/// One more block of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Continuation<'a> {
    /// The block before it; `None` at the start of a prompt.
    pub parent: Option<BlockId>,
    /// The block.
    pub block: BlockId,
    /// Tokens of the blocks before it that came with the same event: context, perhaps empty.
    pub before: &'a [u32],
    /// The block's own tokens.
    pub tokens: &'a [u32],
    /// Does the event tell of more blocks after it?
    pub more: bool,
}

/// Asked once per block that is new to the pool, in chain order.
pub trait Verdict: Send {
    /// Does the chain still say what a prompt would? From a no on, nothing of it is published.
    fn goes_on(&mut self, next: &Continuation<'_>) -> bool;

    /// The block is gone: state kept for it is of no use.
    fn forget(&mut self, block: BlockId) {
        let _ = block;
    }
}

impl<F: FnMut(&Continuation<'_>) -> bool + Send> Verdict for F {
    fn goes_on(&mut self, next: &Continuation<'_>) -> bool {
        self(next)
    }
}
