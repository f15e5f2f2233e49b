//! Checks flow control off the wire.

use core::time::Duration;

use super::{Malformed, field, not_negative, positive};
use crate::table::flow::{
    Admission, Band, Chance, Detector, Fairness, FlowControl, Hold, LeastService, Limits, Order, SessionCap,
    Utilization,
};
use crate::wire;
use crate::wire::admission::Shed;
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
        Some(WireHold::Utilization(raw)) => Hold::Saturation(Detector::Utilization(utilization(raw)?)),
        Some(WireHold::Concurrency(raw)) => Hold::Saturation(concurrency(raw)?),
        None => return Err(field("flow.hold", "is not a known kind")),
    };
    Ok(FlowControl {
        bands: raw.bands.into_iter().map(band).collect::<Result<_, _>>()?,
        limits: limits(raw.max_requests, raw.max_bytes),
        hold,
        skip: usize::try_from(raw.skip.min(1024)).unwrap_or(0),
        no_endpoint_ttl: some_positive(raw.no_endpoint_ttl_seconds, "flow.no_endpoint_ttl_seconds")?
            .map(|ttl| Duration::from_secs_f64(ttl.min(LONGEST_TTL))),
        soft_ceilings: raw.soft_ceilings,
        sessions: raw.sessions.map(sessions).transpose()?,
    })
}

fn sessions(raw: wire::Sessions) -> Result<SessionCap, Malformed> {
    if raw.header.is_empty() {
        return Err(field("flow.sessions.header", "must not be empty"));
    }
    let seconds = |value, name| positive(value, name).map(|value| Duration::from_secs_f64(value.min(LONGEST_TTL)));
    Ok(SessionCap {
        header: raw.header.to_ascii_lowercase(),
        capacity_share: positive(raw.capacity_share, "flow.sessions.capacity_share")?,
        ttl: seconds(raw.ttl_seconds, "flow.sessions.ttl_seconds")?,
        idle: seconds(raw.idle_seconds, "flow.sessions.idle_seconds")?,
    })
}

pub(super) fn admission(raw: wire::Admission) -> Result<Admission, Malformed> {
    let shed = match raw.shed {
        Some(Shed::Utilization(raw)) => Some(Detector::Utilization(utilization(raw)?)),
        Some(Shed::Concurrency(raw)) => Some(concurrency(raw)?),
        None => None,
    };
    Ok(Admission { shed, chance: raw.chance.map(chance).transpose()?, within_slo: raw.within_slo })
}

fn chance(raw: wire::Chance) -> Result<Chance, Malformed> {
    Ok(Chance {
        saturation: utilization(raw.saturation.unwrap_or_default())?,
        power: positive(raw.power, "admission.chance.power")?,
        k: positive(raw.k, "admission.chance.k")?,
    })
}

fn utilization(raw: wire::Utilization) -> Result<Utilization, Malformed> {
    Ok(Utilization {
        queue_depth: positive(raw.queue_depth, "utilization.queue_depth")?,
        kv_share: positive(raw.kv_share, "utilization.kv_share")?,
        stale_after: Some(Duration::from_millis(raw.stale_after_ms.into())).filter(|after| !after.is_zero()),
    })
}

fn concurrency(raw: wire::Concurrency) -> Result<Detector, Malformed> {
    Ok(Detector::Concurrency {
        requests: some_positive(raw.requests, "concurrency.requests")?,
        tokens: some_positive(raw.tokens, "concurrency.tokens")?,
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
        Ok(wire::Fairness::LeastService) => {
            Fairness::LeastService(raw.least_service.map(least_service).transpose()?.unwrap_or_default())
        }
        Err(_) => return Err(field("flow.bands.fairness", "is not a known fairness")),
    };
    let share =
        |value: f64, name| if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(field(name, "must be 0..=1")) };
    let ttl = positive(raw.ttl_seconds, "flow.bands.ttl_seconds")?.min(LONGEST_TTL);
    Ok(Band {
        priority: raw.priority,
        limit: not_negative(raw.limit, "flow.bands.limit")?,
        min_share: share(raw.min_share, "flow.bands.min_share")?,
        ttl: Duration::from_secs_f64(ttl),
        deadline: raw.deadline,
        limits: limits(raw.max_requests, raw.max_bytes),
        order,
        fairness,
    })
}

fn least_service(raw: wire::LeastService) -> Result<LeastService, Malformed> {
    Ok(LeastService {
        half_life: some_positive(raw.half_life_seconds, "flow.bands.least_service.half_life_seconds")?,
        service_weight: not_negative(raw.service_weight, "flow.bands.least_service.service_weight")?,
        wait_weight: not_negative(raw.wait_weight, "flow.bands.least_service.wait_weight")?,
    })
}

fn limits(requests: u32, bytes: u64) -> Limits {
    let requests = usize::try_from(requests).unwrap_or(usize::MAX);
    Limits { requests: Some(requests).filter(|&most| most > 0), bytes: Some(bytes).filter(|&most| most > 0) }
}

fn some_positive(value: f64, name: &'static str) -> Result<Option<f64>, Malformed> {
    Ok(Some(not_negative(value, name)?).filter(|&value| value > 0.0))
}
