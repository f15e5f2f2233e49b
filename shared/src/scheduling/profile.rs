//! One pass of an llm-d scheduling profile over the candidates: filters in order, the weighted sum of scores, the picker.
//! Formulas, defaults and names are llm-d's; where it reads a figure that only a scrape knows and there is no fresh one,
//! the bookings stand in, so that a missing scrape neither stops nor attracts traffic.

mod filter;
mod picker;
mod scorer;

use std::collections::BTreeMap;

use super::Request;
use super::candidate::{Candidate, Dropped};
use super::latency::Latency;
use crate::draw::Draw;
use crate::identity::Slot;
use crate::table::Pool;
use crate::table::live::{Adapters, LivePool};
use crate::table::profile::{Metric, Profile};

/// What the scorers said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// By candidate, then by scorer, each 0..=1.
    pub rows: Vec<Vec<f64>>,
    /// By candidate: the weighted sum.
    pub totals: Vec<f64>,
}

/// What a pass decided.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    /// Indices into the candidates that are left, best first; empty when the filters left nobody.
    pub(super) chosen: Vec<usize>,
    pub(super) scores: Scores,
    /// True when the session decided.
    pub(super) by_session: bool,
}

/// What filters and scorers may look at.
struct Pass<'a> {
    pool: &'a Pool,
    live: &'a LivePool,
    request: &'a Request<'a>,
}

/// Runs `profile`; candidates that a filter takes out move to `dropped`.
pub(super) fn run(
    profile: &Profile,
    (pool, live, request): (&Pool, &LivePool, &Request<'_>),
    candidates: &mut Vec<Candidate>,
    dropped: &mut Vec<(Slot, Dropped)>,
) -> Outcome {
    let mut draw = Draw::from_seed(request.seed);
    let pass = Pass { pool, live, request };
    for (number, named) in (0..).zip(&profile.filters) {
        let mut keep = filter::keep(&named.filter, &pass, candidates, &mut draw).into_iter();
        candidates.retain(|candidate| {
            let kept = keep.next().unwrap_or(true);
            if !kept {
                dropped.push((candidate.slot, Dropped::Filter(number)));
            }
            kept
        });
    }
    let scores = scores(profile, &pass, candidates);
    let choices = usize::try_from(pool.settings.choices).unwrap_or(1);
    let preferred = request.session.filter(|_| !profile.weighs_sessions());
    let preferred = preferred.and_then(|id| candidates.iter().position(|candidate| candidate.id == id));
    let chosen = picker::pick(profile.picker, &scores.totals, preferred, choices, &mut draw);
    Outcome { chosen, scores, by_session: preferred.is_some() }
}

fn scores(profile: &Profile, pass: &Pass<'_>, candidates: &[Candidate]) -> Scores {
    let mut rows = vec![Vec::with_capacity(profile.scorers.len()); candidates.len()];
    let mut totals = vec![0.0; candidates.len()];
    for weighted in &profile.scorers {
        let column = scorer::scores(&weighted.scorer, pass, candidates);
        for ((row, total), score) in rows.iter_mut().zip(&mut totals).zip(column) {
            let score = if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) };
            row.push(score);
            *total += weighted.weight * score;
        }
    }
    Scores { rows, totals }
}

impl Pass<'_> {
    fn labels(&self, candidate: &Candidate) -> Option<&BTreeMap<String, String>> {
        Some(&self.pool.endpoints.get(candidate.slot.index())?.as_ref()?.labels)
    }

    fn label(&self, candidate: &Candidate, name: &str) -> Option<&str> {
        self.labels(candidate)?.get(name).map(String::as_str)
    }

    fn adapters(&self, candidate: &Candidate) -> Option<&Adapters> {
        self.live.details(candidate.slot)?.adapters.as_ref()
    }

    fn attribute(&self, candidate: &Candidate, number: u32) -> Option<f64> {
        self.live.details(candidate.slot)?.attributes.get(&number).copied()
    }

    /// Headroom to the service levels, seconds: time to the first token, time per token.
    fn headroom(&self, candidate: &Candidate) -> (f64, f64) {
        let demand = &self.request.demand;
        let Latency { ttft, tpot } = candidate.latency;
        (demand.slo_ttft - ttft, demand.slo_tpot - tpot)
    }
}

fn figure(metric: Metric, candidate: &Candidate) -> f64 {
    let work = candidate.supply.work;
    match (metric, candidate.scraped) {
        (Metric::InFlightRequests, _) => f64::from(work.waiting) + f64::from(work.decoding),
        (Metric::InFlightTokens, _) => super::to_f64(work.queued_tokens),
        (Metric::RunningRequests, Some(scrape)) => f64::from(scrape.running),
        (Metric::RunningRequests, None) => f64::from(work.decoding),
        (Metric::WaitingRequests, Some(scrape)) => f64::from(scrape.waiting),
        (Metric::WaitingRequests, None) => f64::from(work.waiting),
        (Metric::KvUsed, scrape) => scrape.map_or(0.0, |scrape| scrape.kv_used),
    }
}

/// Ranges such as `0-8192,16384-65536` that hold counts of tokens; what is no range is left out.
fn ranges(text: &str) -> impl Iterator<Item = (f64, f64)> + '_ {
    text.split(',').filter_map(|range| {
        let (least, most) = range.trim().split_once('-')?;
        let (least, most): (u32, u32) = (least.trim().parse().ok()?, most.trim().parse().ok()?);
        (least <= most).then_some((f64::from(least), f64::from(most)))
    })
}

#[cfg(test)]
mod tests;
