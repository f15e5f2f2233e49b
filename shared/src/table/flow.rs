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
    /// Share of the hold's limits up to which its requests go, 0..=1.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fairness {
    /// Equal shares of pod-seconds.
    #[default]
    PodSeconds,
    /// By order alone.
    None,
    /// In turn, by request.
    RoundRobin,
    /// The least service lately.
    LeastService,
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
    /// The mean over the endpoints of `max(waiting / queue_depth, kv_used / kv_share)` is at the limit.
    Utilization {
        /// Requests that wait in an engine.
        queue_depth: f64,
        /// Fraction of the KV cache.
        kv_share: f64,
    },
    /// Requests or tokens in flight, summed over the endpoints, are at the limit of one times their number.
    Concurrency {
        /// Of one endpoint.
        requests: Option<f64>,
        /// Of one endpoint.
        tokens: Option<f64>,
    },
}

impl FlowControl {
    /// Number of the band of `priority`.
    #[must_use]
    pub fn band_of(&self, priority: i32) -> usize {
        let found = self.bands.iter().position(|band| band.priority <= priority);
        found.unwrap_or(self.bands.len().saturating_sub(1))
    }
}
