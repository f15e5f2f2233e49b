//! The default score: what it costs, in seconds, to put this request on that endpoint. Own time to first token, the harm
//! to those who queue behind, the stall of running decodes, longer steps for everybody, and the risk of preemption.
//!
//! Source and evidence: the routing study's section 3.1; its golden cases are checked natively and in the Wasm module.
//! Context overhead of 500 tokens a request and the preemption knee at 0.8 are that study's constants.

use crate::table::live::{Rates, Work};

/// Tokens that even a fully cached prompt computes: engines never reuse the last block.
pub const LEAST_UNCACHED: f64 = 16.0;
const CONTEXT_OVERHEAD: f64 = 500.0;
const PREEMPTION_KNEE: f64 = 0.8;

/// What the cost needs of the request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// L, tokens.
    pub prompt_tokens: f64,
    /// O, expected output tokens, at least 1.
    pub output_tokens: f64,
    /// S_ttft, seconds.
    pub slo_ttft: f64,
    /// S_tpot, seconds.
    pub slo_tpot: f64,
}

/// What the cost needs of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Supply {
    /// Prompt tokens held on the device.
    pub matched_tokens: f64,
    /// Further prompt tokens held in a colder tier.
    pub reload_tokens: f64,
    /// P, D, Q and C, everybody's.
    pub work: Work,
    /// Fraction of the KV cache in use.
    pub kv_used: f64,
    /// K, tokens; `None` when unknown: then only the fraction counts.
    pub kv_capacity: Option<f64>,
    /// f, 1 is as fast as the fleet.
    pub slowness: f64,
}

/// The terms of the cost, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// (1) Time to this request's first token.
    pub own_ttft: f64,
    /// (2) Those who queue behind it pay for its prefill.
    pub queue_harm: f64,
    /// (3) Running decodes stall while it is prefilled.
    pub stall: f64,
    /// (4) Its context slows their steps, and theirs its own.
    pub decode_harm: f64,
    /// (5) The cache may overflow and preempt somebody.
    pub preemption_risk: f64,
}

impl Terms {
    /// J, seconds.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.own_ttft + self.queue_harm + self.stall + self.decode_harm + self.preemption_risk
    }
}

/// u: the tokens that this endpoint would have to compute.
#[must_use]
pub fn uncached_tokens(demand: &Demand, supply: &Supply) -> f64 {
    (demand.prompt_tokens - supply.matched_tokens - supply.reload_tokens).max(LEAST_UNCACHED)
}

/// The terms for one endpoint.
#[must_use]
pub fn terms(demand: &Demand, supply: &Supply, rates: &Rates) -> Terms {
    let f = supply.slowness;
    let (x, y, k, s0, t0) = (f * rates.x, f * rates.y, f * rates.k, f * rates.s0, f * rates.t0);
    let (length, output) = (demand.prompt_tokens, demand.output_tokens);
    let queued = tokens(supply.work.queued_tokens);
    let context = tokens(supply.work.context_tokens);
    let waiting = f64::from(supply.work.waiting);
    let in_flight = waiting + f64::from(supply.work.decoding);

    let uncached = uncached_tokens(demand, supply);
    let compute = uncached * (x + y * (length - uncached / 2.0));
    let own = compute + supply.reload_tokens * rates.z;
    let weight = demand.slo_ttft / (output * demand.slo_tpot);
    let ours_slows_theirs = in_flight * k * (length + output / 2.0 + CONTEXT_OVERHEAD);
    let theirs_slows_ours = s0 + k * (context + CONTEXT_OVERHEAD * in_flight);
    let growth = supply.kv_capacity.map_or(0.0, |capacity| (uncached + output / 2.0) / capacity);
    let overflow = ((supply.kv_used + growth - PREEMPTION_KNEE) / (1.0 - PREEMPTION_KNEE)).max(0.0);
    Terms {
        own_ttft: t0 + queued * x + own,
        queue_harm: waiting * own,
        stall: weight * in_flight * compute,
        decode_harm: weight * output * (ours_slows_theirs + theirs_slows_ours),
        preemption_risk: overflow * overflow,
    }
}

/// Time per output token of this request if it went there now, seconds: the step of a batch with its context in it.
#[must_use]
pub fn step_seconds(demand: &Demand, supply: &Supply, rates: &Rates) -> f64 {
    let context = tokens(supply.work.context_tokens) + demand.prompt_tokens + demand.output_tokens / 2.0;
    supply.slowness * (rates.s0 + rates.k * context)
}

/// How far above the best cost a pod may be and still be drawn, seconds: with other gateways deciding at the same time,
/// whoever looks best to one looks best to all.
#[must_use]
pub fn herd_band(arrivals_per_second: f64, blind_seconds: f64, best_uncached: f64, rates: &Rates) -> f64 {
    (0.1 + arrivals_per_second * blind_seconds).min(8.0) * (0.005 + best_uncached * rates.x)
}

#[expect(clippy::cast_precision_loss, reason = "token counts stay far below 2^53")]
const fn tokens(count: u64) -> f64 {
    count as f64
}
