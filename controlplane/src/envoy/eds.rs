//! One pool's endpoint file, pure. Unhealthy and draining endpoints stay in it, marked: the steering header may still
//! name them for requests in flight, while Envoy's own fallback leaves them out.

use serde_json::{Value, json};

use super::{cluster_name, socket_address};
use crate::datastore::{PoolView, Readiness};

/// Name of a pool's endpoint file inside the EDS folder; a pool may be called `namespace/name`.
#[must_use]
pub fn file_name(pool: &str) -> String {
    format!("{}.json", pool.replace('/', "%2F"))
}

/// The discovery response that the file holds; the same view always gives the same text.
#[must_use]
pub fn response(pool: &PoolView) -> String {
    let hosts: Vec<(&str, &str)> =
        pool.endpoints.iter().map(|endpoint| (endpoint.address.as_str(), status(&endpoint.readiness))).collect();
    json!({"resources": [assignment(&pool.name, &hosts)]}).to_string()
}

/// A cluster load assignment of `(address, health status)`.
pub(super) fn assignment(pool: &str, hosts: &[(&str, &str)]) -> Value {
    let hosts: Vec<Value> = hosts
        .iter()
        .map(|(address, status)| json!({"endpoint": {"address": socket_address(address)}, "health_status": status}))
        .collect();
    json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster_name(pool),
        "endpoints": [{"lb_endpoints": hosts}],
    })
}

const fn status(readiness: &Readiness) -> &'static str {
    match readiness {
        Readiness::Ready => "HEALTHY",
        Readiness::Draining => "DRAINING",
        Readiness::Unhealthy(_) => "UNHEALTHY",
    }
}
