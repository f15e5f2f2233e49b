//! llm-d's flow control and admission as gateways get them. Without the feature gate only sheddable requests are refused, while
//! the detector finds the pool full; with it requests wait in bands, strictly in order: nobody overtakes who is blocked.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::wire;
use shared::wire::admission::Shed;
use shared::wire::flow_control::Hold;

use super::flow_control::{Band, FlowControl};
use super::flow_policies::{ConcurrencyMode, Detector, Fairness, HoldbackDomain, Ordering, UsageLimit};
use super::{Admitter, Loaded};

/// Gateways take no more bands.
const MOST_BANDS: usize = 64;
/// Gateways take this for no end.
const FOR_EVER: Duration = Duration::from_secs(86_400);

impl FlowControl {
    /// For gateways, with the bands of `priorities`; `None`: the feature gate is off.
    #[must_use]
    pub fn wire(&self, priorities: &BTreeSet<i32>) -> Option<wire::FlowControl> {
        self.enabled.then(|| wire::FlowControl {
            bands: self.bands_for(priorities),
            max_requests: saturating(self.max_requests.unwrap_or_default()),
            max_bytes: self.max_bytes.unwrap_or_default(),
            skip: 0,
            no_endpoint_ttl_seconds: self.no_endpoint_ttl.unwrap_or(FOR_EVER).as_secs_f64(),
            soft_ceilings: self.usage_limit == UsageLimit::SoftReflective,
            hold: Some(match self.detector.wire() {
                Shed::Utilization(utilization) => Hold::Utilization(utilization),
                Shed::Concurrency(concurrency) => Hold::Concurrency(concurrency),
            }),
            ..wire::FlowControl::default()
        })
    }

    /// Those that are configured and one for each other of `priorities`, highest first. When there are too many, those of
    /// the lowest other priorities are left out: their requests are in the next lower band, or the last.
    #[must_use]
    pub fn bands_for(&self, priorities: &BTreeSet<i32>) -> Vec<wire::Band> {
        let given =
            |priority: i32| self.bands.iter().find(|(own, _)| *own == i64::from(priority)).map(|(_, band)| band);
        let configured = self.bands.iter().filter_map(|(priority, _)| i32::try_from(*priority).ok());
        let others = priorities.iter().rev().copied().filter(|&priority| given(priority).is_none());
        let chosen: BTreeSet<i32> = configured.chain(others).take(MOST_BANDS).collect();
        let ranked: Vec<i32> = chosen.into_iter().rev().collect();
        let ceilings = self.usage_limit.ceilings(&ranked);
        let default = |priority: i32| if priority < 0 { &self.default_negative_band } else { &self.default_band };
        let band = |(priority, limit): (i32, f64)| {
            given(priority).unwrap_or(default(priority)).wire(priority, limit, self.request_ttl)
        };
        ranked.iter().copied().zip(ceilings).map(band).collect()
    }
}

impl Band {
    fn wire(&self, priority: i32, limit: f64, ttl: Option<Duration>) -> wire::Band {
        let order = match self.ordering {
            Ordering::FirstCome => wire::Order::FirstCome,
            Ordering::EarliestDeadline => wire::Order::EarliestExpiry,
            Ordering::SloDeadline => wire::Order::EarliestDeadline,
        };
        let mut least_service = None;
        let fairness = match self.fairness {
            Fairness::GlobalStrict => wire::Fairness::Unfair,
            Fairness::RoundRobin => wire::Fairness::RoundRobin,
            Fairness::LeastAttainedService { service_weight, head_wait_weight, half_life, .. } => {
                let half_life_seconds = half_life.as_secs_f64();
                let wait_weight = head_wait_weight;
                least_service = Some(wire::LeastService { half_life_seconds, service_weight, wait_weight });
                wire::Fairness::LeastService
            }
        };
        wire::Band {
            priority,
            limit,
            ttl_seconds: ttl.unwrap_or(FOR_EVER).as_secs_f64(),
            max_requests: saturating(self.max_requests),
            max_bytes: self.max_bytes,
            order: order.into(),
            fairness: fairness.into(),
            least_service,
            ..wire::Band::default()
        }
    }
}

impl UsageLimit {
    /// Of each band; `priorities` from the highest down.
    fn ceilings(self, priorities: &[i32]) -> Vec<f64> {
        let (highest, lowest) = (priorities.first().copied().unwrap_or(0), priorities.last().copied().unwrap_or(0));
        let last = f64::from(u32::try_from(priorities.len().saturating_sub(1)).unwrap_or(u32::MAX));
        let ranked = (0_u32..).zip(priorities);
        match self {
            Self::Static { threshold } => vec![threshold; priorities.len()],
            // Gateways know how full the pool is.
            Self::SoftReflective => vec![1.0; priorities.len()],
            Self::Holdback { most, .. } if priorities.len() < 2 => vec![most; priorities.len()],
            Self::Holdback { domain: HoldbackDomain::Rank, least, most } => {
                ranked.map(|(rank, _)| most - f64::from(rank) * (most - least) / last).collect()
            }
            Self::Holdback { domain: HoldbackDomain::Value, least, most } => {
                let range = f64::from(highest) - f64::from(lowest);
                let share = |priority: i32| (f64::from(priority) - f64::from(lowest)) / range;
                priorities.iter().map(|&priority| least + share(priority) * (most - least)).collect()
            }
        }
    }
}

impl Detector {
    fn wire(self) -> Shed {
        match self {
            Self::Utilization { queue_depth, kv_used, stale_after, .. } => Shed::Utilization(wire::Utilization {
                queue_depth: f64::from(queue_depth),
                kv_share: kv_used,
                stale_after_ms: saturating(u64::try_from(stale_after.as_millis()).unwrap_or(u64::MAX)).max(1),
            }),
            Self::Concurrency { mode, requests, tokens, .. } => {
                let (requests, tokens) = (super::flow_policies::whole(requests), super::flow_policies::whole(tokens));
                Shed::Concurrency(match mode {
                    ConcurrencyMode::Requests => wire::Concurrency { requests, tokens: 0.0 },
                    ConcurrencyMode::Tokens => wire::Concurrency { requests: 0.0, tokens },
                    ConcurrencyMode::Hybrid => wire::Concurrency { requests, tokens },
                })
            }
        }
    }
}

impl Loaded {
    /// Who is refused at the door. `held`: the pool has a flow control, llm-d's or its own, and nobody is shed before it.
    #[must_use]
    pub fn admission(&self, held: bool) -> Option<wire::Admission> {
        let mut admission = wire::Admission::default();
        if !held {
            admission.shed = Some(self.flow_control.detector.wire());
        }
        for admitter in &self.admitters {
            match *admitter {
                Admitter::LatencySlo => admission.within_slo = true,
                Admitter::Probabilistic { queue_depth, kv_used, power, k } => {
                    let queue_depth = f64::from(queue_depth);
                    let saturation = wire::Utilization { queue_depth, kv_share: kv_used, stale_after_ms: 0 };
                    admission.chance = Some(wire::Chance { saturation: Some(saturation), power, k });
                }
            }
        }
        (admission != wire::Admission::default()).then_some(admission)
    }
}

fn saturating(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: &[f64], expected: &[f64]) -> bool {
        got.len() == expected.len() && got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-9)
    }

    #[test]
    fn ceilings_are_llm_ds() {
        let by = |domain| UsageLimit::Holdback { domain, least: 0.4, most: 0.9 };
        let fixed = UsageLimit::Static { threshold: 0.7 };
        for (policy, priorities, expected) in [
            (fixed, &[10, 0, -10][..], &[0.7, 0.7, 0.7][..]),
            (UsageLimit::SoftReflective, &[10, 0], &[1.0, 1.0]),
            (by(HoldbackDomain::Rank), &[10, 1, 0], &[0.9, 0.65, 0.4]),
            (by(HoldbackDomain::Value), &[10, 1, 0], &[0.9, 0.45, 0.4]),
            (by(HoldbackDomain::Value), &[i32::MAX, 0, i32::MIN], &[0.9, 0.65, 0.4]),
            (by(HoldbackDomain::Rank), &[7], &[0.9]),
            (by(HoldbackDomain::Value), &[7], &[0.9]),
            (by(HoldbackDomain::Rank), &[], &[]),
        ] {
            let got = policy.ceilings(priorities);
            assert!(near(&got, expected), "{policy:?} {priorities:?}: {got:?}");
        }
    }
}
