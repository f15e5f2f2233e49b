//! Clusters, pure: one per pool, which follows the steering header, and the control plane's.

use std::path::Path;

use serde_json::{Value, json};

use super::{CONTROL_PLANE_CLUSTER, STEERING_HEADER, cluster_name, eds, socket_address, transport_socket};
use crate::config::{Discovery, GatewayTls, Pool, Upstream};

/// LLM streams are long: Envoy's default of 1024 requests a cluster is soon full.
const MANY: u32 = 1_000_000;

/// Python servers close idle connections after 5 s; the gateway must be first.
const UPSTREAM_IDLE: &str = "4s";

/// Envoy rereads this file when something is renamed into its folder.
pub(super) fn pool(pool: &Pool, upstream: Upstream, eds_folder: Option<&Path>) -> Value {
    let mut cluster = json!({
        "name": cluster_name(&pool.name),
        "connect_timeout": "1s",
        "load_balancing_policy": {"policies": [{"typed_extension_config": {
            "name": "envoy.load_balancing_policies.override_host",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
                "override_host_sources": [{"header": STEERING_HEADER}],
                "fallback_policy": {"policies": [{"typed_extension_config": {
                    "name": "envoy.load_balancing_policies.round_robin",
                    "typed_config": {"@type":
                        "type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"},
                }}]},
            },
        }}]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {"thresholds": [{
            "max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY, "max_retries": MANY,
        }]},
        "typed_extension_protocol_options": protocol(upstream, UPSTREAM_IDLE),
    });
    let source = match (eds_folder, &pool.discovery) {
        (Some(folder), _) => eds_source(&pool.name, folder),
        (None, Discovery::Static(endpoints)) => {
            let hosts: Vec<(&str, &str)> = endpoints.iter().map(|e| (e.address.as_str(), "HEALTHY")).collect();
            let mut assignment = eds::assignment(&pool.name, &hosts);
            if let Some(fields) = assignment.as_object_mut() {
                fields.remove("@type");
            }
            json!({"type": "STATIC", "load_assignment": assignment})
        }
        (None, Discovery::File { .. } | Discovery::Kubernetes(_)) => json!({"type": "STATIC"}),
    };
    if let (Some(cluster), Value::Object(source)) = (cluster.as_object_mut(), source) {
        cluster.extend(source);
    }
    cluster
}

fn eds_source(pool: &str, folder: &Path) -> Value {
    json!({
        "type": "EDS",
        "eds_cluster_config": {
            "service_name": cluster_name(pool),
            "eds_config": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": folder.join(eds::file_name(pool)),
                    "watched_directory": {"path": folder},
                },
            },
        },
    })
}

/// The control plane at `target` (`host:port`): HTTP/2, found dead by keepalives within seconds.
pub(super) fn control_plane(target: &str, tls: Option<&GatewayTls>) -> Value {
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let literal = host.parse::<std::net::IpAddr>().is_ok();
    let mut options = protocol(Upstream::Http2, "0s");
    if let Some(http2) = options.pointer_mut(
        "/envoy.extensions.upstreams.http.v3.HttpProtocolOptions/explicit_http_config/http2_protocol_options",
    ) {
        *http2 = json!({"connection_keepalive": {"interval": "10s", "timeout": "5s"}});
    }
    let mut cluster = json!({
        "name": CONTROL_PLANE_CLUSTER,
        "type": if literal { "STATIC" } else { "STRICT_DNS" },
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": CONTROL_PLANE_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket_address(target)}}]}],
        },
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 10, "keepalive_interval": 3},
        },
        "typed_extension_protocol_options": options,
    });
    if let (Some(tls), Some(fields)) = (tls, cluster.as_object_mut()) {
        fields.insert("transport_socket".to_owned(), transport_socket::upstream(tls, host));
    }
    cluster
}

fn protocol(upstream: Upstream, idle: &str) -> Value {
    let explicit = match upstream {
        Upstream::Http1 => json!({"http_protocol_options": {}}),
        Upstream::Http2 => json!({"http2_protocol_options": {}}),
    };
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": idle},
        "explicit_http_config": explicit,
    }})
}
