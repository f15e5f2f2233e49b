//! A decision in words that people and tools read: compact JSON, every term in milliseconds, best first.

use core::fmt;
use std::collections::BTreeMap;

use serde::Serialize;

use super::candidate::Dropped;
use super::{Decision, Request};
use crate::identity::Slot;
use crate::table::Pool;
use crate::table::profile::Profile;

/// Candidates that an explanation in a header lists; it has to stay small.
const LISTED: usize = 8;

/// Why the request went where it went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation<'a> {
    /// The pool that was chosen from.
    pub pool: &'a str,
    /// The model that the engine gets; absent where the body is not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the client called it, where that is another name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewritten_from: Option<String>,
    /// Table version the decision was made on.
    pub table_version: u64,
    /// Prompt tokens, estimated from bytes unless the prompt was token ids.
    pub prompt_tokens: f64,
    /// How it is known which prefix is where: `exact`, or `learned` with the reason where exact was wanted.
    pub prefix: String,
    /// Costs within this of the best were equal, milliseconds.
    pub band_ms: f64,
    /// `cost`, `profile`, `session`, or `last_resort`.
    pub decided_by: &'static str,
    /// The scheduling profile, when one decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<&'a str>,
    /// How long it waited for its turn; absent without flow control.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited_ms: Option<f64>,
    /// Best first.
    pub candidates: Vec<ExplainedCandidate<'a>>,
    /// Endpoints that were not weighed.
    pub dropped: Vec<ExplainedDrop<'a>>,
}

/// How it is known which prefix of a prompt is where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrefixSource {
    /// The engines told, and the prompt was rendered as they render it.
    Exact,
    /// From routes; why, where the model's residency is exact but this prompt cannot be rendered.
    Learned(Option<String>),
}

impl Default for PrefixSource {
    fn default() -> Self {
        Self::Learned(None)
    }
}

impl fmt::Display for PrefixSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => out.write_str("exact"),
            Self::Learned(None) => out.write_str("learned"),
            Self::Learned(Some(why)) => write!(out, "learned: {why}"),
        }
    }
}

/// One candidate; costs in milliseconds, rounded to the microsecond.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExplainedCandidate<'a> {
    /// `ip:port`.
    pub endpoint: &'a str,
    /// Position in the steering header, from 1; absent when it is not in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<usize>,
    /// The weighted sum of the profile's scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// What each of the profile's scorers said, 0..=1.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<&'a str, f64>,
    /// The sum.
    pub cost_ms: f64,
    /// What the client is expected to see, of the first token ...
    pub predicted_ttft_ms: f64,
    /// ... and of each one after it.
    pub predicted_tpot_ms: f64,
    /// Time to this request's first token, as the cost has it.
    pub own_ttft_ms: f64,
    /// Harm to those behind it.
    pub queue_harm_ms: f64,
    /// Stall of running decodes.
    pub stall_ms: f64,
    /// Longer steps.
    pub decode_harm_ms: f64,
    /// Preemption risk.
    pub preemption_risk_ms: f64,
    /// Prompt tokens on the device.
    pub matched_tokens: f64,
    /// Prompt tokens in a colder tier.
    pub reload_tokens: f64,
    /// Prompt tokens to compute.
    pub uncached_tokens: f64,
    /// Requests before their first token.
    pub waiting: u32,
    /// Requests that decode.
    pub decoding: u32,
    /// Uncached tokens ahead.
    pub queued_tokens: u64,
    /// Context tokens in flight.
    pub context_tokens: u64,
    /// Fraction of the KV cache in use, bookings included.
    pub kv_used: f64,
    /// 1 is as fast as the fleet; more while it starts slowly.
    pub slowness: f64,
    /// How its circuit stands: `half-open`, and among endpoints of last resort `open` or `failing`; absent when closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit: Option<&'static str>,
}

/// One endpoint that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedDrop<'a> {
    /// `ip:port`.
    pub endpoint: &'a str,
    /// Why; the filter's name when one of the profile's took it out.
    pub reason: &'a str,
}

impl Explanation<'_> {
    /// The same with the best candidates only, for a header.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        self.candidates.truncate(LISTED);
        self.dropped.truncate(LISTED);
        self
    }
}

/// Explains `decision`, taken for `request` from `pool` (called `name`) at `table_version`.
#[must_use]
pub fn explain<'a>(
    name: &'a str,
    pool: &'a Pool,
    table_version: u64,
    request: &Request<'_>,
    decision: &Decision,
) -> Explanation<'a> {
    let profile = pool.settings.profile.as_deref().filter(|_| decision.scores.is_some());
    let candidates = ranking(decision).into_iter().filter_map(|index| candidate(pool, decision, index));
    let drop = |&(slot, reason): &(Slot, Dropped)| ExplainedDrop {
        endpoint: address(pool, slot),
        reason: named(reason, pool),
    };
    Explanation {
        pool: name,
        model: None,
        rewritten_from: None,
        table_version,
        prompt_tokens: rounded(request.demand.prompt_tokens),
        prefix: PrefixSource::default().to_string(),
        band_ms: to_ms(decision.band),
        decided_by: match (decision.by_session, decision.last_resort, profile) {
            (true, _, _) => "session",
            (false, true, _) => "last_resort",
            (false, false, Some(_)) => "profile",
            (false, false, None) => "cost",
        },
        profile: profile.map(|profile| profile.name.as_str()),
        waited_ms: None,
        candidates: candidates.collect(),
        dropped: decision.dropped.iter().map(drop).collect(),
    }
}

fn address(pool: &Pool, slot: Slot) -> &str {
    pool.endpoints.get(slot.index()).and_then(Option::as_ref).map_or("", |endpoint| endpoint.address.as_str())
}

/// The candidates, best first: those that were chosen in their order, then the others by score or cost.
fn ranking(decision: &Decision) -> Vec<usize> {
    let cost = |index: usize| decision.candidates.get(index).map_or(f64::INFINITY, |candidate| candidate.cost);
    let worse = |index: usize| total(decision, index).map_or_else(|| cost(index), |score| -score);
    let mut order: Vec<usize> = (0..decision.candidates.len()).collect();
    order.sort_by(|&a, &b| {
        let ranks = rank(decision, a).unwrap_or(usize::MAX).cmp(&rank(decision, b).unwrap_or(usize::MAX));
        ranks.then(worse(a).total_cmp(&worse(b)))
    });
    order
}

/// The place in the steering header of the candidate at `index`, from 0.
fn rank(decision: &Decision, index: usize) -> Option<usize> {
    decision.chosen.iter().position(|&chosen| chosen == index)
}

/// What the profile made of the candidate at `index`.
fn total(decision: &Decision, index: usize) -> Option<f64> {
    decision.scores.as_ref().and_then(|scores| scores.totals.get(index)).copied()
}

fn candidate<'a>(pool: &'a Pool, decision: &Decision, index: usize) -> Option<ExplainedCandidate<'a>> {
    let candidate = decision.candidates.get(index)?;
    let (supply, terms) = (&candidate.supply, &candidate.terms);
    Some(ExplainedCandidate {
        endpoint: address(pool, candidate.slot),
        choice: rank(decision, index).map(|rank| rank + 1),
        score: total(decision, index).map(to_4_digits),
        scores: scores_of(decision, pool.settings.profile.as_deref(), index),
        cost_ms: to_ms(candidate.cost),
        predicted_ttft_ms: to_ms(candidate.latency.ttft),
        predicted_tpot_ms: to_ms(candidate.latency.tpot),
        own_ttft_ms: to_ms(terms.own_ttft),
        queue_harm_ms: to_ms(terms.queue_harm),
        stall_ms: to_ms(terms.stall),
        decode_harm_ms: to_ms(terms.decode_harm),
        preemption_risk_ms: to_ms(terms.preemption_risk),
        matched_tokens: rounded(supply.matched_tokens),
        reload_tokens: rounded(supply.reload_tokens),
        uncached_tokens: rounded(candidate.uncached_tokens),
        waiting: supply.work.waiting,
        decoding: supply.work.decoding,
        queued_tokens: supply.work.queued_tokens,
        context_tokens: supply.work.context_tokens,
        kv_used: to_4_digits(supply.kv_used),
        slowness: to_4_digits(supply.slowness * candidate.warming),
        circuit: candidate.circuit.name(),
    })
}

/// What each scorer said of the candidate at `index`.
fn scores_of<'a>(decision: &Decision, profile: Option<&'a Profile>, index: usize) -> BTreeMap<&'a str, f64> {
    let row = decision.scores.as_ref().and_then(|scores| scores.rows.get(index));
    let scorers = profile.into_iter().flat_map(|profile| &profile.scorers);
    scorers.zip(row.into_iter().flatten()).map(|(scorer, &score)| (scorer.name.as_str(), to_4_digits(score))).collect()
}

fn named(reason: Dropped, pool: &Pool) -> &str {
    let filters = pool.settings.profile.as_ref().map(|profile| &profile.filters);
    match reason {
        Dropped::Filter(number) => filters
            .and_then(|filters| filters.get(usize::from(number)))
            .map_or(reason.name(), |filter| filter.name.as_str()),
        Dropped::Draining
        | Dropped::Unhealthy
        | Dropped::CircuitOpen
        | Dropped::CircuitProbed
        | Dropped::Failing
        | Dropped::ModelNotServed
        | Dropped::NotInSubset => reason.name(),
    }
}

fn to_4_digits(value: f64) -> f64 {
    libm::round(value * 1e4) / 1e4
}

fn to_ms(seconds: f64) -> f64 {
    libm::round(seconds * 1e6) / 1e3
}

fn rounded(tokens: f64) -> f64 {
    libm::round(tokens * 10.0) / 10.0
}
