//! Checks flow control off the wire.

use core::time::Duration;

use super::{Malformed, field, not_negative, positive};
use crate::table::flow::{Band, Fairness, FlowControl, Hold, Limits, Order};
use crate::wire;
use crate::wire::flow_control::Hold as WireHold;

/// Bands of a pool; every pump looks at each.
const MOST_BANDS: usize = 64;
/// Longest time that a request may wait, seconds.
const LONGEST_TTL: f64 = 86_400.0;

pub(super) fn flow(raw: wire::FlowControl) -> Result<FlowControl, Malformed> {
    if !(1..=MOST_BANDS).contains(&raw.bands.len()) || !raw.bands.is_sorted_by(|a, b| a.priority > b.priority) {
        return Err(field("flow.bands", "must be 1 to 64, by descending priority"));
    }
    let hold = match raw.hold {
        Some(WireHold::Prediction(prediction)) => Hold::Prediction {
            token_budget: positive(prediction.token_budget, "flow.prediction.token_budget")?,
            tpot: !prediction.ignore_tpot,
        },
        Some(WireHold::Utilization(utilization)) => Hold::Utilization {
            queue_depth: positive(utilization.queue_depth, "flow.utilization.queue_depth")?,
            kv_share: positive(utilization.kv_share, "flow.utilization.kv_share")?,
        },
        Some(WireHold::Concurrency(concurrency)) => Hold::Concurrency {
            requests: some_positive(concurrency.requests, "flow.concurrency.requests")?,
            tokens: some_positive(concurrency.tokens, "flow.concurrency.tokens")?,
        },
        None => return Err(field("flow.hold", "is not a known kind")),
    };
    Ok(FlowControl {
        bands: raw.bands.into_iter().map(band).collect::<Result<_, _>>()?,
        limits: limits(raw.max_requests, raw.max_bytes),
        hold,
        skip: usize::try_from(raw.skip.min(1024)).unwrap_or(0),
    })
}

fn band(raw: wire::Band) -> Result<Band, Malformed> {
    let order = match wire::Order::try_from(raw.order) {
        Ok(wire::Order::FirstCome) => Order::FirstCome,
        Ok(wire::Order::EarliestExpiry) => Order::EarliestExpiry,
        Ok(wire::Order::EarliestDeadline) => Order::EarliestDeadline,
        Err(_) => return Err(field("flow.bands.order", "is not a known order")),
    };
    let fairness = match wire::Fairness::try_from(raw.fairness) {
        Ok(wire::Fairness::PodSeconds) => Fairness::PodSeconds,
        Ok(wire::Fairness::Unfair) => Fairness::None,
        Ok(wire::Fairness::RoundRobin) => Fairness::RoundRobin,
        Ok(wire::Fairness::LeastService) => Fairness::LeastService,
        Err(_) => return Err(field("flow.bands.fairness", "is not a known fairness")),
    };
    let share =
        |value: f64, name| if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(field(name, "must be 0..=1")) };
    let ttl = positive(raw.ttl_seconds, "flow.bands.ttl_seconds")?.min(LONGEST_TTL);
    Ok(Band {
        priority: raw.priority,
        limit: share(raw.limit, "flow.bands.limit")?,
        min_share: share(raw.min_share, "flow.bands.min_share")?,
        ttl: Duration::from_secs_f64(ttl),
        deadline: raw.deadline,
        limits: limits(raw.max_requests, raw.max_bytes),
        order,
        fairness,
    })
}

fn limits(requests: u32, bytes: u64) -> Limits {
    let requests = usize::try_from(requests).unwrap_or(usize::MAX);
    Limits { requests: Some(requests).filter(|&most| most > 0), bytes: Some(bytes).filter(|&most| most > 0) }
}

fn some_positive(value: f64, name: &'static str) -> Result<Option<f64>, Malformed> {
    Ok(Some(not_negative(value, name)?).filter(|&value| value > 0.0))
}
