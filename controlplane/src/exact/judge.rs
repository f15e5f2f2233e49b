//! Follows what engines generate, block by block, and says from which block on the tokens are not what their text would
//! be cut into: the engine holds such blocks, no later prompt will hit them.
//!
//! A block can only be judged with the tokens since the last place where the tokenizer starts afresh, so those of chains
//! that are being written are kept: until the next such place, and at most for `KEPT`.

pub(in crate::exact) mod drive;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use shared::clock::Timestamp;

use super::inquiries::Inquiry;
use crate::residency::exact::verdict::BlockId;
use crate::vocabulary::canonical::{Canonical, Origin, Verdict};

/// Bytes re-encoded for one block: paragraphs longer than that are not judged from their middle on.
pub const LONGEST: usize = 1024;
/// Chains being written. With `LONGEST` they take some megabytes.
const MOST: usize = 4096;
/// An engine that writes fills a block within this.
const KEPT: Duration = Duration::from_secs(60);

/// See the module.
pub struct Judge {
    canonical: Canonical,
    open: HashMap<BlockId, Run>,
    /// In the order of their coming; those that went on meanwhile are no longer in `open`.
    order: VecDeque<(Timestamp, BlockId)>,
}

/// The tokens of a chain since the last anchor.
struct Run {
    tokens: Vec<u32>,
    /// Blocks in it, each with its first token; the first block may have begun before.
    blocks: Vec<(usize, BlockId)>,
    origin: Origin,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Chains are not to be published from these blocks on.
    pub condemned: Vec<BlockId>,
    /// Blocks whose tokens were found to be the tokenizer's own.
    pub canonical: u64,
    /// Blocks that could not be judged.
    pub unknown: u64,
    /// Questions dropped because the judge could not keep up.
    pub dropped: u64,
}

impl Judge {
    /// Judges with `canonical`.
    #[must_use]
    pub fn new(canonical: Canonical) -> Self {
        Self { canonical, open: HashMap::new(), order: VecDeque::new() }
    }

    /// Answers `inquiries`, which come in the order in which they were asked.
    pub fn judge(&mut self, inquiries: impl IntoIterator<Item = Inquiry>, now: Timestamp) -> Judged {
        let mut judged = Judged::default();
        for inquiry in inquiries {
            self.answer(inquiry, now, &mut judged);
        }
        while let Some(&(since, block)) = self.order.front() {
            let live = self.open.contains_key(&block);
            if live && self.open.len() <= MOST && now.since(since) <= KEPT {
                break;
            }
            self.order.pop_front();
            self.open.remove(&block);
        }
        judged
    }

    /// Chains whose tokens are kept.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    fn answer(&mut self, inquiry: Inquiry, now: Timestamp, judged: &mut Judged) {
        let Inquiry { parent, first, block, tokens, own } = inquiry;
        let origin = if first { Origin::Anchor } else { Origin::Middle };
        let before = parent.and_then(|parent| self.open.remove(&parent));
        let mut run = before.unwrap_or(Run { tokens: Vec::new(), blocks: Vec::new(), origin });
        let begins = (run.tokens.len() + tokens.len()).saturating_sub(own);
        run.tokens.extend_from_slice(&tokens);
        run.blocks.push((begins, block));
        let checked = self.canonical.check(&run.tokens, run.origin);
        match checked.verdict {
            Verdict::Unknown => judged.unknown += 1,
            Verdict::Canonical => judged.canonical += 1,
            Verdict::Differs(at) => {
                let of = run.blocks.iter().rev().find(|&&(begins, _)| begins <= at);
                // Before the first block there is only what a prompt said.
                judged.condemned.extend(of.map(|&(_, block)| block));
                if of.is_some() {
                    return;
                }
            }
        }
        run.resume(checked.resume, checked.origin);
        self.open.insert(block, run);
        self.order.push_back((now, block));
    }
}

impl Run {
    /// Goes on with token `at`.
    fn resume(&mut self, at: usize, origin: Origin) {
        self.origin = origin;
        self.tokens.drain(..at.min(self.tokens.len()));
        let last = self.blocks.iter().rposition(|&(begins, _)| begins <= at).unwrap_or(0);
        self.blocks.drain(..last);
        for (begins, _) in &mut self.blocks {
            *begins = begins.saturating_sub(at);
        }
    }
}

#[cfg(test)]
mod tests;
