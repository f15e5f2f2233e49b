//! When requests wait in the gateway, as configured, checked. What is done about it is in `flow`.

use core::time::Duration;

/// A pool's flow control.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowControl {
    /// Highest priority first; at least one.
    pub bands: Vec<Band>,
    /// Of one worker, all bands together.
    pub limits: Limits,
    /// What keeps a request waiting.
    pub hold: Hold,
    /// Requests of the same tenant that may overtake one that waits for its endpoint.
    pub skip: usize,
    /// How long a request waits for a pool without endpoints; `None`: as long as for a busy one.
    pub no_endpoint_ttl: Option<Duration>,
    /// The limit of a band falls as the pool fills (`flow::ceiling`).
    pub soft_ceilings: bool,
    /// Let new sessions wait while those that live fill the caches.
    pub sessions: Option<SessionCap>,
}

/// The cap on live sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionCap {
    /// Header that names a session, lower case.
    pub header: String,
    /// Part of all KV caches that the contexts of live sessions may fill.
    pub capacity_share: f64,
    /// A session that waited so long is refused.
    pub ttl: Duration,
    /// A session lives so long after its last answer.
    pub idle: Duration,
}

/// How much may wait in one worker; `None`: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests.
    pub requests: Option<usize>,
    /// Bytes of their bodies.
    pub bytes: Option<u64>,
}

/// Requests of about the same priority.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// The least priority in it, except in the last.
    pub priority: i32,
    /// Share of the hold's limits up to which its requests go; 0: none ever goes.
    pub limit: f64,
    /// Share of the work that it gets at least while it waits, 0..1.
    pub min_share: f64,
    /// A request that waited so long is refused.
    pub ttl: Duration,
    /// Refuse a request as soon as its first token would come too late.
    pub deadline: bool,
    /// Of one worker.
    pub limits: Limits,
    /// Of the requests of a tenant.
    pub order: Order,
    /// Between tenants.
    pub fairness: Fairness,
}

/// Of the requests of one tenant; of the whole band under `Fairness::None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By arrival.
    #[default]
    FirstCome,
    /// By the end of their time to wait.
    EarliestExpiry,
    /// By arrival plus their own service level for the first token; those that name none last.
    EarliestDeadline,
}

/// Between the tenants of a band.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Fairness {
    /// Equal shares of pod-seconds.
    #[default]
    PodSeconds,
    /// By order alone.
    None,
    /// In turn, by request.
    RoundRobin,
    /// The least service lately.
    LeastService(LeastService),
}

/// Who has the most of `service_weight * (1 - service) + wait_weight * wait` goes first, both scaled from the least to the
/// most of all that wait (llm-d's least attained service).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeastService {
    /// In which half of what was served is forgotten, seconds; `None`: never.
    pub half_life: Option<f64>,
    /// 0 or more.
    pub service_weight: f64,
    /// 0 or more.
    pub wait_weight: f64,
}

impl Default for LeastService {
    /// llm-d's.
    fn default() -> Self {
        Self { half_life: Some(60.0), service_weight: 0.8, wait_weight: 0.2 }
    }
}

/// What keeps a request waiting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hold {
    /// What is predicted for the endpoint that was chosen.
    Prediction {
        /// Uncached prompt tokens that may queue there.
        token_budget: f64,
        /// Does the time per token matter?
        tpot: bool,
    },
    /// The pool is as saturated as the limit.
    Saturation(Detector),
}

/// How saturated a pool is: 1 is full.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Detector {
    /// By the engines' own figures.
    Utilization(Utilization),
    /// Requests or tokens in flight, summed over the endpoints, against as many limits.
    Concurrency {
        /// Of one endpoint.
        requests: Option<f64>,
        /// Of one endpoint.
        tokens: Option<f64>,
    },
}

/// The mean over the endpoints of `max(waiting / queue_depth, kv_used / kv_share)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Utilization {
    /// Requests that wait in an engine.
    pub queue_depth: f64,
    /// Fraction of the KV cache.
    pub kv_share: f64,
    /// An endpoint that has work, and figures older than this, counts as full; `None`: by what is booked on it.
    pub stale_after: Option<Duration>,
}

/// Which sheddable requests are refused at the door, whether they could wait or not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admission {
    /// All, while the pool is saturated.
    pub shed: Option<Detector>,
    /// Some, by chance.
    pub chance: Option<Chance>,
    /// Those that name a service level which no endpoint is predicted to meet, unless one is idle or cold.
    pub within_slo: bool,
}

/// Refused with the probability `min(k * saturation ^ power, 1)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance {
    /// Of the pool.
    pub saturation: Utilization,
    /// Above 0.
    pub power: f64,
    /// Above 0.
    pub k: f64,
}

impl FlowControl {
    /// Number of the band of `priority`.
    #[must_use]
    pub fn band_of(&self, priority: i32) -> usize {
        let found = self.bands.iter().position(|band| band.priority <= priority);
        found.unwrap_or(self.bands.len().saturating_sub(1))
    }
}
