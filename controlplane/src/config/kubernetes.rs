//! What the configuration says of the cluster, checked. A namespace that is not given is the control plane's own, which
//! only the running one knows: it stays `None` here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::{Discovery, EndpointPicker, Pool};

/// The cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Kubernetes {
    /// The way to it, from the command line; `None`: the pod's service account, else what kubectl uses.
    pub kubeconfig: Option<PathBuf>,
    /// Where `pools` looks.
    pub namespaces: Namespaces,
    /// Pools that come and go with the cluster's InferencePools.
    pub pools: Option<AutomaticPools>,
    /// How the leading replica is found; `None`: nobody leads.
    pub leader_election: Option<LeaderElection>,
}

/// Namespaces of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// The control plane's own.
    Own,
    /// These; at least one.
    Named(BTreeSet<String>),
    /// Every one.
    All,
}

/// Pools that come and go with the cluster's InferencePools.
#[derive(Clone, Debug, PartialEq)]
pub struct AutomaticPools {
    /// Which InferencePools.
    pub picker: Picker,
    /// Everything but name and source.
    template: Pool,
}

/// Which InferencePools are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Picker {
    /// Those whose `endpointPickerRef` names this Service.
    Service(String),
    /// All.
    Any,
}

/// Which pods are a pool's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Those of an InferencePool.
    InferencePool {
        /// `None`: our own.
        namespace: Option<String>,
        /// Its name.
        name: String,
    },
    /// Those that have labels.
    Selector {
        /// `None`: our own.
        namespace: Option<String>,
        /// All of these; at least one.
        labels: BTreeMap<String, String>,
        /// Each is an endpoint; 1 to 8.
        ports: Vec<u16>,
    },
}

/// How the leading replica is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// Name of the Lease, in our own namespace.
    pub lease: String,
    /// A leader that did not renew for this long is followed by another; whole seconds, as the API has it.
    pub lease_duration: Duration,
    /// A leader that could not renew for this long stops to lead; shorter than `lease_duration`.
    pub renew_deadline: Duration,
    /// How often it is tried; shorter than `renew_deadline`.
    pub retry_period: Duration,
}

impl AutomaticPools {
    pub(super) const fn new(picker: Picker, template: Pool) -> Self {
        Self { picker, template }
    }

    /// The pool of one InferencePool.
    #[must_use]
    pub fn pool(&self, namespace: &str, name: &str) -> Pool {
        let membership = Membership::InferencePool { namespace: Some(namespace.to_owned()), name: name.to_owned() };
        Pool {
            name: format!("{namespace}/{name}"),
            discovery: Discovery::Kubernetes(membership),
            ..self.template.clone()
        }
    }

    /// llm-d's configuration of these pools.
    #[must_use]
    pub const fn endpoint_picker(&self) -> Option<&EndpointPicker> {
        self.template.endpoint_picker.as_ref()
    }

    /// Is the residency of these pools exact?
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.template.exact.is_some()
    }

    /// How long endpoints of an InferencePool that vanished are shown as draining.
    #[must_use]
    pub const fn drain_grace(&self) -> Duration {
        self.template.drain_grace
    }
}

impl Membership {
    /// Where the pods are, when `own` is our namespace.
    #[must_use]
    pub fn namespace<'a>(&'a self, own: &'a str) -> &'a str {
        match self {
            Self::InferencePool { namespace, .. } | Self::Selector { namespace, .. } => {
                namespace.as_deref().unwrap_or(own)
            }
        }
    }
}
