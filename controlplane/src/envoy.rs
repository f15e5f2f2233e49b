//! The Envoy that routes by Kvasir: its bootstrap and the endpoint files that it follows. Everything here is rendered as
//! JSON, which Envoy reads as well as YAML. The endpoint files only tell Envoy which hosts exist; which of them gets a
//! request is in the steering header that the filter sets.

pub mod bootstrap;
mod cluster;
pub mod eds;
mod listener;
mod transport_socket;
pub mod write;

/// Cluster through which the filter reaches the control plane; the same on every gateway.
pub const CONTROL_PLANE_CLUSTER: &str = "kvasir-controlplane";

/// Header that carries the choice, best first: `ip:port[,ip:port…]`.
const STEERING_HEADER: &str = "x-gateway-destination-endpoint";

/// Header that carries the pool when there are several.
const POOL_HEADER: &str = "x-kvasir-pool";

/// Name of a pool's cluster.
fn cluster_name(pool: &str) -> String {
    format!("kvasir-pool-{pool}")
}

/// `ip`, `port` of `ip:port`, as an Envoy address. The port stays 0 when the text is not an address.
fn socket_address(address: &str) -> serde_json::Value {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    serde_json::json!({"socket_address": {"address": host, "port_value": port.parse::<u16>().unwrap_or(0)}})
}
