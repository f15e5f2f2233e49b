//! Sheddable requests that are refused at the door: llm-d's admission without flow control, and its admitters. They answer 429,
//! where llm-d's admitters make it 500.

use super::Trial;
use crate::brain::Brain;
use crate::clock::Timestamp;
use crate::draw::Draw;
use crate::scheduling::Decision;
use crate::scheduling::candidate::Candidate;
use crate::table::flow::{Admission, Chance, Detector};

/// An endpoint with less of its KV cache in use is cold: what is predicted for it is not relied on.
const COLD: f64 = 0.02;

/// What decides whether a request may be refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Of its objective; below 0 is sheddable.
    pub priority: i32,
    /// Does it name a service level?
    pub names_slo: bool,
}

impl Standing {
    pub(super) const fn is_sheddable(self) -> bool {
        self.priority < 0
    }
}

impl Brain {
    /// Is the request refused, whatever endpoint it would get?
    pub(super) fn sheds(&self, trial: &Trial<'_>, now: Timestamp) -> bool {
        let Some(detector) = self.admission(trial).and_then(|admission| admission.shed) else { return false };
        self.saturation(trial.pool, &detector, now).is_some_and(|saturation| saturation >= 1.0)
    }

    /// Is it refused for what was found for it?
    pub(super) fn denies(&self, trial: &Trial<'_>, decision: &Decision, now: Timestamp) -> bool {
        let Some(admission) = self.admission(trial) else { return false };
        admission.chance.is_some_and(|chance| self.drawn(trial, &chance, now))
            || admission.within_slo && trial.standing.names_slo && !Self::anybody_serves(trial, decision)
    }

    fn admission(&self, trial: &Trial<'_>) -> Option<&Admission> {
        if !trial.standing.is_sheddable() {
            return None;
        }
        self.pool(trial.pool)?.settings.admission.as_ref()
    }

    fn drawn(&self, trial: &Trial<'_>, chance: &Chance, now: Timestamp) -> bool {
        let saturation = self.saturation(trial.pool, &Detector::Utilization(chance.saturation), now);
        let probability = probability(chance, saturation.unwrap_or(0.0));
        // Ties are broken with the same seed: this draw is another one.
        Draw::from_seed(trial.request.seed.rotate_left(32)).unit() < probability
    }

    fn anybody_serves(trial: &Trial<'_>, decision: &Decision) -> bool {
        let demand = &trial.request.demand;
        let serves = |candidate: &Candidate| {
            let in_time = candidate.latency.ttft <= demand.slo_ttft && candidate.latency.tpot <= demand.slo_tpot;
            let idle = candidate.scraped.map_or(candidate.supply.work.decoding, |scrape| scrape.running) == 0;
            let cold = candidate.scraped.is_some_and(|scrape| scrape.kv_used < COLD);
            idle || cold || in_time
        };
        decision.candidates.iter().any(serves)
    }
}

/// That a sheddable request is refused.
fn probability(chance: &Chance, saturation: f64) -> f64 {
    (libm::pow(saturation, chance.power) * chance.k).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::flow::Utilization;

    #[test]
    fn the_chance_is_llm_ds() {
        let saturation = Utilization { queue_depth: 5.0, kv_share: 0.8, stale_after: None };
        let chance = Chance { saturation, power: 5.0, k: 300.0 };
        for (saturation, expected) in [(0.0, 0.0), (0.1, 0.003), (0.2, 0.096), (0.3, 0.729), (0.32, 1.0), (2.0, 1.0)] {
            let got = probability(&chance, saturation);
            assert!((got - expected).abs() < 1e-12, "{saturation}: {got}");
        }
    }
}
