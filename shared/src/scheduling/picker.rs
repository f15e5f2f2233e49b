//! From costs to an ordered list: the first is drawn among those within the band of the best, the others follow by cost.

use crate::draw::Draw;

use super::candidate::Candidate;

/// Indices into `candidates`, best first, at most `choices`. `preferred` (a session's endpoint) comes first when given.
#[must_use]
pub fn pick(
    candidates: &[Candidate],
    band: f64,
    choices: usize,
    preferred: Option<usize>,
    draw: &mut Draw,
) -> Vec<usize> {
    let mut order = cheapest(candidates, choices + 1);
    let first = preferred.or_else(|| drawn(candidates, band, draw));
    if let Some(first) = first {
        order.retain(|&index| index != first);
        order.insert(0, first);
    }
    order.truncate(choices);
    order
}

/// The `count` cheapest, in order; equal costs keep table order. `count` is small: an insertion list beats sorting all.
fn cheapest(candidates: &[Candidate], count: usize) -> Vec<usize> {
    let cost = |index: usize| candidates.get(index).map_or(f64::INFINITY, |candidate| candidate.cost);
    let mut best: Vec<usize> = Vec::with_capacity(count + 1);
    for index in 0..candidates.len() {
        if best.len() == count && best.last().is_some_and(|&last| cost(index).total_cmp(&cost(last)).is_ge()) {
            continue;
        }
        let place = best.partition_point(|&other| cost(other).total_cmp(&cost(index)).is_le());
        best.insert(place, index);
        best.truncate(count);
    }
    best
}

/// One of those whose cost is within `band` of the least.
fn drawn(candidates: &[Candidate], band: f64, draw: &mut Draw) -> Option<usize> {
    let least = candidates.iter().map(|candidate| candidate.cost).min_by(f64::total_cmp)?;
    let near = || candidates.iter().enumerate().filter(|(_, candidate)| candidate.cost <= least + band);
    let nth = draw.below(u32::try_from(near().count()).unwrap_or(u32::MAX));
    near().nth(usize::try_from(nth).unwrap_or(0)).map(|(index, _)| index)
}
