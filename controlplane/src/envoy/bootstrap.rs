//! A complete Envoy bootstrap for one configuration, pure.

use std::path::Path;

use serde_json::{Value, json};

use super::{cluster, listener, socket_address};
use crate::config::{Config, Discovery, Problem};

/// Labels that the filter puts into the names of its stats, as `|name=value`.
const TAGS: [&str; 4] = ["pool", "endpoint", "model", "reason"];

/// The bootstrap. `control_plane` is `host:port` of the gRPC port, `eds_folder` where the endpoint files are.
///
/// # Errors
/// When a pool's endpoints come from a file and there is no folder for Envoy's.
pub fn bootstrap(config: &Config, control_plane: &str, eds_folder: Option<&Path>) -> Result<Value, Problem> {
    let needs_folder = config.pools.iter().find(|pool| matches!(pool.discovery, Discovery::File { .. }));
    if let (Some(pool), None) = (needs_folder, eds_folder) {
        return Err(Problem {
            path: "gateway.edsDirectory".to_owned(),
            rule: format!("must be set, because the endpoints of pool {} come from a file", pool.name),
            value: "nothing".to_owned(),
        });
    }
    let pools = config.pools.iter().map(|pool| cluster::pool(pool, config.gateway.upstream, eds_folder));
    let clusters: Vec<Value> = pools.chain([cluster::control_plane(control_plane)]).collect();
    let tags: Vec<Value> =
        TAGS.iter().map(|tag| json!({"tag_name": tag, "regex": format!("(\\|{tag}=([^|]*))")})).collect();
    Ok(json!({
        "node": {"id": "kvasir-gateway", "cluster": "kvasir"},
        "admin": {"address": socket_address(&config.gateway.admin.to_string())},
        "stats_config": {"stats_tags": tags},
        "static_resources": {"listeners": [listener::listener(config)], "clusters": clusters},
    }))
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
        let state = render(&config("gateway: {mode: state}"));
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
    fn the_first_pool_takes_what_no_header_names() {
        let bootstrap = render(&config(""));
        let path =
            "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes";
        let routes = bootstrap.pointer(path).unwrap();
        assert_eq!(routes[0]["route"]["cluster"], "kvasir-pool-b");
        assert_eq!(routes[0]["match"]["headers"][0]["name"], "x-kvasir-pool");
        assert_eq!(routes[1]["route"]["cluster"], "kvasir-pool-a");
        assert_eq!(routes[0]["request_body_buffer_limit"], 2 << 20);
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
}
