//! The Envoy configurations that are compared. They differ in their HTTP filters and in the clusters these filters talk
//! to, in nothing else: same listener, route, retries, limits and override_host cluster.

pub(crate) mod launch;

use serde_json::{Value, json};
use std::path::Path;

/// The header that override_host follows, best endpoint first.
const STEERING_HEADER: &str = "x-gateway-destination-endpoint";
/// The largest request body that is held for a retry or a filter.
const BODY_LIMIT: u32 = 32 * 1024 * 1024;
const EXT_PROC_CLUSTER: &str = "ext_proc";
const CONTROL_PLANE_CLUSTER: &str = "kvasir-controlplane";

/// What stands in front of the router, and the clusters it needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Addition {
    http_filters: Vec<Value>,
    clusters: Vec<Value>,
}

/// Nothing but the router.
pub(crate) fn plain_envoy() -> Addition {
    Addition { http_filters: Vec::new(), clusters: Vec::new() }
}

/// Kvasir's filter from the file `wasm`, its tables from the control plane's gRPC port.
pub(crate) fn filter_envoy(wasm: &Path, control_plane_port: u16) -> Addition {
    let configuration = json!({"pool": "bench", "mode": "hold", "cluster": CONTROL_PLANE_CLUSTER});
    let filter = json!({
        "name": "envoy.filters.http.wasm",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "kvasir",
                "root_id": "kvasir",
                "allow_on_headers_stop_iteration": true,
                "failure_policy": "FAIL_RELOAD",
                "reload_config": {"backoff": {"base_interval": "0.010s"}},
                "vm_config": {
                    "vm_id": "kvasir",
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": wasm}},
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": configuration.to_string(),
                },
            },
        },
    });
    Addition { http_filters: vec![filter], clusters: vec![grpc_cluster(CONTROL_PLANE_CLUSTER, control_plane_port)] }
}

/// An external processor wired as the Gateway API Inference Extension wires an endpoint picker.
pub(crate) fn ext_proc_envoy(server_port: u16) -> Addition {
    let filter = json!({
        "name": "envoy.filters.http.ext_proc",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": EXT_PROC_CLUSTER}},
            "failure_mode_allow": false,
            "message_timeout": "10s",
            "processing_mode": {
                "request_header_mode": "SEND",
                "response_header_mode": "SEND",
                "request_body_mode": "FULL_DUPLEX_STREAMED",
                "response_body_mode": "FULL_DUPLEX_STREAMED",
                "request_trailer_mode": "SEND",
                "response_trailer_mode": "SEND",
            },
        },
    });
    Addition { http_filters: vec![filter], clusters: vec![grpc_cluster(EXT_PROC_CLUSTER, server_port)] }
}

/// A whole bootstrap, as JSON. The listener and the admin interface take free ports of their own choice.
pub(crate) fn bootstrap(addition: &Addition, endpoints: &[u16]) -> Value {
    let mut http_filters = addition.http_filters.clone();
    http_filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }));
    let mut clusters = vec![backend_cluster(endpoints)];
    clusters.extend(addition.clusters.iter().cloned());
    json!({
        "admin": {"address": loopback(0)},
        "static_resources": {
            "listeners": [{
                "name": "bench",
                "address": loopback(0),
                "filter_chains": [{"filters": [connection_manager(&http_filters)]}],
            }],
            "clusters": clusters,
        },
    })
}

fn connection_manager(http_filters: &[Value]) -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "bench",
            "route_config": {
                "name": "bench",
                "virtual_hosts": [{
                    "name": "bench",
                    "domains": ["*"],
                    "routes": [{
                        "match": {"prefix": "/"},
                        "request_body_buffer_limit": BODY_LIMIT,
                        "route": {
                            "cluster": "backends",
                            "timeout": "0s",
                            "retry_policy": {"retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 3},
                        },
                    }],
                }],
            },
            "http_filters": http_filters,
        },
    })
}

fn backend_cluster(endpoints: &[u16]) -> Value {
    let round_robin = json!({"policies": [{"typed_extension_config": {
        "name": "envoy.load_balancing_policies.round_robin",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"},
    }}]});
    json!({
        "name": "backends",
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": assignment("backends", endpoints),
        "load_balancing_policy": {"policies": [{"typed_extension_config": {
            "name": "envoy.load_balancing_policies.override_host",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
                "override_host_sources": [{"header": STEERING_HEADER}],
                "fallback_policy": round_robin,
            },
        }}]},
    })
}

fn grpc_cluster(name: &str, port: u16) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": assignment(name, &[port]),
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
    })
}

fn assignment(cluster: &str, ports: &[u16]) -> Value {
    let endpoints: Vec<Value> = ports.iter().map(|port| json!({"endpoint": {"address": loopback(*port)}})).collect();
    json!({"cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}]})
}

fn loopback(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

/// The port of the only listener, from the admin interface's `/listeners?format=json`.
fn listener_port(listeners: &[u8]) -> Option<u16> {
    let listeners: Value = serde_json::from_slice(listeners).ok()?;
    let port = listeners.pointer("/listener_statuses/0/local_address/socket_address/port_value")?;
    u16::try_from(port.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_differences(mut bootstrap: Value) -> Value {
        let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
        let filters = bootstrap.pointer_mut(manager).and_then(Value::as_array_mut).expect("filters");
        filters.retain(|filter| filter["name"] == "envoy.filters.http.router");
        let clusters =
            bootstrap.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut).expect("clusters");
        clusters.retain(|cluster| cluster["name"] == "backends");
        bootstrap
    }

    #[test]
    fn variants_differ_in_filters_and_their_clusters_only() {
        let plain = bootstrap(&plain_envoy(), &[1, 2]);
        let filter = bootstrap(&filter_envoy(Path::new("/m.wasm"), 3), &[1, 2]);
        let ext_proc = bootstrap(&ext_proc_envoy(4), &[1, 2]);
        assert_ne!(filter, plain);
        assert_ne!(ext_proc, plain);
        assert_eq!(without_differences(filter), plain);
        assert_eq!(without_differences(ext_proc), plain);
    }

    #[test]
    fn the_filter_is_told_its_pool_its_mode_and_its_control_plane() {
        let Addition { http_filters, clusters } = filter_envoy(Path::new("/m.wasm"), 9002);
        let config = &http_filters[0]["typed_config"]["config"];
        assert_eq!(config["allow_on_headers_stop_iteration"], true);
        let told: Value = serde_json::from_str(config["configuration"]["value"].as_str().expect("text")).expect("JSON");
        assert_eq!(told, json!({"pool": "bench", "mode": "hold", "cluster": "kvasir-controlplane"}));
        assert_eq!(clusters[0]["name"], told["cluster"]);
    }

    #[test]
    fn the_listener_port_is_read_from_the_admin_answer() {
        let answer = br#"{"listener_statuses":[{"name":"bench","local_address":{"socket_address":{"address":"127.0.0.1","port_value":40123}}}]}"#;
        assert_eq!(listener_port(answer), Some(40_123));
        assert_eq!(listener_port(b"{}"), None);
    }
}
