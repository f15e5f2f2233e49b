//! One engine in virtual time: requests go in with a timestamp, events come out with theirs. Seconds are `f64` from any
//! origin; they must not run backwards.
//!
//! The rhythm is `submit` / `next_event_at` / `advance`: nothing happens between calls, and a step that has begun keeps its
//! duration whatever is submitted or cancelled meanwhile, as on a GPU.

mod batch;
mod chain;
mod config;
mod contents;
mod event;
mod groups;
mod kv_cache;
mod ledger;
mod recent_blocks;
mod sequence;
mod snapshot;
#[cfg(test)]
mod tests;
mod tiers;
mod timing;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

pub(crate) use self::chain::scramble;
pub use self::chain::{BlockHash, ChainBuilder, ChainSeed};
pub use self::config::{CacheRecord, ConfigError, EngineConfig, EventDetail};
pub use self::contents::{Adapter, BlockContents, Digest, ReportMode};
pub use self::event::{EngineEvent, Usage};
pub use self::groups::SideGroup;
pub use self::ledger::{CacheChange, Medium, StepChanges};
pub use self::sequence::{PromptSpec, RequestId};
pub use self::snapshot::{AuditError, EngineSnapshot};
pub use self::tiers::TierEvents;
pub use self::timing::{StepCost, StepWork};

use self::groups::SideGroups;
use self::kv_cache::KvCache;
use self::ledger::Ledger;
use self::sequence::{Sequence, SlotId, Slots};
use self::snapshot::Counters;
use self::tiers::Tiers;

/// Why an engine refuses a request outright, before queueing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The request could never hold all of its tokens at once; vLLM rules this out with `max_model_len`.
    #[error("{tokens} tokens need {needed} blocks, the engine has {capacity}")]
    TooLong {
        /// Prompt and output together.
        tokens: u64,
        /// Blocks for that many tokens.
        needed: u64,
        /// Blocks of this engine.
        capacity: u32,
    },
    /// A prompt has at least one token.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// Ids are unique among unfinished requests.
    #[error("request {0:?} is already in the engine")]
    DuplicateId(RequestId),
}

/// A step under way: its work is marked on the sequences (`Sequence::scheduled`).
#[derive(Debug, Clone, Copy)]
struct Step {
    ends_at: f64,
}

/// One simulated engine. See the module documentation for the calling rhythm.
#[derive(Debug, Clone)]
pub struct Engine {
    config: EngineConfig,
    kv: KvCache,
    slots: Slots,
    by_id: HashMap<RequestId, SlotId>,
    /// Submitted, still being tokenised by the API server.
    arriving: VecDeque<SlotId>,
    waiting: VecDeque<SlotId>,
    /// In order of admission: the last one is preempted first.
    running: Vec<SlotId>,
    step: Option<Step>,
    counters: Counters,
    /// Counts the changes that could let a blocked request in: see `batch`.
    openings: u64,
    /// The value of `openings` at which the head of the queue was found not to fit.
    blocked_at: Option<u64>,
}

impl Engine {
    /// An idle engine with an empty cache.
    ///
    /// # Errors
    /// When the configuration is out of range.
    pub fn new(config: EngineConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let tiers = Tiers::new(config.cpu_blocks, config.storage_blocks, config.tier_events);
        let aside = (!config.side_groups.is_empty()).then(|| {
            SideGroups::new(&config.side_groups, config.block_size, config.side_blocks, config.retention_interval)
        });
        let ledger = (config.record == CacheRecord::On).then(Ledger::default);
        Ok(Self {
            kv: KvCache::new(config.num_gpu_blocks, tiers, aside, ledger),
            config,
            slots: Slots::default(),
            by_id: HashMap::new(),
            arriving: VecDeque::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            step: None,
            counters: Counters::default(),
            openings: 0,
            blocked_at: None,
        })
    }

    /// What the engine was built with; `speed` follows [`Engine::set_speed`].
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Hands in a request at `now`. The scheduler sees it `api_delay` later. Call [`Engine::advance`] up to `now` first.
    ///
    /// # Errors
    /// When the request could never run, or its id is in use. Nothing changes then.
    pub fn submit(&mut self, id: RequestId, spec: PromptSpec, now: f64) -> Result<(), SubmitError> {
        self.submit_described(id, spec, None, now)
    }

    /// The same for a request whose blocks are announced: `contents` describes the blocks of `spec`, in the same order. Without
    /// [`CacheRecord::On`] it is ignored.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub fn submit_described(
        &mut self,
        id: RequestId,
        spec: PromptSpec,
        contents: Option<Arc<BlockContents>>,
        now: f64,
    ) -> Result<(), SubmitError> {
        if spec.prompt_tokens == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        let tokens = u64::from(spec.prompt_tokens) + u64::from(spec.output_tokens);
        let needed = tokens.div_ceil(u64::from(self.config.block_size));
        if needed > u64::from(self.config.num_gpu_blocks) {
            return Err(SubmitError::TooLong { tokens, needed, capacity: self.config.num_gpu_blocks });
        }
        if self.by_id.contains_key(&id) {
            return Err(SubmitError::DuplicateId(id));
        }
        let mut sequence = Sequence::new(id, spec, now, now + self.config.api_delay);
        sequence.resumes_at = sequence.reusable_blocks(self.config.block_size).len();
        sequence.contents = contents.filter(|_| self.kv.ledger.is_some());
        let slot = self.slots.insert(sequence);
        self.by_id.insert(id, slot);
        self.arriving.push_back(slot);
        Ok(())
    }

    /// When [`Engine::advance`] next has something to do; None when the engine is idle. May lie in the past.
    #[must_use]
    pub fn next_event_at(&self) -> Option<f64> {
        match self.step {
            Some(step) => Some(step.ends_at),
            None => self.arriving.front().map(|&slot| self.slots.get(slot).ready_at),
        }
    }

    /// Runs everything due up to and including `now`, appending events in order of time.
    pub fn advance(&mut self, now: f64, events: &mut Vec<EngineEvent>) {
        loop {
            let begins = match self.step {
                Some(step) if step.ends_at <= now => {
                    self.finish_step(step.ends_at, events);
                    step.ends_at
                }
                Some(_) => return,
                None => match self.next_event_at() {
                    Some(at) if at <= now => at,
                    _ => return,
                },
            };
            self.step = self.begin_step(begins, events);
        }
    }

    /// Drops a request wherever it is and frees its blocks; computed ones stay cached. False when the id is unknown (finished).
    pub fn cancel(&mut self, id: RequestId) -> bool {
        let Some(slot) = self.by_id.remove(&id) else { return false };
        self.arriving.retain(|&other| other != slot);
        self.waiting.retain(|&other| other != slot);
        self.running.retain(|&other| other != slot);
        let mut sequence = self.slots.remove(slot);
        self.release_blocks(&mut sequence);
        // The head of the queue may be another request now.
        self.openings += 1;
        self.counters.aborted += 1;
        true
    }

    /// Changes the speed factor from the next step on: 1 is the calibrated pod, 0.5 a pod at half speed. Values that are not
    /// positive and finite are ignored.
    pub fn set_speed(&mut self, speed: f64) {
        if speed.is_finite() && speed > 0.0 {
            self.config.speed = speed;
        }
    }

    /// Tokens of `blocks` that are cached now, from the start on: what a prompt with this chain would find, were it admitted at
    /// once and longer than that. For oracles; it touches nothing.
    #[must_use]
    pub fn cached_prefix_tokens(&self, blocks: &[BlockHash]) -> u32 {
        self.kv.reusable(blocks).blocks * self.config.block_size
    }

    /// Forgets every idle cached block and the tiers, as a restart would; what was recorded and not yet taken is lost too.
    pub fn clear_cache(&mut self) {
        self.kv.clear_idle();
    }

    /// vLLM's `reset_prefix_cache`: refused (false) while a sequence holds blocks. The record gets [`CacheChange::Cleared`],
    /// which like every change comes out when the next step ends. The tiers keep what they have.
    pub fn reset_prefix_cache(&mut self) -> bool {
        self.kv.reset()
    }

    /// Empties the tiers without a word.
    pub fn reset_tiers(&mut self) {
        self.kv.tiers.clear();
    }

    /// What ended steps changed in the cache since the last call, oldest first; always empty with [`CacheRecord::Off`].
    #[must_use]
    pub fn take_changes(&mut self) -> Vec<StepChanges> {
        self.kv.ledger.as_mut().map(Ledger::take).unwrap_or_default()
    }

    /// Ids being computed, in order of admission.
    pub fn running_ids(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.running.iter().map(|&slot| self.slots.get(slot).id)
    }

    /// Ids queued for admission, first in line first; those still in the API delay are not among them.
    pub fn waiting_ids(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.waiting.iter().map(|&slot| self.slots.get(slot).id)
    }

    fn release_blocks(&mut self, sequence: &mut Sequence) {
        while let Some(block) = sequence.blocks.pop() {
            self.kv.release(block);
        }
    }
}
