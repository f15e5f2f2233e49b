//! One pass: candidates -> filters -> cost -> picker, with everything that was weighed kept for the explanation.

pub mod candidate;
pub mod cost;
pub mod explanation;
pub mod latency;
pub mod picker;
pub mod profile;
pub mod subset;

use crate::api::{NoEndpointReason, Reject};
use crate::circuit::Standing;
use crate::draw::Draw;
use crate::identity::{EndpointId, Slot};
use crate::table::Pool;
use crate::table::live::{LivePool, Scrape, Work};
use candidate::{Candidate, Dropped, drop_reason};
use cost::{Demand, Supply};
use profile::Scores;
use subset::Subset;

/// What the pass must know of the request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Index of its model among the pool's; `None` when the pool serves any name.
    pub model: Option<u32>,
    /// Size and service levels.
    pub demand: Demand,
    /// The endpoint of its session.
    pub session: Option<EndpointId>,
    /// The endpoints that the host allows; `None`: all.
    pub subset: Option<&'a Subset>,
    /// Seeds the tie draw.
    pub seed: u64,
}

impl Request<'_> {
    /// The same for all endpoints.
    #[must_use]
    pub const fn without_subset(&self) -> Request<'static> {
        let Self { model, demand, session, seed, .. } = *self;
        Request { model, demand, session, subset: None, seed }
    }
}

/// What this gateway knows of an endpoint beyond the table: `index by slot`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Local {
    /// Work in flight, everybody's, as of now.
    pub work: Work,
    /// Prompt tokens held on the device.
    pub matched_tokens: f64,
    /// Further prompt tokens in a colder tier.
    pub reload_tokens: f64,
    /// Fraction of the KV cache in use by a fresh scrape; 0 while unknown, so that nobody is shunned for silence.
    pub kv_used: f64,
    /// How its circuit stands.
    pub circuit: Standing,
    /// How much slower than it is it counts, while it starts slowly.
    pub warming: f64,
    /// The engine's own figures, while they are fresh.
    pub scraped: Option<Scrape>,
    /// As in `Candidate`.
    pub cold_turn: Option<u64>,
}

impl Default for Local {
    /// Nothing is known of it.
    fn default() -> Self {
        Self {
            work: Work::default(),
            matched_tokens: 0.0,
            reload_tokens: 0.0,
            kv_used: 0.0,
            circuit: Standing::Closed,
            warming: 1.0,
            scraped: None,
            cold_turn: None,
        }
    }
}

/// The outcome of a pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Indices into `candidates`, best first; never empty.
    pub chosen: Vec<usize>,
    /// Every endpoint that was weighed.
    pub candidates: Vec<Candidate>,
    /// Every endpoint that was not, and why.
    pub dropped: Vec<(Slot, Dropped)>,
    /// Costs within this of the least were drawn from, seconds.
    pub band: f64,
    /// True when only last-resort endpoints were left.
    pub last_resort: bool,
    /// True when the session decided.
    pub by_session: bool,
    /// What the pool's profile scored; `None` when the cost decided.
    pub scores: Option<Scores>,
}

impl Decision {
    /// The chosen candidates, best first.
    pub fn choices(&self) -> impl Iterator<Item = &Candidate> {
        self.chosen.iter().filter_map(|&index| self.candidates.get(index))
    }
}

/// Nobody may serve the request; why, for each endpoint of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoCandidate {
    /// Empty: the pool has no endpoints.
    pub dropped: Vec<(Slot, Dropped)>,
}

impl From<&NoCandidate> for Reject {
    fn from(none: &NoCandidate) -> Self {
        let any = |which: fn(Dropped) -> bool| none.dropped.iter().any(|&(_, reason)| which(reason));
        let reason = if none.dropped.is_empty() {
            NoEndpointReason::EmptyPool
        } else if any(|reason| matches!(reason, Dropped::Filter(_))) {
            NoEndpointReason::Excluded
        } else if any(|reason| reason == Dropped::Draining) {
            NoEndpointReason::NoneReady
        } else {
            NoEndpointReason::AllFiltered
        };
        Self::NoEndpoint { reason }
    }
}

/// Chooses. `local` is indexed by slot; `blind_seconds` is the mean age of what is known of other gateways' bookings.
///
/// # Errors
/// `NoCandidate` when every endpoint is filtered out for good.
pub fn schedule(
    pool: &Pool,
    live: &LivePool,
    local: &[Local],
    request: &Request<'_>,
    blind_seconds: f64,
) -> Result<Decision, NoCandidate> {
    let mut candidates = Vec::with_capacity(pool.endpoints.len());
    let mut dropped = Vec::new();
    let mut add =
        |slot: Slot, id: EndpointId, known: &Local| candidates.push(weigh(live, slot, id, known, &request.demand));
    for (slot, endpoint) in pool.endpoints() {
        let known = local.get(slot.index()).copied().unwrap_or_default();
        match drop_reason(endpoint, request, known.circuit) {
            None => add(slot, endpoint.id, &known),
            Some(reason) => dropped.push((slot, reason)),
        }
    }
    let last_resort = candidates.is_empty();
    if last_resort {
        let mut add =
            |slot: Slot, id: EndpointId, known: &Local| candidates.push(weigh(live, slot, id, known, &request.demand));
        for (slot, endpoint) in pool.endpoints() {
            if dropped.iter().any(|&(at, reason)| at == slot && reason.is_last_resort()) {
                add(slot, endpoint.id, &local.get(slot.index()).copied().unwrap_or_default());
            }
        }
    }
    if let Some(profile) = &pool.settings.profile {
        let outcome = profile::run(profile, (pool, live, request), &mut candidates, &mut dropped);
        if outcome.chosen.is_empty() {
            return Err(NoCandidate { dropped });
        }
        let profile::Outcome { chosen, scores, by_session } = outcome;
        let scores = Some(scores);
        return Ok(Decision { chosen, candidates, dropped, last_resort, by_session, scores, band: 0.0 });
    }
    let Some(best) = candidates.iter().min_by(|a, b| a.cost.total_cmp(&b.cost)) else {
        return Err(NoCandidate { dropped });
    };
    let band = cost::herd_band(live.arrivals_per_second, blind_seconds, best.uncached_tokens, &live.rates);
    let preferred = request.session.and_then(|id| candidates.iter().position(|candidate| candidate.id == id));
    let choices = usize::try_from(pool.settings.choices).unwrap_or(1);
    let chosen = picker::pick(&candidates, band, choices, preferred, &mut Draw::from_seed(request.seed));
    Ok(Decision { chosen, candidates, dropped, band, last_resort, by_session: preferred.is_some(), scores: None })
}

/// The inputs of an endpoint's cost.
pub(crate) fn supply(live: &LivePool, slot: Slot, known: &Local) -> Supply {
    let row = live.endpoint(slot);
    let capacity = row.scrape.and_then(|scrape| scrape.kv_capacity).map(to_f64);
    // Tokens that are booked and not yet computed are not in the engine's own figure.
    let booked = capacity.map_or(0.0, |capacity| to_f64(known.work.queued_tokens) / capacity);
    Supply {
        matched_tokens: known.matched_tokens,
        reload_tokens: known.reload_tokens,
        work: known.work,
        kv_used: (known.kv_used + booked).min(1.0),
        kv_capacity: capacity,
        slowness: row.slowness,
    }
}

fn weigh(live: &LivePool, slot: Slot, id: EndpointId, known: &Local, demand: &Demand) -> Candidate {
    let supply = supply(live, slot, known);
    let warming = Supply { slowness: supply.slowness * known.warming, ..supply };
    let terms = cost::terms(demand, &warming, &live.rates);
    Candidate {
        slot,
        id,
        uncached_tokens: cost::uncached_tokens(demand, &supply),
        cost: terms.total(),
        latency: latency::predict(demand, &supply, &terms, &live.rates),
        terms,
        supply,
        scraped: known.scraped,
        cold_turn: known.cold_turn,
        circuit: known.circuit,
        warming: known.warming,
    }
}

#[expect(clippy::cast_precision_loss, reason = "token counts stay far below 2^53")]
const fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
