//! Which types of plugins there are, and who reads the parameters of which. A type that is listed here but that no reader takes
//! is a mistake of ours, not of the document: a test looks for them.

use super::fields::nearest;
use super::plugin::{Made, Parameters};
use super::{filters, flow_policies, handlers, producers, request_control, scorers, sources};

/// Every type that llm-d registers, deprecated ones and those for its conformance tests included.
pub(super) const TYPES: &[&str] = &[
    "active-request-scorer",
    "agent-identity",
    "always-disagg-multimodal-decider",
    "always-disagg-pd-decider",
    "anthropic-parser",
    "approx-prefix-cache-producer",
    "burst-prefix-cache-producer",
    "by-label",
    "by-label-selector",
    "concurrency-detector",
    "context-length-aware",
    "core-metrics-extractor",
    "data-parallel-profile-handler",
    "dcgm-data-source",
    "dcgm-extractor",
    "decode-filter",
    "destination-endpoint-served-verifier",
    "disagg-headers-handler",
    "disagg-profile-handler",
    "disaggregatedset-rollout-screener",
    "edf-ordering-policy",
    "encode-filter",
    "endpoint-attribute-filter",
    "endpoint-attribute-scorer",
    "endpoint-notification-source",
    "fcfs-ordering-policy",
    "file-discovery",
    "global-strict-fairness-policy",
    "header-based-testing-filter",
    "header-label-affinity-scorer",
    "header-profile-handler",
    "inflight-load-producer",
    "k8s-notification-source",
    "kv-cache-utilization-scorer",
    "label-selector-filter",
    "latency-scorer",
    "latency-slo-admitter",
    "load-aware-scorer",
    "lora-affinity-scorer",
    "max-score-picker",
    "metrics-data-source",
    "mm-embeddings-cache-producer",
    "mm-embeddings-cache-scorer",
    "models-data-extractor",
    "models-data-source",
    "multicluster-approx-prefix-cache-producer",
    "multicluster-file-discovery",
    "multicluster-kv-cache-utilization-scorer",
    "multicluster-metrics-data-source",
    "multicluster-metrics-extractor",
    "multicluster-prefix-cache-scorer",
    "multicluster-queue-scorer",
    "multicluster-session-affinity-filter",
    "no-hit-lru-scorer",
    "openai-parser",
    "p2p-source-producer",
    "passthrough-parser",
    "pd-profile-handler",
    "precise-prefix-cache-producer",
    "precise-prefix-cache-scorer",
    "predicted-latency-producer",
    "prefill-filter",
    "prefill-header-handler",
    "prefix-based-pd-decider",
    "prefix-cache-affinity-filter",
    "prefix-cache-scorer",
    "priority-holdback-policy",
    "priority-then-time-eviction-order-policy",
    "probabilistic-admitter",
    "program-aware-fairness",
    "queue-scorer",
    "random-picker",
    "request-attribute-reporter",
    "round-robin-fairness-policy",
    "running-requests-size-scorer",
    "session-affinity-filter",
    "session-affinity-scorer",
    "session-id-producer",
    "sglanghttp-parser",
    "sheddable-eviction-filter",
    "single-profile-handler",
    "slo-deadline-ordering-policy",
    "slo-headroom-tier-filter",
    "soft-reflective-ceiling-policy",
    "static-usage-limit-policy",
    "token-load-scorer",
    "token-producer",
    "tokenizer",
    "topology-affinity-filter",
    "topology-affinity-scorer",
    "topology-extractor",
    "utilization-detector",
    "utilization-filter",
    "vertexai-parser",
    "vllmgrpc-parser",
    "vllmhttp-parser",
    "weighted-random-picker",
];

/// Types that llm-d is about to drop, and what it has instead.
const DEPRECATED: [(&str, &str); 7] = [
    ("by-label", "label-selector-filter"),
    ("by-label-selector", "label-selector-filter"),
    ("disagg-headers-handler", "disagg-profile-handler"),
    ("pd-profile-handler", "disagg-profile-handler"),
    ("precise-prefix-cache-scorer", "precise-prefix-cache-producer and prefix-cache-scorer"),
    ("prefill-header-handler", "disagg-profile-handler"),
    ("tokenizer", "token-producer"),
];

/// What to use instead of a deprecated type.
pub(super) fn successor(kind: &str) -> Option<&'static str> {
    DEPRECATED.iter().find(|(old, _)| *old == kind).map(|(_, new)| *new)
}

/// Reads the parameters of a `kind`; `None` when nobody knows it.
pub(super) fn make(kind: &str, parameters: &mut Parameters<'_>) -> Option<Made> {
    let makers = [
        filters::make,
        scorers::make,
        handlers::make,
        producers::make,
        request_control::make,
        flow_policies::make,
        sources::make,
    ];
    if !TYPES.contains(&kind) {
        return None;
    }
    makers.iter().find_map(|make| make(kind, parameters))
}

/// What to do about a type that nobody knows.
pub(super) fn unknown_type(kind: &str) -> String {
    match nearest(kind, TYPES) {
        Some(meant) => format!("must be a plugin type of llm-d; did you mean {meant}?"),
        None => "must be a plugin type of llm-d (there are no plugins of one's own)".to_owned(),
    }
}
