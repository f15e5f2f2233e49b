//! A complete Envoy bootstrap for one configuration, pure.

use std::path::Path;

use serde_json::{Value, json};

use super::{cluster, listener, socket_address};
use crate::config::{Config, Discovery, Pool, Problem};

/// Labels that the filter puts into the names of its stats, as `|name=value`.
const TAGS: [&str; 6] = ["pool", "endpoint", "model", "reason", "stage", "status"];

/// What Envoy calls the statistics of filters.
const FILTER_STATS: &str = "wasmcustom.";

/// Bounds of the filter's histograms: Envoy's own are milliseconds of whole requests and too coarse for decisions.
const BUCKETS: [(&str, &[f64]); 4] = [
    (
        "kvasir_decision_microseconds",
        &[
            1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 25.0, 35.0, 50.0, 75.0, 100.0, 200.0, 500.0, 1000.0, 2000.0,
            5000.0, 20_000.0,
        ],
    ),
    (
        "kvasir_time_to_first_token_milliseconds",
        &[
            5.0, 10.0, 20.0, 35.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 500.0, 750.0, 1000.0, 1500.0, 2000.0,
            3000.0, 5000.0, 10_000.0, 30_000.0, 120_000.0,
        ],
    ),
    (
        "kvasir_time_per_output_token_microseconds",
        &[
            1000.0,
            2000.0,
            5000.0,
            7500.0,
            10_000.0,
            15_000.0,
            20_000.0,
            25_000.0,
            30_000.0,
            40_000.0,
            50_000.0,
            75_000.0,
            100_000.0,
            200_000.0,
            500_000.0,
            2_000_000.0,
        ],
    ),
    (
        "kvasir_cached_tokens_prediction_error",
        &[1.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 16_384.0, 65_536.0],
    ),
];

/// The bootstrap. `control_plane` is `host:port` of the gRPC port, `eds_folder` where the endpoint files are.
///
/// # Errors
/// When Envoy could not reach the control plane, or no pool, or not a pool's endpoints.
pub fn bootstrap(config: &Config, control_plane: &str, eds_folder: Option<&Path>) -> Result<Value, Problem> {
    reachable(config, eds_folder)?;
    let pools = config.pools.iter().map(|pool| cluster::pool(pool, config.gateway.upstream, eds_folder));
    let clusters: Vec<Value> =
        pools.chain([cluster::control_plane(control_plane, config.gateway.tls.as_ref())]).collect();
    let tags: Vec<Value> =
        TAGS.iter().map(|tag| json!({"tag_name": tag, "regex": format!("(\\|{tag}=([^|]*))")})).collect();
    let buckets: Vec<Value> = BUCKETS
        .iter()
        .map(|(name, bounds)| json!({"match": {"prefix": format!("{FILTER_STATS}{name}")}, "buckets": bounds}))
        .collect();
    Ok(json!({
        // Gateways are known to the control plane by this; `--service-node` of Envoy overrides it.
        "node": {"id": format!("kvasir-{}", config.gateway.listen), "cluster": "kvasir"},
        "admin": {"address": socket_address(&config.gateway.admin.to_string())},
        "stats_config": {"stats_tags": tags, "histogram_bucket_settings": buckets},
        "static_resources": {"listeners": [listener::listener(config)], "clusters": clusters},
    }))
}

/// Would this Envoy find all that it needs?
fn reachable(config: &Config, eds_folder: Option<&Path>) -> Result<(), Problem> {
    let missing = |path: &str, rule: String| Err(Problem { path: path.to_owned(), rule, value: "nothing".to_owned() });
    if config.tls.is_some() && config.gateway.tls.is_none() {
        let rule = "must be set, because listen.tls is: {ca: FILE}, who signs listen.tls.cert, and serverName when that \
                    certificate is not for the host that Envoy connects to";
        return missing("gateway.tls", rule.to_owned());
    }
    if config.pools.is_empty() {
        let rule = "must list the pools of this Envoy: it gets clusters and routes of listed pools only, none of those that \
                    kubernetes.pools finds";
        return missing("pools", rule.to_owned());
    }
    let found = |pool: &&Pool| matches!(pool.discovery, Discovery::File { .. } | Discovery::Kubernetes(_));
    if let (Some(pool), None) = (config.pools.iter().find(found), eds_folder) {
        let rule = format!("must be set, because the endpoints of pool {} come and go", pool.name);
        return missing("gateway.edsDirectory", rule);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extra: &str) -> Config {
        let text = format!(
            "pools: [{{name: a, maxBody: 1MiB, discovery: {{static: {{endpoints: [10.0.0.1:8000]}}}}}}, \
             {{name: b, maxBody: 2MiB, discovery: {{static: {{endpoints: []}}}}}}]\n{extra}"
        );
        Config::parse(&text, Path::new("/")).unwrap()
    }

    fn one_pool(extra: &str) -> Config {
        let text = format!("pools: [{{name: a, maxBody: 1MiB, discovery: {{static: {{endpoints: []}}}}}}]\n{extra}");
        Config::parse(&text, Path::new("/")).unwrap()
    }

    /// What the filter itself reads.
    fn plugin(bootstrap: &Value) -> Value {
        let path = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config";
        let text = bootstrap.pointer(&format!("{path}/config/configuration/value")).unwrap();
        serde_json::from_str(text.as_str().unwrap()).unwrap()
    }

    fn render(config: &Config) -> Value {
        bootstrap(config, "127.0.0.1:9002", Some(Path::new("/eds"))).unwrap()
    }

    fn filter_names(bootstrap: &Value) -> Vec<&str> {
        let path = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
        bootstrap.pointer(path).unwrap().as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn only_hold_mode_lets_the_filter_stop_in_the_headers() {
        let hold = render(&config(""));
        assert_eq!(filter_names(&hold), ["envoy.filters.http.wasm", "envoy.filters.http.router"]);
        assert!(hold.to_string().contains("\"allow_on_headers_stop_iteration\":true"));
        let state = render(&one_pool("gateway: {mode: state}"));
        assert_eq!(
            filter_names(&state),
            [
                "envoy.filters.http.wasm",
                "envoy.filters.http.buffer",
                "envoy.filters.http.header_mutation",
                "envoy.filters.http.router"
            ]
        );
        assert!(!state.to_string().contains("allow_on_headers_stop_iteration"));
    }

    #[test]
    fn what_the_operator_adds_comes_before_the_filter_and_what_no_client_may_set_before_both() {
        let added =
            render(&config("gateway: {removeHeaders: [x-tenant], httpFilters: [{name: keys}, {name: tokens}]}"));
        assert_eq!(filter_names(&added), ["keys", "tokens", "envoy.filters.http.wasm", "envoy.filters.http.router"]);
        let path = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config\
                    /early_header_mutation_extensions/0/typed_config/mutations";
        let removed = added.pointer(path).unwrap().as_array().unwrap();
        assert!(removed.contains(&json!({"remove": "x-tenant"})) && removed.len() > 1, "{removed:?}");
    }

    #[test]
    fn the_first_pool_takes_what_no_header_names() {
        let bootstrap = render(&config(""));
        let path =
            "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes";
        let routes = bootstrap.pointer(path).unwrap();
        assert_eq!(routes[0]["route"]["cluster"], "kvasir-pool-b");
        assert_eq!(routes[0]["match"]["headers"][0]["name"], "x-kvasir-pool");
        assert_eq!(routes[1]["direct_response"]["status"], 503, "a pool that is not listed is not the first one");
        assert_eq!(routes[2]["route"]["cluster"], "kvasir-pool-a");
        assert_eq!(routes[0]["request_body_buffer_limit"], 3 << 20, "2 MiB and room for a read");
    }

    #[test]
    fn the_filter_is_told_its_pool_only_when_there_is_one() {
        let plugin_of = |config: &Config| plugin(&render(config));
        let (one, two) = (plugin_of(&one_pool("")), plugin_of(&config("")));
        assert_eq!((&one["pool"], &one["max_body_bytes"]), (&"a".into(), &(1 << 20).into()));
        assert_eq!((two.get("pool"), &two["max_body_bytes"]), (None, &(2 << 20).into()));
    }

    #[test]
    fn bucket_bounds_grow() {
        for (name, bounds) in BUCKETS {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{name}");
        }
    }

    #[test]
    fn a_file_source_needs_a_folder_for_envoys_files() {
        let text = "pools: [{name: a, discovery: {file: {path: e.yaml}}}]";
        let config = Config::parse(text, Path::new("/")).unwrap();
        let problem = bootstrap(&config, "127.0.0.1:1", None).unwrap_err();
        assert!(problem.to_string().starts_with("gateway.edsDirectory: must be set"));
        assert!(bootstrap(&config, "127.0.0.1:1", Some(Path::new("/eds"))).is_ok());
    }

    #[test]
    fn a_control_plane_with_a_name_is_resolved() {
        let bootstrap = bootstrap(&config(""), "kvasir.prod.svc:9002", None).unwrap();
        let cluster = &bootstrap["static_resources"]["clusters"][2];
        assert_eq!(
            (cluster["name"].as_str(), cluster["type"].as_str()),
            (Some("kvasir-controlplane"), Some("STRICT_DNS"))
        );
    }

    #[test]
    fn tls_that_the_control_plane_asks_for_must_be_spoken() {
        let refused = |extra: &str| bootstrap(&config(extra), "127.0.0.1:9002", None).unwrap_err().to_string();
        let told = refused("listen: {tls: {cert: c, key: k}}");
        assert!(told.starts_with("gateway.tls: must be set, because listen.tls is: {ca: FILE}"), "{told}");
        let both = "listen: {tls: {cert: c, key: k, clientCa: a}}\ngateway: {tls: {ca: a, cert: c, key: k}}";
        let rendered = render(&config(both));
        let sockets: Vec<&Value> = rendered["static_resources"]["clusters"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|cluster| cluster.get("transport_socket").is_some())
            .map(|cluster| &cluster["name"])
            .collect();
        assert_eq!(sockets, ["kvasir-controlplane"]);
        assert!(!render(&config("")).to_string().contains("transport_socket"));
    }

    #[test]
    fn pools_that_are_found_are_not_rendered_and_that_is_said() {
        let config = Config::parse("kubernetes: {pools: {endpointPicker: kvasir}}", Path::new("/")).unwrap();
        let told = bootstrap(&config, "127.0.0.1:9002", Some(Path::new("/eds"))).unwrap_err().to_string();
        assert!(told.starts_with("pools: must list the pools of this Envoy"), "{told}");
        assert!(told.contains("kubernetes.pools"), "{told}");
    }
}
