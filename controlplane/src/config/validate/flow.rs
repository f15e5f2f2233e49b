//! Flow control: raw → as gateways get it. Defaults: the flow study, section 8.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shared::wire;
use shared::wire::flow_control::Hold;

use super::{Checks, HOUR, MILLISECOND};
use crate::config::human::{HumanDuration, HumanSize};
use crate::config::raw::flow as raw;

/// By rank of the band; the last figure holds for all further ones.
const LIMITS: [f64; 3] = [1.0, 0.9, 0.8];
const MIN_SHARES: [f64; 3] = [0.0, 0.2, 0.05];
/// Share of a service level that is planned with.
const PLANNED: f64 = 0.9;
/// Time to the first token that batch work is content with.
const BATCH_TTFT: Duration = Duration::from_secs(60);
const MOST_REQUESTS: u32 = 1_000_000;
const MOST_BANDS: usize = 64;

/// Priorities that requests may name.
pub(super) fn objectives(raw: &BTreeMap<String, i32>) -> Vec<wire::Objective> {
    raw.iter().map(|(name, &priority)| wire::Objective { name: name.clone(), priority }).collect()
}

pub(super) fn flow(
    checks: &mut Checks,
    path: &str,
    raw: &raw::FlowControl,
    objectives: &BTreeMap<String, i32>,
    ttft: Duration,
) -> wire::FlowControl {
    let HumanSize(max_bytes) = raw.max_bytes.unwrap_or(HumanSize(256 << 20));
    let bands = match &raw.bands {
        Some(bands) => given(checks, &format!("{path}.bands"), bands, ttft),
        None => implied(&objectives.values().copied().chain([0]).collect(), ttft),
    };
    let no_endpoint_ttl = raw
        .no_endpoint_ttl
        .map(|ttl| checks.duration(&format!("{path}.noEndpointTtl"), Some(ttl), HOUR, (MILLISECOND, HOUR)));
    wire::FlowControl {
        bands,
        max_requests: checks.number(&format!("{path}.maxRequests"), raw.max_requests, 5000, (1, MOST_REQUESTS)),
        max_bytes,
        skip: checks.number(&format!("{path}.skip"), raw.skip, 8, (0, 64)),
        no_endpoint_ttl_seconds: no_endpoint_ttl.map_or(0.0, |ttl| ttl.as_secs_f64()),
        hold: Some(hold(checks, &format!("{path}.hold"), &raw.hold)),
        sessions: raw.sessions.as_ref().map(|given| sessions(checks, &format!("{path}.sessions"), given)),
        ..wire::FlowControl::default()
    }
}

fn sessions(checks: &mut Checks, path: &str, raw: &raw::Sessions) -> wire::Sessions {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if raw.header.is_empty() || !raw.header.chars().all(legal) {
        checks.refuse(&format!("{path}.header"), "must be a header name", format!("{:?}", raw.header));
    }
    let capacity_share = raw.capacity_share.unwrap_or(0.8);
    if !(0.01..=2.0).contains(&capacity_share) {
        checks.refuse(&format!("{path}.capacityShare"), "must be between 0.01 and 2", capacity_share);
    }
    let half_a_minute = Duration::from_secs(30);
    let mut seconds = |name: &str, value| {
        checks.duration(&format!("{path}.{name}"), value, half_a_minute, (MILLISECOND, HOUR)).as_secs_f64()
    };
    let (ttl_seconds, idle_seconds) = (seconds("ttl", raw.ttl), seconds("idle", raw.idle));
    wire::Sessions { header: raw.header.to_ascii_lowercase(), capacity_share, ttl_seconds, idle_seconds }
}

fn hold(checks: &mut Checks, path: &str, raw: &raw::Hold) -> Hold {
    match (&raw.prediction, &raw.utilization, &raw.concurrency) {
        (prediction, None, None) => {
            let prediction = prediction.as_ref();
            let budget = prediction.and_then(|given| given.token_budget);
            let budget = checks.number(&format!("{path}.prediction.tokenBudget"), budget, 8192, (1, 1_000_000));
            let ignore_tpot = prediction.is_some_and(|given| !given.tpot);
            Hold::Prediction(wire::Prediction { token_budget: f64::from(budget), ignore_tpot })
        }
        (None, Some(given), None) => {
            let mut above_zero = |name: &str, value: Option<f64>, default: f64| {
                let value = value.unwrap_or(default);
                if value.is_nan() || value <= 0.0 {
                    checks.refuse(&format!("{path}.utilization.{name}"), "must be above 0", value);
                }
                value
            };
            let queue_depth = above_zero("queueDepth", given.queue_depth, 5.0);
            Hold::Utilization(wire::Utilization {
                queue_depth,
                kv_share: above_zero("kvShare", given.kv_share, 0.8),
                stale_after_ms: 0,
            })
        }
        (None, None, Some(given)) => {
            let requests = given.requests.or_else(|| given.tokens.is_none().then_some(100));
            if requests == Some(0) || given.tokens == Some(0) {
                checks.refuse(&format!("{path}.concurrency"), "must be above 0", 0);
            }
            let figure = |limit: Option<u32>| limit.map_or(0.0, f64::from);
            Hold::Concurrency(wire::Concurrency { requests: figure(requests), tokens: figure(given.tokens) })
        }
        _ => {
            checks.refuse(path, "must have one of prediction, utilization and concurrency", "several");
            Hold::Prediction(wire::Prediction { token_budget: 8192.0, ignore_tpot: false })
        }
    }
}

/// A band for each priority that a request can have.
pub(in crate::config) fn implied(priorities: &BTreeSet<i32>, ttft: Duration) -> Vec<wire::Band> {
    let ranked = priorities.iter().rev().take(MOST_BANDS).enumerate();
    ranked.map(|(rank, &priority)| usual(priority, rank, ttft)).collect()
}

fn usual(priority: i32, rank: usize, ttft: Duration) -> wire::Band {
    let by_rank = |figures: &[f64; 3]| figures.get(rank).or(figures.last()).copied().unwrap_or(1.0);
    let ttl = if priority < 0 { BATCH_TTFT } else { ttft }.mul_f64(PLANNED);
    wire::Band {
        priority,
        limit: by_rank(&LIMITS),
        min_share: by_rank(&MIN_SHARES),
        ttl_seconds: ttl.as_secs_f64(),
        deadline: priority >= 0,
        ..wire::Band::default()
    }
}

fn given(checks: &mut Checks, path: &str, bands: &[raw::Band], ttft: Duration) -> Vec<wire::Band> {
    if bands.is_empty() || bands.len() > MOST_BANDS {
        checks.refuse(path, "must hold 1 to 64 bands", bands.len());
    }
    let mut sorted: Vec<(usize, &raw::Band)> = bands.iter().enumerate().collect();
    sorted.sort_by_key(|(_, band)| std::cmp::Reverse(band.priority));
    for pair in sorted.windows(2) {
        if let [(_, first), (place, second)] = pair
            && first.priority == second.priority
        {
            checks.refuse(&format!("{path}[{place}].priority"), "must differ from the other bands'", second.priority);
        }
    }
    let ranked = sorted.into_iter().enumerate();
    ranked.map(|(rank, (place, band))| band_of(checks, &format!("{path}[{place}]"), band, (rank, ttft))).collect()
}

fn band_of(checks: &mut Checks, path: &str, raw: &raw::Band, (rank, ttft): (usize, Duration)) -> wire::Band {
    let usual = usual(raw.priority, rank, ttft);
    let mut within = |name: &str, value: Option<f64>, default: f64, range: (f64, f64)| {
        let value = value.unwrap_or(default);
        if !(range.0..=range.1).contains(&value) {
            checks.refuse(&format!("{path}.{name}"), format!("must be between {} and {}", range.0, range.1), value);
        }
        value
    };
    let limit = within("limit", raw.limit, usual.limit, (0.01, 1.0));
    let min_share = within("minShare", raw.min_share, usual.min_share, (0.0, 0.9));
    let default = Duration::try_from_secs_f64(usual.ttl_seconds).unwrap_or(HOUR);
    let ttl: Option<HumanDuration> = raw.ttl;
    let ttl = checks.duration(&format!("{path}.ttl"), ttl, default, (MILLISECOND, HOUR));
    let max_requests = raw
        .max_requests
        .map_or(0, |_| checks.number(&format!("{path}.maxRequests"), raw.max_requests, 1, (1, MOST_REQUESTS)));
    let order = match raw.order {
        raw::Order::FirstCome => wire::Order::FirstCome,
        raw::Order::EarliestExpiry => wire::Order::EarliestExpiry,
        raw::Order::EarliestDeadline => wire::Order::EarliestDeadline,
    };
    let fairness = match raw.fairness {
        raw::Fairness::PodSeconds => wire::Fairness::PodSeconds,
        raw::Fairness::None => wire::Fairness::Unfair,
        raw::Fairness::RoundRobin => wire::Fairness::RoundRobin,
        raw::Fairness::LeastService => wire::Fairness::LeastService,
    };
    wire::Band {
        priority: raw.priority,
        limit,
        min_share,
        ttl_seconds: ttl.as_secs_f64(),
        deadline: raw.deadline.unwrap_or(usual.deadline),
        max_requests,
        max_bytes: raw.max_bytes.map_or(0, |HumanSize(bytes)| bytes),
        order: order.into(),
        fairness: fairness.into(),
        least_service: None,
    }
}
