//! May a request go to the endpoint that was chosen for it, or is it better for everybody that it waits? Formulas and
//! constants: the flow study, section 8. The limit is on what is predicted, never a filter over endpoints: a request waits for
//! the endpoint that holds its prefix.

use crate::scheduling::cost::{Demand, Supply, step_seconds};
use crate::table::live::{Rates, Work};

/// Where the margin is not known yet: 0.82 of the service level.
pub const MARGIN_UNKNOWN: f64 = 1.22;
/// Part of the KV cache that predictions may fill.
const KV_LIMIT: f64 = 0.95;
/// Context tokens that a request adds to every step beyond its own text, as in the cost.
const CONTEXT_OVERHEAD: f64 = 500.0;
/// How many times its own prefill a request may wait for its first token, when that is longer than the service level.
const SIZE_ALLOWANCE: f64 = 1.5;
/// Share of the service level that is planned with.
pub const DEADLINE: f64 = 0.9;

/// What the prediction is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    /// Uncached prompt tokens that may queue at an endpoint.
    pub token_budget: f64,
    /// Does the time per token matter?
    pub tpot: bool,
    /// Share of all limits, 0..=1.
    pub limit: f64,
    /// What other gateways are taken to have sent there since they were last heard of.
    pub mirrored: Work,
}

/// Why a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Enough prompts queue there.
    Tokens,
    /// Its answer would come too slowly.
    Tpot,
    /// The cache would overflow.
    KvCache,
    /// The pool is saturated, by the detector that is configured.
    Saturated,
    /// No endpoint may be chosen now.
    NoEndpoint,
}

impl Closed {
    /// In explanations and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "queued_tokens",
            Self::Tpot => "tpot",
            Self::KvCache => "kv_cache",
            Self::Saturated => "saturated",
            Self::NoEndpoint => "no_endpoint",
        }
    }
}

/// Is the endpoint open to the request? An idle one always is. `uncached`: tokens it would have to compute there.
#[must_use]
pub fn closed(gate: &Gate, demand: &Demand, (supply, uncached): (&Supply, f64), rates: &Rates) -> Option<Closed> {
    let Gate { token_budget, tpot, limit, mirrored } = *gate;
    let in_flight = in_flight(supply.work) + in_flight(mirrored);
    if in_flight < 1.0 {
        return None;
    }
    if tokens(supply.work.queued_tokens) + tokens(mirrored.queued_tokens) >= token_budget * limit {
        return Some(Closed::Tokens);
    }
    let with_mirrored = Supply { work: supply.work.plus(Work { waiting: 0, ..mirrored }), ..*supply };
    let margin = rates.tpot_margin.unwrap_or(MARGIN_UNKNOWN);
    if tpot && step_seconds(demand, &with_mirrored, rates) * margin >= demand.slo_tpot * limit {
        return Some(Closed::Tpot);
    }
    let half = demand.output_tokens / 2.0;
    let growth = uncached + tokens(mirrored.queued_tokens) + half + half * in_flight;
    let full = supply.kv_capacity.is_some_and(|capacity| supply.kv_used + growth / capacity >= KV_LIMIT * limit);
    full.then_some(Closed::KvCache)
}

/// How long after its arrival the first token may come at the latest; `own` is the prefill alone, seconds.
#[must_use]
pub fn patience(demand: &Demand, own: f64) -> f64 {
    DEADLINE * demand.slo_ttft.max(SIZE_ALLOWANCE * own)
}

/// What serving the request takes of an endpoint, pod-seconds.
#[must_use]
pub fn pod_seconds(prompt_tokens: f64, uncached: f64, output_tokens: f64, rates: &Rates) -> f64 {
    uncached * rates.x + output_tokens * rates.k * (prompt_tokens + output_tokens / 2.0 + CONTEXT_OVERHEAD)
}

fn in_flight(work: Work) -> f64 {
    f64::from(work.waiting) + f64::from(work.decoding)
}

#[expect(clippy::cast_precision_loss, reason = "token counts stay far below 2^53")]
const fn tokens(count: u64) -> f64 {
    count as f64
}
