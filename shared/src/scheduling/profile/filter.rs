//! What each filter keeps. A filter with a fallback, and those that only prefer, keep everybody when nobody passes.

use super::{Pass, figure, ranges};
use crate::draw::Draw;
use crate::scheduling::candidate::Candidate;
use crate::table::profile::{AttributeLimit, Comparison, Filter, LabelRequirement, MetricLimit, PrefixAffinity};

/// By candidate: does it stay?
pub(super) fn keep(filter: &Filter, pass: &Pass<'_>, candidates: &[Candidate], draw: &mut Draw) -> Vec<bool> {
    let each = |passes: &dyn Fn(&Candidate) -> bool| candidates.iter().map(passes).collect::<Vec<bool>>();
    match filter {
        Filter::Labels(requirements) => {
            each(&|candidate| requirements.iter().all(|requirement| meets(requirement, pass, candidate)))
        }
        Filter::Limits { limits, fallback } => {
            let within = |limit: &MetricLimit, candidate: &Candidate| figure(limit.metric, candidate) <= limit.most;
            let kept = each(&|candidate| limits.iter().all(|limit| within(limit, candidate)));
            or_all(kept, *fallback)
        }
        Filter::Attribute(limit) => {
            let known = |candidate: &Candidate| pass.attribute(candidate, limit.attribute);
            let kept = each(&|candidate| known(candidate).map_or(!limit.drop_unknown, |value| holds(limit, value)));
            or_all(kept, limit.fallback)
        }
        Filter::PrefixAffinity(affinity) => holders(affinity, pass, candidates, draw),
        Filter::HeadroomTier { exploration } => {
            let meets = each(&|candidate| {
                let (ttft, tpot) = pass.headroom(candidate);
                ttft >= 0.0 && tpot >= 0.0
            });
            let others = draw.unit() < *exploration;
            or_all(meets.into_iter().map(|met| met != others).collect(), true)
        }
        Filter::ContextLength { label } => {
            let length = pass.request.demand.prompt_tokens;
            let holds = |text: &str| ranges(text).any(|(least, most)| (least..=most).contains(&length));
            or_all(each(&|candidate| pass.label(candidate, label).is_none_or(holds)), true)
        }
    }
}

fn or_all(kept: Vec<bool>, fallback: bool) -> Vec<bool> {
    if fallback && !kept.contains(&true) { vec![true; kept.len()] } else { kept }
}

fn meets(requirement: &LabelRequirement, pass: &Pass<'_>, candidate: &Candidate) -> bool {
    let LabelRequirement { label, values, or_missing, negated, exists } = requirement;
    let met = match pass.label(candidate, label) {
        None => *or_missing,
        Some(value) => *exists || values.iter().any(|allowed| allowed == value),
    };
    met != *negated
}

#[expect(clippy::float_cmp, reason = "the configuration asks for equality of what an engine tells")]
fn holds(limit: &AttributeLimit, value: f64) -> bool {
    match limit.comparison {
        Comparison::Less => value < limit.value,
        Comparison::LessOrEqual => value <= limit.value,
        Comparison::Greater => value > limit.value,
        Comparison::GreaterOrEqual => value >= limit.value,
        Comparison::Equal => value == limit.value,
        Comparison::NotEqual => value != limit.value,
    }
}

/// Those that hold most of the prompt; all, where nobody does, to explore, or when the holders are too busy.
fn holders(affinity: &PrefixAffinity, pass: &Pass<'_>, candidates: &[Candidate], draw: &mut Draw) -> Vec<bool> {
    let sticky: Vec<bool> =
        candidates.iter().map(|one| one.matched_share(pass.request) >= affinity.threshold).collect();
    let all = vec![true; candidates.len()];
    if draw.unit() < affinity.exploration || !sticky.contains(&true) {
        return all;
    }
    let seconds = |candidate: &Candidate| {
        if affinity.prefill_rate > 0.0 {
            super::super::to_f64(candidate.supply.work.queued_tokens) / affinity.prefill_rate
        } else {
            candidate.latency.ttft
        }
    };
    let best = |of: bool| {
        let theirs = candidates.iter().zip(&sticky).filter(|&(_, &is)| is == of);
        theirs.map(|(candidate, _)| seconds(candidate)).min_by(f64::total_cmp)
    };
    let penalty = best(true).zip(best(false)).map_or(0.0, |(holder, other)| holder - other);
    if affinity.most_penalty > 0.0 && penalty > affinity.most_penalty { all } else { sticky }
}
