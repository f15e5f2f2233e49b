//! What each scorer computes, by candidate; the caller keeps it within 0..=1.

use super::{Pass, figure, ranges};
use crate::scheduling::candidate::Candidate;
use crate::table::profile::{LatencyScore, Metric, Scorer};

/// By candidate.
pub(super) fn scores(scorer: &Scorer, pass: &Pass<'_>, candidates: &[Candidate]) -> Vec<f64> {
    let each = |score: &dyn Fn(&Candidate) -> f64| candidates.iter().map(score).collect::<Vec<f64>>();
    match scorer {
        Scorer::Prefix { length_share, length_scale } => each(&|candidate| {
            let length = (candidate.matched_tokens() / length_scale).min(1.0);
            length_share * length * length + (1.0 - length_share) * candidate.matched_share(pass.request)
        }),
        Scorer::Least(metric) => between(&each(&|candidate| figure(*metric, candidate)), false),
        Scorer::Complement(metric) => each(&|candidate| 1.0 - figure(*metric, candidate)),
        Scorer::ActiveRequests { idle_threshold, most_busy } => {
            let counts = each(&|candidate| figure(Metric::InFlightRequests, candidate));
            let most = counts.iter().copied().fold(0.0, f64::max);
            let score = |count: f64| {
                if count <= f64::from(*idle_threshold) { 1.0 } else { most_busy * (1.0 - count / most) }
            };
            counts.into_iter().map(score).collect()
        }
        Scorer::LoadAware { threshold } => {
            let threshold = f64::from(*threshold);
            each(&|candidate| {
                let waiting = figure(Metric::WaitingRequests, candidate);
                0.5 * (1.0 - waiting.min(threshold) / threshold)
            })
        }
        Scorer::TokenLoad { threshold } => each(&|candidate| {
            let tokens = figure(Metric::InFlightTokens, candidate);
            1.0 - (tokens / threshold).min(1.0)
        }),
        Scorer::AdapterAffinity => each(&|candidate| adapter(pass, candidate)),
        Scorer::NoHitLru => no_hit_lru(candidates),
        Scorer::ContextLength { label } => each(&|candidate| {
            let length = pass.request.demand.prompt_tokens;
            pass.label(candidate, label).map_or(0.5, |text| context_length(text, length))
        }),
        Scorer::Latency(weights) => latency(weights, pass, candidates),
        Scorer::Attribute { attribute, higher_is_better, range } => {
            let known: Vec<Option<f64>> = candidates.iter().map(|one| pass.attribute(one, *attribute)).collect();
            attribute_scores(&known, *higher_is_better, *range)
        }
        Scorer::Session => each(&|candidate| if pass.request.session == Some(candidate.id) { 1.0 } else { 0.0 }),
    }
}

/// Where each value lies between the least (0) and the most (1), or turned round; 1 for all when they are equal.
fn between(values: &[f64], higher_is_better: bool) -> Vec<f64> {
    let (least, most) = extent(values.iter().copied());
    let span = most - least;
    let score = |value: f64| match (span > 0.0, higher_is_better) {
        (false, _) => 1.0,
        (true, true) => (value - least) / span,
        (true, false) => (most - value) / span,
    };
    values.iter().map(|&value| score(value)).collect()
}

fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)))
}

/// Unknown values score 0.
fn attribute_scores(known: &[Option<f64>], higher_is_better: bool, range: Option<(f64, f64)>) -> Vec<f64> {
    let Some((least, most)) = range else {
        let scores = between(&known.iter().copied().flatten().collect::<Vec<f64>>(), higher_is_better);
        let mut scores = scores.into_iter();
        return known.iter().map(|value| value.and_then(|_| scores.next()).unwrap_or(0.0)).collect();
    };
    let score = |value: f64| {
        let place = (value.clamp(least, most) - least) / (most - least);
        if higher_is_better { place } else { 1.0 - place }
    };
    known.iter().map(|value| value.map_or(0.0, score)).collect()
}

/// Loaded: 1; there is room: 0.8; it waits for a place: 0.6; otherwise 0. Engines that say nothing have room.
fn adapter(pass: &Pass<'_>, candidate: &Candidate) -> f64 {
    let (Some(adapters), Some(model)) = (pass.adapters(candidate), pass.request.model) else { return 0.8 };
    if adapters.running.contains(&model) {
        1.0
    } else if adapters.most.is_none_or(|most| adapters.in_use < most) {
        0.8
    } else if adapters.waiting.contains(&model) {
        0.6
    } else {
        0.0
    }
}

/// Somebody holds something of it: no opinion. Otherwise by how long ago the last such request went there, longest first.
fn no_hit_lru(candidates: &[Candidate]) -> Vec<f64> {
    if candidates.iter().any(|candidate| candidate.matched_tokens() > 0.0) {
        return vec![0.5; candidates.len()];
    }
    let last = u32::try_from(candidates.len().saturating_sub(1)).unwrap_or(u32::MAX);
    let older =
        |turn: u64| candidates.iter().filter(|other| other.cold_turn.is_none_or(|theirs| theirs < turn)).count();
    let place =
        |candidate: &Candidate| candidate.cold_turn.map_or(0, |turn| u32::try_from(older(turn)).unwrap_or(last));
    candidates.iter().map(|one| 1.0 - f64::from(place(one)) / f64::from(last.max(1))).collect()
}

/// The best of the ranges: narrow ones and those with room above score higher; outside by distance, tokens.
fn context_length(text: &str, length: f64) -> f64 {
    let score = |(least, most): (f64, f64)| {
        let width = most - least;
        if (least..=most).contains(&length) {
            let room = if width > 0.0 { (most - length) / width } else { 0.0 };
            0.3 + 0.7 * (0.7 / (1.0 + width / 10_000.0) + 0.3 * room)
        } else {
            let distance = if length < least { least - length } else { length - most };
            0.3 / (1.0 + distance / 1000.0)
        }
    };
    ranges(text).map(score).max_by(f64::total_cmp).unwrap_or(0.5)
}

/// Those that meet both service levels come first, by how much room they have; then idle ones, then by what is missed:
/// time per token, time to the first, both; within each by how far.
fn latency(weights: &LatencyScore, pass: &Pass<'_>, candidates: &[Candidate]) -> Vec<f64> {
    let headroom: Vec<(f64, f64)> = candidates.iter().map(|candidate| pass.headroom(candidate)).collect();
    let room = |(ttft, tpot): (f64, f64)| {
        let whole = weights.ttft_weight + weights.tpot_weight;
        let demand = &pass.request.demand;
        (weights.ttft_weight * ttft / demand.slo_ttft + weights.tpot_weight * tpot / demand.slo_tpot) / whole
    };
    let meets = |(ttft, tpot): (f64, f64)| ttft >= 0.0 && tpot >= 0.0;
    let (least, most) = extent(headroom.iter().copied().filter(|&both| meets(both)).map(room));
    let place = |value: f64| if most > least { (value - least) / (most - least) } else { 1.0 };
    let score = |(candidate, both): (&Candidate, (f64, f64))| {
        if meets(both) {
            return 0.5 + 0.5 * if weights.most { place(room(both)) } else { 1.0 - place(room(both)) };
        }
        let best = match both {
            _ if candidate.supply.work.is_idle() => 0.48,
            (ttft, _) if ttft >= 0.0 => 0.36,
            (_, tpot) if tpot >= 0.0 => 0.24,
            _ => 0.12,
        };
        // A miss by the whole service level takes half of the step to the next kind of miss.
        best - 0.12 * (1.0 - 1.0 / (1.0 - room((both.0.min(0.0), both.1.min(0.0)))))
    };
    candidates.iter().zip(headroom).map(score).collect()
}
