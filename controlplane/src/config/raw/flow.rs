//! What the configuration says of flow control, as it is written.

use serde::Deserialize;

use crate::config::human::{HumanDuration, HumanSize};

/// Requests wait in the gateway while the pool is busy, by priority and fairly between tenants, and are refused with 429 when
/// their answer would come too late. Its presence turns it on.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FlowControl {
    /// What keeps a request waiting. Default: `prediction`.
    #[serde(default)]
    pub hold: Hold,
    /// Bands of priority. Default: one for each priority among `objectives` and 0.
    pub bands: Option<Vec<Band>>,
    /// Requests that may wait in one worker of a gateway, 1 to 1000000. Default 5000.
    pub max_requests: Option<u32>,
    /// Bytes of their bodies in one worker. Default 256MiB.
    pub max_bytes: Option<HumanSize>,
    /// Requests of the same tenant that may overtake one that waits for its endpoint, up to 64. Default 8.
    pub skip: Option<u32>,
    /// How long a request waits for a pool without endpoints, up to 1h: as long as it takes to start the first. Default: as
    /// long as for a busy one.
    pub no_endpoint_ttl: Option<HumanDuration>,
    /// Let new sessions wait while those that live fill the caches. Default: sessions are not counted.
    pub sessions: Option<Sessions>,
}

/// The cap on live sessions. A worker knows those whose requests it gets: clients should keep a session on one connection.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Sessions {
    /// Header in which clients name their session, another one for each.
    pub header: String,
    /// Part of all KV caches that the contexts of live sessions may fill, above 0, up to 2. Default 0.8.
    pub capacity_share: Option<f64>,
    /// A session that waited so long is refused, up to 1h. Default 30s.
    pub ttl: Option<HumanDuration>,
    /// A session lives so long after its last answer, up to 1h. Default 30s.
    pub idle: Option<HumanDuration>,
}

/// What keeps a request waiting: exactly one, or none for `prediction`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Hold {
    /// The endpoint that was chosen for it would miss its service levels.
    pub prediction: Option<Prediction>,
    /// llm-d's utilization detector.
    pub utilization: Option<Utilization>,
    /// llm-d's concurrency detector.
    pub concurrency: Option<Concurrency>,
}

/// Held against what is predicted for the endpoint that was chosen.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Prediction {
    /// Uncached prompt tokens that may queue at an endpoint, 1 to 1000000. Default 8192.
    pub token_budget: Option<u32>,
    /// Does the time per output token matter? Default true.
    #[serde(default = "yes")]
    pub tpot: bool,
}

/// Held while the mean of `max(waiting / queueDepth, kvUsed / kvShare)` over the endpoints is at the band's limit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Utilization {
    /// Above 0. Default 5.
    pub queue_depth: Option<f64>,
    /// Above 0. Default 0.8.
    pub kv_share: Option<f64>,
}

/// Held while so much is in flight, per endpoint.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Concurrency {
    /// Requests. Default 100, unless `tokens` is given.
    pub requests: Option<u32>,
    /// Uncached prompt tokens. Default: they do not matter.
    pub tokens: Option<u32>,
}

/// Requests of about the same priority.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Band {
    /// The least priority in it; the last band takes all that is left.
    pub priority: i32,
    /// Share of the hold's limits up to which its requests go, above 0, up to 1. Default by rank: 1, 0.9, 0.8.
    pub limit: Option<f64>,
    /// Share of the work that it gets at least while it waits, 0 up to 0.9. Default by rank: 0, 0.2, 0.05.
    pub min_share: Option<f64>,
    /// Longest time to wait, up to 1h. Default: nine tenths of `slo.ttft`; 54s below priority 0.
    pub ttl: Option<HumanDuration>,
    /// Refuse a request as soon as its first token would come too late? Default: from priority 0 up.
    pub deadline: Option<bool>,
    /// Requests that may wait in it, in one worker. Default: as many as `maxRequests`.
    pub max_requests: Option<u32>,
    /// Bytes of their bodies. Default: as many as `maxBytes`.
    pub max_bytes: Option<HumanSize>,
    /// Of the requests of one tenant. Default `first-come`.
    #[serde(default)]
    pub order: Order,
    /// Between tenants (header x-llm-d-inference-fairness-id). Default `pod-seconds`.
    #[serde(default)]
    pub fairness: Fairness,
}

/// Of the requests of one tenant.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// By arrival.
    #[default]
    FirstCome,
    /// By the end of their time to wait.
    EarliestExpiry,
    /// By arrival plus their own x-llm-d-slo-ttft-ms.
    EarliestDeadline,
}

/// Between the tenants of a band.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fairness {
    /// Equal shares of pod-seconds.
    #[default]
    PodSeconds,
    /// None: by order alone.
    None,
    /// In turn, by request.
    RoundRobin,
    /// The least service lately.
    LeastService,
}

const fn yes() -> bool {
    true
}
