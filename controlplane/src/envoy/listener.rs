//! The listener, pure: early removal of what clients may not set, the operator's filters, ours in one of its two modes,
//! routes.

use serde_json::{Value, json};

use super::{CONTROL_PLANE_CLUSTER, POOL_HEADER, STEERING_HEADER, cluster_name, socket_address};
use crate::config::{Config, Mode, Pool};

/// Set by us or by engines' sidecars only; a client that sends them could choose its own target.
const OURS: [&str; 10] = [
    STEERING_HEADER,
    "x-gateway-destination-endpoint-subset",
    "x-gateway-destination-endpoint-served",
    "x-prefiller-host-port",
    "x-encoder-hosts-ports",
    "x-data-parallel-host-port",
    "x-kv-cache-source-host-port",
    "x-llm-d-request-dropped-reason",
    "x-kvasir-decision",
    POOL_HEADER,
];

/// Envoy's own: a try without response headers for so long is over.
const TRY_TIMEOUT_HEADER: &str = "x-envoy-upstream-rq-per-try-timeout-ms";

/// Envoy buffers a chunk, and refuses the body in words of its own, before the filter sees that chunk. Room for one read of
/// a connection (1 MiB by default) lets the filter refuse first and name the limit.
const ROOM_FOR_A_READ: u64 = 1 << 20;

/// The answer of an Envoy to a request for a pool that it was not rendered for.
const UNLISTED: &str = "{\"error\":{\"message\":\"this gateway was set up without the pool that serves this model\",\
                        \"type\":\"server_error\",\"code\":\"pool_not_listed\"}}";

/// The one listener.
pub(super) fn listener(config: &Config) -> Value {
    json!({
        "name": "kvasir",
        "address": socket_address(&config.gateway.listen.to_string()),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": connection_manager(config),
        }]}],
    })
}

fn connection_manager(config: &Config) -> Value {
    let removed = OURS.into_iter().chain(config.gateway.remove_headers.iter().map(String::as_str));
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "kvasir",
        "use_remote_address": true,
        "normalize_path": true,
        "stream_idle_timeout": format!("{}s", config.gateway.stream_idle_timeout.as_secs_f64()),
        "early_header_mutation_extensions": [{
            "name": "envoy.http.early_header_mutation.header_mutation",
            "typed_config": {
                "@type":
                    "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                "mutations": removed.map(|name| json!({"remove": name})).collect::<Vec<_>>(),
            },
        }],
        "http_filters": filters(config),
        "route_config": {
            "name": "kvasir",
            "virtual_hosts": [{"name": "kvasir", "domains": ["*"], "routes": routes(&config.pools)}],
        },
    })
}

/// With several pools the filter names one in a header; the first pool takes what it names none for. A pool of the table
/// that is not listed here must not end up there.
fn routes(pools: &[Pool]) -> Vec<Value> {
    let limit = max_body(pools);
    let unlisted = pools.iter().take(usize::from(pools.len() > 1)).map(|first| {
        json!({
            "match": {"prefix": "/", "headers": [
                {"name": POOL_HEADER, "present_match": true},
                {"name": POOL_HEADER, "string_match": {"exact": first.name}, "invert_match": true},
            ]},
            "direct_response": {"status": 503, "body": {"inline_string": UNLISTED}},
            "response_headers_to_add": [{"header": {"key": "content-type", "value": "application/json"}}],
        })
    });
    let named = pools.iter().skip(1).map(|pool| {
        let matcher = json!({
            "prefix": "/",
            "headers": [{"name": POOL_HEADER, "string_match": {"exact": pool.name}}],
        });
        route(matcher, &pool.name, limit)
    });
    let default = pools.iter().take(1).map(|pool| route(json!({"prefix": "/"}), &pool.name, limit));
    named.chain(unlisted).chain(default).collect()
}

/// The whole body is buffered before the route is final, so every route has the limit of the most generous pool; the
/// filter holds each pool to its own.
fn max_body(pools: &[Pool]) -> u64 {
    largest_limit(pools).saturating_add(ROOM_FOR_A_READ)
}

fn largest_limit(pools: &[Pool]) -> u64 {
    pools.iter().map(|pool| pool.settings.max_body_bytes).max().unwrap_or(0)
}

fn route(matcher: Value, pool: &str, limit: u64) -> Value {
    json!({
        "match": matcher,
        "request_body_buffer_limit": limit,
        "route": {
            "cluster": cluster_name(pool),
            "timeout": "0s",
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes",
                "retriable_status_codes": [503],
                "num_retries": 3,
                "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.005s"},
            },
        },
    })
}

fn filters(config: &Config) -> Vec<Value> {
    let mut filters = config.gateway.http_filters.clone();
    filters.push(wasm(config));
    if config.gateway.mode == Mode::State {
        filters.push(json!({
            "name": "envoy.filters.http.buffer",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
                "max_request_bytes": max_body(&config.pools),
            },
        }));
        filters.push(json!({
            "name": "envoy.filters.http.header_mutation",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
                "mutations": {"request_mutations": from_state(config)},
            },
        }));
    }
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            "suppress_envoy_headers": true,
        },
    }));
    filters
}

/// Headers that the filter leaves as filter state. Envoy ignores a time to try that is no number, which it is where there
/// is no such state.
fn from_state(config: &Config) -> Vec<Value> {
    let mutation = |header: &str, state: &str| {
        json!({"append": {
            "header": {"key": header, "value": format!("%FILTER_STATE(wasm.kvasir.{state}:PLAIN)%")},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }})
    };
    let mut mutations = vec![mutation(STEERING_HEADER, "endpoint")];
    if config.pools.iter().any(|pool| pool.settings.first_token_timeout_seconds > 0.0) {
        mutations.push(mutation(TRY_TIMEOUT_HEADER, "try_timeout_ms"));
    }
    mutations
}

fn wasm(config: &Config) -> Value {
    let (mode, hold) = match config.gateway.mode {
        Mode::Hold => ("hold", true),
        Mode::State => ("state", false),
    };
    let mut plugin = json!({
        "mode": mode,
        "cluster": CONTROL_PLANE_CLUSTER,
        "max_body_bytes": largest_limit(&config.pools),
    });
    // Among several pools the filter finds the one that serves the request's model.
    if let ([pool], Some(fields)) = (config.pools.as_slice(), plugin.as_object_mut()) {
        fields.insert("pool".to_owned(), pool.name.as_str().into());
    }
    let mut wasm = json!({
        "name": "kvasir",
        "root_id": "kvasir",
        "failure_policy": "FAIL_RELOAD",
        "reload_config": {"backoff": {"base_interval": "0.010s"}},
        "vm_config": {
            "vm_id": "kvasir",
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": config.gateway.wasm}},
        },
        "configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": plugin.to_string(),
        },
    });
    if let (true, Some(fields)) = (hold, wasm.as_object_mut()) {
        fields.insert("allow_on_headers_stop_iteration".to_owned(), Value::Bool(true));
    }
    json!({
        "name": "envoy.filters.http.wasm",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": wasm,
        },
    })
}
