//! Which way a pool's prefixes are known, and why: for people, `/api/v1` and metrics.

use serde::Serialize;

use super::doubt::Doubted;
use crate::publish::truth::TruthStatus;

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PrefixStatus {
    /// `exact` or `learned`.
    pub mode: &'static str,
    /// Why it is that.
    pub reason: String,
    /// Since when, seconds since 1970; 0: from the beginning.
    pub since: u64,
    /// The model whose prompts are rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Engines, where exact residency is wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<EngineStatus>,
    /// Distinct blocks that engines told of.
    pub blocks: usize,
    /// (endpoint, tier, block) triples.
    pub memberships: usize,
    /// Memory behind them.
    pub bytes: usize,
    /// Why our rendering of prompts is not believed now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubt: Option<DoubtStatus>,
    /// How predictions of cached tokens compare with what engines say.
    pub truth: TruthStatus,
    /// Totals.
    pub totals: PrefixTotals,
}

/// See `super::doubt::Doubted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DoubtStatus {
    /// Prompts that were not announced as rendered here ...
    pub unconfirmed: usize,
    /// ... of so many.
    pub judged: usize,
    /// The earliest byte from which on they were not.
    pub from_byte: u64,
    /// When rendering is tried again, seconds since 1970.
    pub until: u64,
}

impl DoubtStatus {
    pub(super) fn of(doubted: &Doubted) -> Self {
        let &Doubted { unconfirmed, judged, from_byte, until } = doubted;
        Self { unconfirmed, judged, from_byte, until: until.as_nanos() / 1_000_000_000 }
    }
}

/// One engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EngineStatus {
    /// `ip:port`.
    pub address: String,
    /// Are its events followed?
    pub followed: bool,
    /// Why not, or what is amiss.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Has it cache groups beside full attention (sliding windows, recurrent state)? A prefix then counts up to the last
    /// boundary from which all of them can go on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hybrid: bool,
    /// Blocks that it holds, all tiers.
    pub blocks: u32,
}

/// Of one pool, since the control plane started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PrefixTotals {
    /// Batches of events applied.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// Batches found missing; a replay may have brought them.
    pub missing_batches: u64,
    /// The longest time until a loss was noticed, microseconds.
    pub slowest_detection_us: u64,
    /// Times that all that was known of an engine became void.
    pub resets: u64,
    /// Memberships dropped to stay within the budget.
    pub shed: u64,
    /// Blocks that came without their beginning.
    pub orphans: u64,
    /// Rendered prompts that engines announced as they were rendered here.
    pub confirmed_prompts: u64,
    /// Those that they did not.
    pub unconfirmed_prompts: u64,
    /// Those that could not be judged: short, known before, or during a loss of events.
    pub skipped_prompts: u64,
    /// Times that the rendering was given up because engines contradicted it.
    pub doubts: u64,
    /// Generated blocks that re-encoding confirmed.
    pub canonical: u64,
    /// Generated blocks that it could not judge; they are published.
    pub unjudged: u64,
    /// Generated blocks that it found different: chains are not published from there on.
    pub alarms: u64,
    /// Blocks not re-encoded because there were too many; they are published.
    pub unasked: u64,
}
