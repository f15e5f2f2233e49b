//! What an engine says about itself: the figures a scraper would see, and an audit that recounts the blocks from scratch.
//!
//! `kv_used` counts blocks held by sequences only; idle cached blocks are free, as in vLLM.

use super::Engine;
use super::sequence::{Rounding, blocks_for};

/// Monotone counters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    pub(super) prefix_queries: u64,
    pub(super) prefix_hits: u64,
    pub(super) external_queries: u64,
    pub(super) external_hits: u64,
    pub(super) preemptions: u64,
    pub(super) prompt_tokens: u64,
    pub(super) cached_prompt_tokens: u64,
    pub(super) generation_tokens: u64,
    pub(super) finished: u64,
    pub(super) aborted: u64,
    pub(super) steps: u64,
    pub(super) busy_seconds: f64,
}

/// State and counters at one moment. Token counters follow vLLM: queries and hits at first admission, prompt tokens at the first
/// token, generation tokens as they come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EngineSnapshot {
    /// Sequences admitted.
    pub running: u32,
    /// Sequences queued, those in the API delay excluded.
    pub waiting: u32,
    /// Submitted and still in the API delay.
    pub arriving: u32,
    /// Blocks held by sequences / all blocks, 0..=1.
    pub kv_used: f64,
    /// Blocks held by sequences.
    pub blocks_used: u32,
    /// Cached blocks that nobody holds.
    pub blocks_idle: u32,
    /// Blocks without content.
    pub blocks_blank: u32,
    /// Blocks a new prefix could hit, held or idle.
    pub blocks_cached: u32,
    /// Blocks dropped for others, ever.
    pub evictions: u64,
    /// Prompt tokens looked up.
    pub prefix_queries: u64,
    /// Prompt tokens found on the device.
    pub prefix_hits: u64,
    /// Prompt tokens looked up in the tiers: those not found on the device.
    pub external_queries: u64,
    /// Prompt tokens found in the tiers.
    pub external_hits: u64,
    /// Blocks in host memory.
    pub blocks_cpu: u32,
    /// Blocks in storage.
    pub blocks_storage: u32,
    /// Sequences thrown out for lack of blocks.
    pub preemptions: u64,
    /// Prompt tokens of requests that got their first token (or finished without output).
    pub prompt_tokens: u64,
    /// Of these, served from the cache.
    pub cached_prompt_tokens: u64,
    /// Tokens generated.
    pub generation_tokens: u64,
    /// Requests finished.
    pub finished: u64,
    /// Requests cancelled.
    pub aborted: u64,
    /// Steps begun.
    pub steps: u64,
    /// Seconds in steps.
    pub busy_seconds: f64,
}

/// A broken invariant: a bug of the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// Held, idle and blank blocks do not add up.
    #[error("{held} held + {idle} idle + {blank} blank blocks are not {capacity}")]
    Lost {
        /// Held by sequences.
        held: u32,
        /// On the idle list.
        idle: u32,
        /// Without content.
        blank: u32,
        /// All.
        capacity: u32,
    },
    /// A block's holder count differs from the sequences that list it.
    #[error("block {block} has {counted} holders, its count says {recorded}")]
    Holders {
        /// Index.
        block: usize,
        /// Sequences that list it.
        counted: u32,
        /// The block's own count.
        recorded: u32,
    },
    /// The idle list and its counter differ.
    #[error("the idle list has {walked} blocks, its counter says {recorded}")]
    IdleList {
        /// By walking.
        walked: u32,
        /// The counter.
        recorded: u32,
    },
    /// A sequence has more tokens computed or being computed than its blocks hold.
    #[error("{tokens} tokens in {blocks} blocks")]
    Overfull {
        /// Computed and scheduled.
        tokens: u32,
        /// Blocks it holds.
        blocks: usize,
    },
    /// A sequence is in no queue, or in two.
    #[error("{queued} queued sequences for {live} live ones")]
    Queues {
        /// Entries in all queues.
        queued: usize,
        /// Live sequences.
        live: usize,
    },
}

impl Engine {
    /// State and counters now.
    #[must_use]
    pub fn metrics(&self) -> EngineSnapshot {
        let used = self.kv.capacity() - self.kv.available();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let counters = &self.counters;
        EngineSnapshot {
            running: count(self.running.len()),
            waiting: count(self.waiting.len()),
            arriving: count(self.arriving.len()),
            kv_used: f64::from(used) / f64::from(self.kv.capacity()),
            blocks_used: used,
            blocks_idle: self.kv.idle(),
            blocks_blank: self.kv.blank(),
            blocks_cached: self.kv.cached(),
            evictions: self.kv.evictions,
            prefix_queries: counters.prefix_queries,
            prefix_hits: counters.prefix_hits,
            external_queries: counters.external_queries,
            external_hits: counters.external_hits,
            blocks_cpu: count(self.kv.tiers.kept().0),
            blocks_storage: count(self.kv.tiers.kept().1),
            preemptions: counters.preemptions,
            prompt_tokens: counters.prompt_tokens,
            cached_prompt_tokens: counters.cached_prompt_tokens,
            generation_tokens: counters.generation_tokens,
            finished: counters.finished,
            aborted: counters.aborted,
            steps: counters.steps,
            busy_seconds: counters.busy_seconds,
        }
    }

    /// Recounts blocks and queues from scratch.
    ///
    /// # Errors
    /// On the first invariant found broken.
    pub fn audit(&self) -> Result<(), AuditError> {
        let mut counted = vec![0_u32; usize::try_from(self.kv.capacity()).unwrap_or_default()];
        for sequence in self.slots.iter() {
            let (tokens, blocks) = (sequence.computed + sequence.scheduled, sequence.blocks.len());
            if blocks_for(tokens, self.config.block_size, Rounding::Up) > blocks {
                return Err(AuditError::Overfull { tokens, blocks });
            }
            for block in &sequence.blocks {
                if let Some(count) = counted.get_mut(block.index()) {
                    *count += 1;
                }
            }
        }
        for (block, (recorded, &counted)) in self.kv.holders().zip(&counted).enumerate() {
            if recorded != counted {
                return Err(AuditError::Holders { block, counted, recorded });
            }
        }
        let (idle, blank, capacity) = (self.kv.idle(), self.kv.blank(), self.kv.capacity());
        let held = u32::try_from(counted.iter().filter(|&&count| count > 0).count()).unwrap_or(u32::MAX);
        if held + idle + blank != capacity {
            return Err(AuditError::Lost { held, idle, blank, capacity });
        }
        let walked = self.kv.walk_idle();
        if walked != idle {
            return Err(AuditError::IdleList { walked, recorded: idle });
        }
        let queued = self.arriving.len() + self.waiting.len() + self.running.len();
        let live = self.slots.len();
        if queued != live || live != self.by_id.len() { Err(AuditError::Queues { queued, live }) } else { Ok(()) }
    }
}
