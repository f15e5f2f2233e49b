//! Policies of flow control: who is served next, how full the pool may be for whom, and what counts as full.

use std::time::Duration;

use shared::wire::Metric;

use super::fields::Fields;
use super::filters::below;
use super::plugin::{Data, FilterPart, Made, Parameters, Part};
use super::report::Fate;

/// Which flow of a band is served next.
#[derive(Clone, Debug, PartialEq)]
pub enum Fairness {
    /// Whose head comes first by the ordering, flows ignored.
    GlobalStrict,
    /// In turns.
    RoundRobin,
    /// Who was served least: `service_weight * service + head_wait_weight * wait of the head`.
    LeastAttainedService {
        /// 0 or more.
        service_weight: f64,
        /// 0 or more.
        head_wait_weight: f64,
        /// After which service counts half; zero: never.
        half_life: Duration,
        /// A flow that was silent for so long is forgotten; zero: never.
        forget_after: Duration,
    },
}

/// Which request of a flow is served next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    /// The one that came first.
    #[default]
    FirstCome,
    /// Whose time in the queue ends first.
    EarliestDeadline,
    /// Whose time to first token ends first, by its header; those without one last.
    SloDeadline,
}

/// How full the pool may be for a band to be served.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UsageLimit {
    /// The same for all bands.
    Static {
        /// Share of saturation.
        threshold: f64,
    },
    /// Less for lower bands.
    Holdback {
        /// By what bands are spaced.
        domain: HoldbackDomain,
        /// Of the lowest band, 0..1.
        least: f64,
        /// Of the highest, up to 1, above `least`.
        most: f64,
    },
    /// Less for lower bands the fuller the pool is.
    SoftReflective,
}

/// By what bands are spaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HoldbackDomain {
    /// Their order.
    #[default]
    Rank,
    /// Their priorities.
    Value,
}

/// What counts as a full pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Detector {
    /// The mean over endpoints of the larger of queue and KV cache, each against its threshold.
    Utilization {
        /// Waiting requests, at least 1.
        queue_depth: u32,
        /// 0..=1, above 0.
        kv_used: f64,
        /// An endpoint with older metrics counts as full, unless nothing is in flight there.
        stale_after: Duration,
        /// What a filter lets pass beyond the thresholds, as a share of them.
        headroom: f64,
    },
    /// Booked work against a limit per endpoint.
    Concurrency {
        /// What is counted.
        mode: ConcurrencyMode,
        /// At least 1.
        requests: u64,
        /// At least 1.
        tokens: u64,
        /// What a filter lets pass beyond the limits, as a share of them.
        headroom: f64,
    },
}

/// What counts as work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConcurrencyMode {
    /// Requests.
    #[default]
    Requests,
    /// Tokens.
    Tokens,
    /// Whichever is nearer to its limit.
    Hybrid,
}

impl Detector {
    /// llm-d's default.
    pub(super) const USUAL: Self =
        Self::Utilization { queue_depth: 5, kv_used: 0.8, stale_after: Duration::from_millis(200), headroom: 0.0 };

    /// As a filter: below the limits. Nobody left keeps all for utilization, and nobody for concurrency, as in llm-d.
    fn filter(self) -> FilterPart {
        FilterPart::Ready(match self {
            Self::Utilization { queue_depth, kv_used, headroom, .. } => {
                let room = 1.0 + headroom;
                let limits =
                    [(Metric::WaitingRequests, f64::from(queue_depth) * room), (Metric::KvUsed, kv_used * room)];
                below(&limits, true)
            }
            Self::Concurrency { mode, requests, tokens, headroom } => {
                let limit = |limit: u64| (whole(limit) * (1.0 + headroom)).floor();
                let requests = (Metric::InFlightRequests, limit(requests));
                let tokens = (Metric::InFlightTokens, limit(tokens));
                let limits = match mode {
                    ConcurrencyMode::Requests => vec![requests],
                    ConcurrencyMode::Tokens => vec![tokens],
                    ConcurrencyMode::Hybrid => vec![requests, tokens],
                };
                below(&limits, false)
            }
        })
    }
}

/// Exact up to 2^53, far beyond what any endpoint has in flight.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(super) const fn whole(count: u64) -> f64 {
    count as f64
}

pub(super) fn make(kind: &str, with: &mut Parameters<'_>) -> Option<Made> {
    let fairness = |policy| Made::new(Part::Fairness(policy), Fate::Executed);
    let ordering = |policy| Made::new(Part::Ordering(policy), Fate::Executed);
    let limit = |policy| Made::new(Part::UsageLimit(policy), Fate::Executed);
    match kind {
        "global-strict-fairness-policy" => fairness(Fairness::GlobalStrict),
        "round-robin-fairness-policy" => fairness(Fairness::RoundRobin),
        "program-aware-fairness" => Made::new(
            Part::Fairness(least_attained(&mut with.fields)),
            Fate::replaced(
                "the same policy, with service in pod-seconds, charged when a request is sent and corrected at its end",
            ),
        ),
        "fcfs-ordering-policy" => ordering(Ordering::FirstCome),
        "edf-ordering-policy" => ordering(Ordering::EarliestDeadline),
        "slo-deadline-ordering-policy" => ordering(Ordering::SloDeadline),
        "static-usage-limit-policy" => {
            limit(UsageLimit::Static { threshold: with.fields.not_negative("threshold").unwrap_or(1.0) })
        }
        "priority-holdback-policy" => limit(holdback(&mut with.fields)),
        "soft-reflective-ceiling-policy" => limit(UsageLimit::SoftReflective),
        "utilization-detector" => detector(utilization(&mut with.fields)),
        "concurrency-detector" => {
            let made = detector(concurrency(&mut with.fields));
            with.need(Data::InFlightLoad);
            made
        }
        "sheddable-eviction-filter" | "priority-then-time-eviction-order-policy" => {
            Made::new(Part::Eviction, Fate::kept("which request in flight is ended for a higher band"))
        }
        _ => None,
    }
}

fn detector(detector: Detector) -> Option<Made> {
    let parts = vec![Part::Detector(detector), Part::Filter(detector.filter())];
    Some(Made::of(parts, Fate::Executed))
}

fn least_attained(fields: &mut Fields<'_>) -> Fairness {
    let _only = fields.one_of("strategy", &[("las", ())]);
    let mut seconds = |field, default: u64| {
        fields.not_negative(field).map_or(Duration::from_secs(default), |seconds| {
            Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
        })
    };
    let (forget_after, _sweep) = (seconds("evictionTtlSeconds", 3600), seconds("evictionSweepSeconds", 300));
    let half_life = seconds("lasHalfLifeSeconds", 60);
    Fairness::LeastAttainedService {
        service_weight: fields.not_negative("lasWeightService").unwrap_or(0.8),
        head_wait_weight: fields.not_negative("lasWeightHeadWait").unwrap_or(0.2),
        half_life,
        forget_after,
    }
}

fn holdback(fields: &mut Fields<'_>) -> UsageLimit {
    let _shape = fields.one_of("shape", &[("linear", ())]);
    let domains = [("rank", HoldbackDomain::Rank), ("value", HoldbackDomain::Value)];
    let domain = fields.one_of("domain", &domains).unwrap_or_default();
    let least = fields.must("minCeiling", |fields| {
        fields.number("minCeiling", "from 0 to below 1", |share| (0.0..1.0).contains(&share))
    });
    let most = fields.number("maxCeiling", "above 0, up to 1", |share| share > 0.0 && share <= 1.0).unwrap_or(1.0);
    let least = least.unwrap_or_default();
    if least >= most {
        fields.refuse("minCeiling", format!("must be below maxCeiling, which is {most}"), least);
    }
    UsageLimit::Holdback { domain, least, most }
}

fn utilization(fields: &mut Fields<'_>) -> Detector {
    let stale_after = fields.duration("metricsStalenessThreshold");
    if stale_after == Some(Duration::ZERO) {
        fields.refuse("metricsStalenessThreshold", "must be longer than 0", "0s");
    }
    Detector::Utilization {
        queue_depth: fields.count("queueDepthThreshold", 1).unwrap_or(5),
        kv_used: fields
            .number("kvCacheUtilThreshold", "above 0, up to 1", |share| share > 0.0 && share <= 1.0)
            .unwrap_or(0.8),
        stale_after: stale_after.unwrap_or(Duration::from_millis(200)),
        headroom: fields.not_negative("headroom").unwrap_or(0.0),
    }
}

fn concurrency(fields: &mut Fields<'_>) -> Detector {
    let modes = [
        ("requests", ConcurrencyMode::Requests),
        ("tokens", ConcurrencyMode::Tokens),
        ("hybrid", ConcurrencyMode::Hybrid),
    ];
    let mode = fields.one_of("concurrencyMode", &modes).unwrap_or_default();
    let mut limit = |field, default| {
        fields.integer(field, 1, i64::MAX).and_then(|limit| u64::try_from(limit).ok()).unwrap_or(default)
    };
    let (requests, tokens) = (limit("maxConcurrency", 100), limit("maxTokenConcurrency", 1_000_000));
    Detector::Concurrency { mode, requests, tokens, headroom: fields.not_negative("headroom").unwrap_or(0.0) }
}
