//! Blocks whose tokens somebody should re-encode: the residency asks in passing and goes on, the judge takes its time.
//!
//! When the judge cannot keep up the oldest questions are dropped: their blocks stay published, as if the answer were yes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::residency::exact::verdict::{BlockId, Continuation, Verdict};

/// Questions that wait. At 64 tokens each they take 2 MB.
const MOST: usize = 4096;
/// Tokens before the block that are asked about with it: the last of a long prompt, where its answer begins.
const CONTEXT: usize = 64;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// The block before those in `tokens`; `None`: they begin a prompt, or the block before is not the next one.
    pub parent: Option<BlockId>,
    /// Do `tokens` begin a prompt?
    pub first: bool,
    /// The block.
    pub block: BlockId,
    /// The block's tokens, behind the last ones before it that came with it.
    pub tokens: Box<[u32]>,
    /// How many of `tokens` are the block's own.
    pub own: usize,
}

/// What waits; clones are the same queue.
#[derive(Clone, Debug, Default)]
pub struct Inquiries(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Inquiry>,
    dropped: u64,
}

impl Inquiries {
    /// All that waits, and how many were dropped since the last call.
    #[must_use]
    pub fn take(&self) -> (Vec<Inquiry>, u64) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        (waiting.queue.drain(..).collect(), std::mem::take(&mut waiting.dropped))
    }

    /// Until something waits; it may have been taken meanwhile.
    pub async fn some(&self) {
        self.0.news.notified().await;
    }

    fn put(&self, inquiry: Inquiry) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.queue.len() >= MOST {
            waiting.queue.pop_front();
            waiting.dropped += 1;
        }
        waiting.queue.push_back(inquiry);
        drop(waiting);
        self.0.news.notify_one();
    }
}

impl Verdict for Inquiries {
    /// Only an event's last block is asked about: engines tell of prompts in long runs, which are the tokenizer's own
    /// work, and of what they generate block by block.
    fn goes_on(&mut self, next: &Continuation<'_>) -> bool {
        if !next.more {
            let from = next.before.len().saturating_sub(CONTEXT);
            let context = next.before.get(from..).unwrap_or_default();
            let alone = next.before.is_empty();
            self.put(Inquiry {
                parent: next.parent.filter(|_| alone),
                first: alone && next.parent.is_none(),
                block: next.block,
                tokens: [context, next.tokens].concat().into(),
                own: next.tokens.len(),
            });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::event::BlockHash;

    fn id(number: u32) -> BlockId {
        BlockId::new(number, BlockHash(7))
    }

    #[test]
    fn the_oldest_questions_go_when_nobody_answers() {
        let (inquiries, mut asks) = (Inquiries::default(), Inquiries::default());
        asks.clone_from(&inquiries);
        for number in 0..u32::try_from(MOST).unwrap() + 5 {
            let next = Continuation { parent: None, block: id(number), before: &[], tokens: &[1], more: false };
            assert!(asks.goes_on(&next));
        }
        let (waiting, dropped) = inquiries.take();
        assert_eq!((waiting.len(), dropped, waiting[0].block), (MOST, 5, id(5)));
        assert_eq!(inquiries.take(), (Vec::new(), 0));
    }

    #[test]
    fn of_a_run_only_the_end_is_asked_about() {
        let mut asks = Inquiries::default();
        let before: Vec<u32> = (0..100).collect();
        for more in [true, false] {
            asks.goes_on(&Continuation { parent: Some(id(1)), block: id(2), before: &before, tokens: &[5, 6], more });
        }
        let (waiting, _) = asks.take();
        assert_eq!(waiting.len(), 1);
        assert_eq!((waiting[0].tokens.len(), waiting[0].tokens[0], waiting[0].own), (66, 36, 2));
        assert_eq!((waiting[0].parent, waiting[0].first), (None, false), "the block before is not the next one");
    }
}
