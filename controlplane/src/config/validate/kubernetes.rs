//! Raw → checked, for what the configuration says of the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::kubernetes::{AutomaticPools, Kubernetes, LeaderElection, Membership, Namespaces, Picker};
use super::super::raw;
use super::endpoint_picker::endpoint_picker;
use super::{Around, Checks, HOUR, MILLISECOND, Own, drain_grace, pool};
use crate::config::{Discovery, Pool};

/// As many ports as an InferencePool may have.
const MOST_PORTS: usize = 8;

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn kubernetes(checks: &mut Checks, raw: raw::kubernetes::Kubernetes, around: &Around<'_>) -> Kubernetes {
    Kubernetes {
        kubeconfig: None,
        namespaces: namespaces(checks, raw.namespaces.unwrap_or_default()),
        pools: raw.pools.map(|pools| automatic(checks, pools, around)),
        leader_election: election(checks, raw.leader_election),
    }
}

fn namespaces(checks: &mut Checks, names: Vec<String>) -> Namespaces {
    if names == ["*"] {
        return Namespaces::All;
    }
    for (index, name) in names.iter().enumerate() {
        let path = format!("kubernetes.namespaces[{index}]");
        if name == "*" {
            checks.refuse(&path, "must stand alone when it is *", format!("{} entries", names.len()));
        } else {
            label(checks, &path, name);
        }
    }
    if names.is_empty() { Namespaces::Own } else { Namespaces::Named(names.into_iter().collect()) }
}

fn automatic(checks: &mut Checks, mut raw: raw::kubernetes::Pools, around: &Around<'_>) -> AutomaticPools {
    let path = "kubernetes.pools";
    let picker = match raw.endpoint_picker.as_str() {
        "*" => Picker::Any,
        service => {
            label(checks, &format!("{path}.endpointPicker"), service);
            Picker::Service(service.to_owned())
        }
    };
    let grace = drain_grace(checks, path, raw.drain_grace, SECOND * 10);
    for (field, given) in [("name", raw.defaults.name.is_some()), ("discovery", raw.defaults.discovery.is_some())] {
        if given {
            let rule = "must be left out: every InferencePool has its own";
            checks.refuse(&format!("{path}.defaults.{field}"), rule, "a value");
        }
    }
    let at = format!("{path}.defaults");
    let endpoint_picker = endpoint_picker(checks, &at, &mut raw.defaults, around);
    let own =
        Own { name: String::new(), discovery: Discovery::Static(Vec::new()), drain_grace: grace, endpoint_picker };
    let template: Pool = pool(checks, &at, own, raw.defaults, around.folder);
    AutomaticPools::new(picker, template)
}

pub(super) fn membership(checks: &mut Checks, path: &str, raw: raw::kubernetes::Discovery) -> Membership {
    if let Some(namespace) = &raw.namespace {
        label(checks, &format!("{path}.namespace"), namespace);
    }
    match raw.inference_pool {
        Some(name) => {
            for (field, given) in [("selector", raw.selector.is_some()), ("ports", raw.ports.is_some())] {
                if given {
                    let rule = "must be left out when inferencePool is given: that says it";
                    checks.refuse(&format!("{path}.{field}"), rule, "a value");
                }
            }
            if !subdomain(&name) {
                checks.refuse(&format!("{path}.inferencePool"), "must be the name of an object", format!("{name:?}"));
            }
            Membership::InferencePool { namespace: raw.namespace, name }
        }
        None => {
            let labels = raw.selector.unwrap_or_default();
            let ports = raw.ports.unwrap_or_default();
            selector(checks, path, &labels, &ports);
            Membership::Selector { namespace: raw.namespace, labels, ports }
        }
    }
}

fn selector(checks: &mut Checks, path: &str, labels: &BTreeMap<String, String>, ports: &[u16]) {
    if labels.is_empty() {
        checks.refuse(path, "must have inferencePool, or selector and ports", "no selector");
    }
    let here = format!("{path}.ports");
    if ports.is_empty() || ports.len() > MOST_PORTS {
        checks.refuse(&here, format!("must be 1 to {MOST_PORTS} ports"), ports.len());
    }
    for (index, port) in ports.iter().enumerate() {
        let again = ports.iter().take(index).any(|earlier| earlier == port);
        if *port == 0 || again {
            checks.refuse(&format!("{here}[{index}]"), "must be between 1 and 65535, each once", port);
        }
    }
}

fn election(checks: &mut Checks, raw: raw::kubernetes::LeaderElection) -> Option<LeaderElection> {
    let path = "kubernetes.leaderElection";
    let lease = raw.lease_name.unwrap_or_else(|| "kvasir".to_owned());
    if !subdomain(&lease) {
        checks.refuse(&format!("{path}.leaseName"), "must be the name of an object", format!("{lease:?}"));
    }
    let lease_duration =
        checks.duration(&format!("{path}.leaseDuration"), raw.lease_duration, SECOND * 15, (SECOND, HOUR));
    if lease_duration.subsec_nanos() != 0 {
        let got = format!("{}s", lease_duration.as_secs_f64());
        checks.refuse(&format!("{path}.leaseDuration"), "must be whole seconds, as a Lease counts them", got);
    }
    let below = |limit: Duration| limit.saturating_sub(MILLISECOND).max(MILLISECOND);
    let deadline_default = (SECOND * 10).min(lease_duration.mul_f64(2.0 / 3.0));
    let renew_deadline = checks.duration(
        &format!("{path}.renewDeadline"),
        raw.renew_deadline,
        deadline_default,
        (MILLISECOND, below(lease_duration)),
    );
    let retry_default = (SECOND * 2).min(renew_deadline / 5);
    let retry_period = checks.duration(
        &format!("{path}.retryPeriod"),
        raw.retry_period,
        retry_default.max(MILLISECOND),
        (MILLISECOND, below(renew_deadline)),
    );
    raw.enabled.then_some(LeaderElection { lease, lease_duration, renew_deadline, retry_period })
}

/// The name of a namespace or a Service (RFC 1123 label).
fn label(checks: &mut Checks, path: &str, name: &str) {
    if !(subdomain(name) && name.len() <= 63 && !name.contains('.')) {
        checks.refuse(path, "must be 1 to 63 of a-z, 0-9, - (not at the ends)", format!("{name:?}"));
    }
}

/// The name of an object (RFC 1123 subdomain).
fn subdomain(name: &str) -> bool {
    let part = |part: &str| {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty() && part.chars().all(legal) && !part.starts_with('-') && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(part)
}
