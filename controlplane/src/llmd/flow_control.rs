//! The `flowControl` section with its policies looked up and llm-d's defaults filled in.

use std::time::Duration;

use super::document::{BandEntry, FlowEntry, Reference};
use super::fields::Problems;
use super::flow_policies::{Detector, Fairness, Ordering, UsageLimit};
use super::plugin::Part;
use super::plugins::Plugins;

/// Of a band, when it is not said.
const BAND_BYTES: u64 = 1_000_000_000;
/// Of a band, when it is not said.
const BAND_REQUESTS: u64 = 5000;
/// In the queue, when it is not said.
const REQUEST_TTL: Duration = Duration::from_secs(60);

/// What is held, for how long, and who is served next.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowControl {
    /// Is it asked for (feature gate `flowControl`)? Without it only sheddable requests are refused, by the detector.
    pub enabled: bool,
    /// Of all bands; `None`: no limit.
    pub max_bytes: Option<u64>,
    /// Of all bands; `None`: no limit.
    pub max_requests: Option<u64>,
    /// How long a request waits for a full pool; `None`: for ever.
    pub request_ttl: Option<Duration>,
    /// How long a request waits for a pool without endpoints; `None`: for ever.
    pub no_endpoint_ttl: Option<Duration>,
    /// Bands by priority, highest first; each priority once.
    pub bands: Vec<(i64, Band)>,
    /// Of all other priorities.
    pub default_band: Band,
    /// Of all other priorities below 0.
    pub default_negative_band: Band,
    /// How full the pool may be for a band.
    pub usage_limit: UsageLimit,
    /// What counts as full.
    pub detector: Detector,
    /// Are sheddable requests in flight ended for higher bands?
    pub eviction: bool,
}

/// One priority.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// Of its queue.
    pub max_bytes: u64,
    /// Of its queue.
    pub max_requests: u64,
    /// Between its flows.
    pub fairness: Fairness,
    /// Within a flow.
    pub ordering: Ordering,
}

impl Band {
    const USUAL: Self = Self {
        max_bytes: BAND_BYTES,
        max_requests: BAND_REQUESTS,
        fairness: Fairness::GlobalStrict,
        ordering: Ordering::FirstCome,
    };
}

pub(super) fn flow_control(entry: FlowEntry, enabled: bool, plugins: &Plugins, problems: &Problems) -> FlowControl {
    let band = |entry: &BandEntry| Band {
        max_bytes: entry.max_bytes.filter(|&bytes| bytes > 0).unwrap_or(BAND_BYTES),
        max_requests: entry.max_requests.filter(|&requests| requests > 0).unwrap_or(BAND_REQUESTS),
        fairness: fairness(entry.fairness.as_ref(), plugins, problems),
        ordering: ordering(entry.ordering.as_ref(), plugins, problems),
    };
    let mut bands: Vec<(i64, Band)> = entry.bands.iter().map(|entry| (entry.priority, band(entry))).collect();
    bands.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    let default_band = entry.default_band.as_ref().map_or(Band::USUAL, band);
    let default_negative_band = entry.default_negative_band.as_ref().map_or_else(|| default_band.clone(), band);
    let unless_zero = |ttl: Duration| Some(ttl).filter(|ttl| !ttl.is_zero());
    let request_ttl = unless_zero(entry.request_ttl.unwrap_or(REQUEST_TTL));
    FlowControl {
        enabled,
        max_bytes: entry.max_bytes.filter(|&bytes| bytes > 0),
        max_requests: entry.max_requests.filter(|&requests| requests > 0),
        request_ttl,
        no_endpoint_ttl: entry.no_endpoint_ttl.map_or(request_ttl, unless_zero),
        bands,
        default_band,
        default_negative_band,
        usage_limit: usage_limit(entry.usage_limit.as_ref(), plugins, problems),
        detector: detector(entry.detector.as_ref(), plugins, problems),
        eviction: entry.eviction,
    }
}

fn fairness(reference: Option<&Reference>, plugins: &Plugins, problems: &Problems) -> Fairness {
    let policy = |part: &Part| if let Part::Fairness(policy) = part { Some(policy.clone()) } else { None };
    let found = plugins.look_up(reference, "a fairness policy", policy, problems);
    found.or_else(|| plugins.default_of("global-strict-fairness-policy", policy)).unwrap_or(Fairness::GlobalStrict)
}

fn ordering(reference: Option<&Reference>, plugins: &Plugins, problems: &Problems) -> Ordering {
    let policy = |part: &Part| if let Part::Ordering(policy) = part { Some(*policy) } else { None };
    let found = plugins.look_up(reference, "an ordering policy", policy, problems);
    found.or_else(|| plugins.default_of("fcfs-ordering-policy", policy)).unwrap_or_default()
}

fn usage_limit(reference: Option<&Reference>, plugins: &Plugins, problems: &Problems) -> UsageLimit {
    let policy = |part: &Part| if let Part::UsageLimit(policy) = part { Some(*policy) } else { None };
    let found = plugins.look_up(reference, "a usage limit policy", policy, problems);
    found
        .or_else(|| plugins.default_of("static-usage-limit-policy", policy))
        .unwrap_or(UsageLimit::Static { threshold: 1.0 })
}

fn detector(reference: Option<&Reference>, plugins: &Plugins, problems: &Problems) -> Detector {
    let policy = |part: &Part| if let Part::Detector(policy) = part { Some(*policy) } else { None };
    let found = plugins.look_up(reference, "a saturation detector", policy, problems);
    found.or_else(|| plugins.default_of("utilization-detector", policy)).unwrap_or(Detector::USUAL)
}
