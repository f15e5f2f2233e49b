//! What the configuration says of the cluster, as it is written. Like every raw field: optional here, so that `validate`
//! alone decides what a missing value means.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Pool;
use crate::config::human::HumanDuration;

/// The cluster that pools are discovered in.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Kubernetes {
    /// Where `pools` looks: namespaces, or `["*"]` for all of them. Default: the control plane's own.
    pub namespaces: Option<Vec<String>>,
    /// Pools that come and go with the cluster's InferencePools. Default: none.
    pub pools: Option<Pools>,
    /// One of the replicas leads: it alone writes and scales. Every replica serves gateways.
    #[serde(default)]
    pub leader_election: LeaderElection,
}

/// Pools that come and go with the cluster's InferencePools; each is called `namespace/name`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Pools {
    /// InferencePools whose `endpointPickerRef` names this Service are ours; `"*"`: every InferencePool is.
    pub endpoint_picker: String,
    /// Endpoints of an InferencePool that vanishes drain for this long, up to 1h; then its pool is gone. Default 10s.
    pub drain_grace: Option<HumanDuration>,
    /// The settings of these pools: the fields of a pool without `name` and `discovery`.
    #[serde(default)]
    pub defaults: Pool,
}

/// Which pods are a pool's endpoints: those of an InferencePool, or those that a selector names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Discovery {
    /// The InferencePool's name. An automatic pool for it gives way to this one.
    pub inference_pool: Option<String>,
    /// Default: the control plane's own.
    pub namespace: Option<String>,
    /// Without an InferencePool: labels that the pods have, all of them.
    pub selector: Option<BTreeMap<String, String>>,
    /// Without an InferencePool: each of these ports of a pod is an endpoint, 1 to 8.
    pub ports: Option<Vec<u16>>,
}

/// How the leading replica is found: by a Lease, as Kubernetes' own controllers do.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LeaderElection {
    /// Default: only when something in this configuration is done by one replica alone; nothing is, so far.
    #[serde(default)]
    pub enabled: bool,
    /// Name of the Lease in the control plane's own namespace. Default `kvasir`.
    pub lease_name: Option<String>,
    /// A leader that did not renew for this long is followed by another, 1s to 1h. Default 15s.
    pub lease_duration: Option<HumanDuration>,
    /// A leader that could not renew for this long stops to lead; shorter than `leaseDuration`. Default 10s.
    pub renew_deadline: Option<HumanDuration>,
    /// How often it is tried, by leaders and others; shorter than `renewDeadline`. Default 2s.
    pub retry_period: Option<HumanDuration>,
}
