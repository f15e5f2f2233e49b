//! What an engine can be told: capacity, limits and speed. `speed` divides the step time only, never the API delay.

use super::groups::SideGroup;
use super::tiers::TierEvents;
use super::timing::StepCost;

/// How much an engine reports. Decoding one token per event is what HTTP streaming needs and a lab does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EventDetail {
    /// First token, preemption and finish; TPOT is (finish - first) / (n - 1).
    #[default]
    Milestones,
    /// Every token too.
    EveryToken,
}

/// Whether the engine keeps a record of cache changes; see `Engine::take_changes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheRecord {
    /// Nobody listens: no record, no cost.
    #[default]
    Off,
    /// Every change of a block with known contents.
    On,
}

/// An engine's parameters. The defaults are Qwen3-32B on two H100 (tensor parallel), fitted to llm-d's published ladder.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// KV-cache blocks, at least 1.
    pub num_gpu_blocks: u32,
    /// Tokens per block, at least 1.
    pub block_size: u32,
    /// Most sequences running at once, at least 1.
    pub max_num_seqs: u32,
    /// Token budget of one step, at least 1.
    pub max_num_batched_tokens: u32,
    /// Steps are divided by this; positive.
    pub speed: f64,
    /// Seconds from submission until the scheduler sees the request (HTTP and tokenising).
    pub api_delay: f64,
    /// What a step costs.
    pub cost: StepCost,
    /// Which events come out.
    pub detail: EventDetail,
    /// Whether cache changes are recorded.
    pub record: CacheRecord,
    /// Blocks of host memory that take what the device evicts; 0 for none.
    pub cpu_blocks: u32,
    /// Blocks of storage that take what host memory (or the device, without host memory) evicts; 0 for none.
    pub storage_blocks: u32,
    /// What the tiers announce.
    pub tier_events: TierEvents,
    /// Cache groups beside full attention, as hybrid models have them. Not together with tiers.
    pub side_groups: Vec<SideGroup>,
    /// Blocks that each side group can keep.
    pub side_blocks: u32,
    /// Tokens between boundaries that side groups keep (`prefix_cache_retention_interval`); 0: only where a prompt ends and
    /// where it leaves a prefix that was there.
    pub retention_interval: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            num_gpu_blocks: 18_000,
            block_size: 16,
            max_num_seqs: 1024,
            max_num_batched_tokens: 8192,
            speed: 1.0,
            api_delay: 0.020,
            cost: StepCost::default(),
            detail: EventDetail::default(),
            record: CacheRecord::default(),
            cpu_blocks: 0,
            storage_blocks: 0,
            tier_events: TierEvents::default(),
            side_groups: Vec::new(),
            side_blocks: 18_000,
            retention_interval: 0,
        }
    }
}

/// A parameter out of its range.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Counts start at one.
    #[error("{name}: must be at least 1, got 0")]
    Zero {
        /// The parameter.
        name: &'static str,
    },
    /// Which blocks of a hybrid model come back from a tier is not modelled.
    #[error("side_groups: cannot be combined with cpu_blocks or storage_blocks")]
    HybridTiers,
    /// Speeds are above zero.
    #[error("{name}: must be a finite number above 0, got {got}")]
    NotPositive {
        /// The parameter.
        name: &'static str,
        /// What was given.
        got: f64,
    },
    /// Durations and costs are not below zero.
    #[error("{name}: must be a finite number, 0 or more, got {got}")]
    Negative {
        /// The parameter.
        name: &'static str,
        /// What was given.
        got: f64,
    },
}

impl EngineConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (name, value) in [
            ("num_gpu_blocks", self.num_gpu_blocks),
            ("block_size", self.block_size),
            ("max_num_seqs", self.max_num_seqs),
            ("max_num_batched_tokens", self.max_num_batched_tokens),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero { name });
            }
        }
        if !self.side_groups.is_empty() && (self.cpu_blocks > 0 || self.storage_blocks > 0) {
            return Err(ConfigError::HybridTiers);
        }
        if !(self.speed.is_finite() && self.speed > 0.0) {
            return Err(ConfigError::NotPositive { name: "speed", got: self.speed });
        }
        for (name, got) in [
            ("api_delay", self.api_delay),
            ("cost.base", self.cost.base),
            ("cost.prefill_token", self.cost.prefill_token),
            ("cost.prefill_context", self.cost.prefill_context),
            ("cost.decode", self.cost.decode),
            ("cost.decode_context", self.cost.decode_context),
            ("cost.cpu_load_token", self.cost.cpu_load_token),
            ("cost.storage_load_token", self.cost.storage_load_token),
        ] {
            if !(got.is_finite() && got >= 0.0) {
                return Err(ConfigError::Negative { name, got });
            }
        }
        Ok(())
    }
}
