//! What is accepted, what is refused, and that a refusal names path, rule and value.

use super::*;

const SMALLEST: &str = "pools: [{name: p, discovery: {static: {endpoints: [10.0.0.1:8000]}}}]";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/kvasir"))
}

fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn the_smallest_file_gets_the_documented_defaults() {
    let config = parse(SMALLEST).unwrap();
    assert_eq!((config.grpc.port(), config.http.port()), (9002, 9090));
    let pool = &config.pools[0];
    assert!((pool.settings.slo_ttft_seconds - 2.0).abs() < 1e-12);
    assert!((pool.settings.slo_tpot_seconds - 0.05).abs() < 1e-12);
    assert_eq!((pool.settings.chunk_bytes, pool.settings.choices), (256, 3));
    assert_eq!(pool.settings.max_body_bytes, 32 << 20);
    assert_eq!((pool.scrape.busy, pool.scrape.idle), (Duration::from_millis(50), Duration::from_secs(1)));
    assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:8080");
}

#[test]
fn a_full_file_is_read_as_written() {
    let config = parse(
        "
listen: {grpc: 127.0.0.1:0, http: 9191}
pools:
- name: llama
  models: [llama-8b, {name: sql, base: llama-8b}]
  engine: sglang
  slo: {ttft: 500ms, tpot: 20ms}
  chunkBytes: 256
  choices: 2
  explain: true
  maxBody: 1MiB
  session: {header: X-Session-ID}
  staleAfter: 3s
  discovery: {file: {path: endpoints.yaml, watch: false}, drainGrace: 5s}
  scrape: {interval: {min: 10ms, max: 2s}, timeout: 250ms, path: /m, port: 9400}
  health: {path: /ping, interval: 3s, unhealthyAfter: 1, healthyAfter: 4}
  kvCacheTokens: 100000
gateway: {listen: 127.0.0.1:18080, mode: state, wasm: f.wasm, workers: 4, edsDirectory: eds, upstream: http2}
",
    )
    .unwrap();
    assert_eq!(config.http.to_string(), "0.0.0.0:9191");
    let pool = &config.pools[0];
    assert_eq!(pool.models.as_ref().unwrap()[1].base, "llama-8b");
    assert_eq!(pool.engine, Engine::Sglang);
    assert_eq!(pool.settings.session_header, "x-session-id");
    assert_eq!(pool.settings.stale_after_ms, 3000);
    assert_eq!(pool.discovery, Discovery::File { path: PathBuf::from("/etc/kvasir/endpoints.yaml"), watch: false });
    assert_eq!((pool.scrape.port, pool.health.healthy_after), (Some(9400), 4));
    assert_eq!(config.gateway.mode, Mode::State);
    assert_eq!(config.gateway.eds_directory, Some(PathBuf::from("/etc/kvasir/eds")));
}

#[test]
fn a_value_out_of_range_is_named_with_path_rule_and_value() {
    let text = SMALLEST.replace("name: p,", "name: p, slo: {ttft: 0s},");
    assert_eq!(refusal(&text), "pools[0].slo.ttft: must be between 1ms and 1h, got 0s");
}

#[test]
fn all_problems_are_told_at_once() {
    let told = refusal("{pools: [{name: P, choices: 9, discovery: {}}], gateway: {admin: '0.0.0.0:1'}}");
    for path in ["pools[0].name: ", "pools[0].choices: ", "pools[0].discovery: ", "gateway.admin: "] {
        assert!(told.contains(path), "{path} in {told}");
    }
}

#[test]
fn unknown_fields_and_wrong_types_are_named_by_path() {
    let unknown = refusal(&SMALLEST.replace("name: p,", "name: p, slo: {ttfx: 1s},"));
    assert!(unknown.starts_with("pools[0].slo") && unknown.contains("ttfx"), "{unknown}");
    let unitless = refusal(&SMALLEST.replace("name: p,", "name: p, staleAfter: 5,"));
    assert!(unitless.starts_with("pools[0].staleAfter: ") && unitless.contains("250ms"), "{unitless}");
    let endpoint = refusal("pools: [{name: p, discovery: {static: {endpoints: [nowhere]}}}]");
    assert!(endpoint.starts_with("pools[0].discovery.static.endpoints[0]"), "{endpoint}");
}

#[test]
fn a_models_files_are_a_folder_or_a_name_at_a_hub() {
    let exact = |fields: &str| SMALLEST.replace("name: p,", &format!("name: p, exact: {{{fields}}},"));
    let files = |fields: &str| parse(&exact(fields)).unwrap().pools.remove(0).exact.unwrap().files;
    assert_eq!(files("model: ./qwen"), ModelFiles::Folder(PathBuf::from("/etc/kvasir/./qwen")));
    assert_eq!(files("model: /models/qwen"), ModelFiles::Folder(PathBuf::from("/models/qwen")));
    let hub = |endpoint: Option<&str>, revision: &str| ModelFiles::Hub {
        endpoint: endpoint.map(str::to_owned),
        model: "Qwen/Qwen3-8B".to_owned(),
        revision: revision.to_owned(),
    };
    assert_eq!(files("model: Qwen/Qwen3-8B"), hub(None, "main"));
    assert_eq!(files("model: Qwen/Qwen3-8B, hub: 'http://hub/', revision: v1"), hub(Some("http://hub"), "v1"));
    for (fields, told) in [
        ("model: ''", "pools[0].exact.model: must be a folder or a model's name"),
        ("model: q, hub: huggingface.co", "pools[0].exact.hub: must begin with http:// or https://"),
        ("model: /q, revision: v1", "pools[0].exact.revision: must be left out when `model` is a folder"),
        ("model: q, events: {topic: kv}", "pools[0].exact.events.topic: must come with port"),
        ("model: q, events: {port: 0}", "pools[0].exact.events.port: must be between 1 and 65535"),
    ] {
        assert!(refusal(&exact(fields)).starts_with(told), "{}", refusal(&exact(fields)));
    }
}

#[test]
fn event_ports_and_template_settings_are_read_as_written() {
    let text = SMALLEST.replace(
        "name: p,",
        "name: p, exact: {model: q, chatTemplate: t.jinja, frontend: rust, chatTemplateKwargs: {b: 1, a: [true]},
            events: {port: 5557, replayPort: 5558, topic: kv}},",
    );
    let pool = parse(&text).unwrap().pools.remove(0);
    assert_eq!(pool.settings.chunk_bytes, 128);
    let exact = pool.exact.unwrap();
    assert_eq!(exact.chat_template, Some(PathBuf::from("/etc/kvasir/t.jinja")));
    assert_eq!(exact.frontend, shared::wire::Frontend::Rust);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&exact.chat_template_kwargs).unwrap(),
        serde_json::json!({"a": [true], "b": 1})
    );
    assert_eq!(exact.events, Some(EventPorts { publish: 5557, replay: Some(5558), topic: "kv".to_owned() }));
}

#[test]
fn two_pools_of_one_name_are_refused() {
    let one = "{name: p, discovery: {static: {endpoints: []}}}";
    assert!(refusal(&format!("pools: [{one}, {one}]")).starts_with("pools[1].name: must be unique"));
}

#[test]
fn state_mode_serves_one_pool() {
    let pool = |name: &str| format!("{{name: {name}, discovery: {{static: {{endpoints: []}}}}}}");
    let told = refusal(&format!("{{pools: [{}, {}], gateway: {{mode: state}}}}", pool("a"), pool("b")));
    assert!(told.starts_with("gateway.mode: must be hold with more than one pool"), "{told}");
    assert!(parse(&format!("{{pools: [{}], gateway: {{mode: state}}}}", pool("a"))).is_ok());
}

#[test]
fn text_that_is_not_yaml_is_refused_without_a_panic() {
    for text in ["", "{", "pools", "pools: 3", "\u{0}", "- a\n b: [", "&a [*a]"] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn gateways_on_this_machine_reach_a_wildcard_listener_by_loopback() {
    let config = parse(SMALLEST).unwrap();
    assert_eq!(config.control_plane_for("0.0.0.0:9002".parse().unwrap()), "127.0.0.1:9002");
    assert_eq!(config.control_plane_for("10.1.2.3:9002".parse().unwrap()), "10.1.2.3:9002");
}

/// The annotated configuration of the README.
fn manual() -> &'static str {
    let manual = include_str!("../../README.md");
    manual.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap()
}

#[test]
fn the_manuals_configuration_is_accepted() {
    let config = parse(manual()).unwrap();
    assert_eq!(config.pools[0].models.as_ref().unwrap().len(), 2);
    assert_eq!(config.pools[0].kv_cache_tokens, Some(288_000));
    // The other form of discovery stands there as a comment.
    let fixed: String = manual().lines().filter(|line| !line.contains(" file: {")).map(|l| format!("{l}\n")).collect();
    let config = parse(&fixed.replace("# static:", "static:")).unwrap();
    let Discovery::Static(endpoints) = &config.pools[0].discovery else { panic!("{:?}", config.pools[0].discovery) };
    assert_eq!(endpoints.len(), 2);
}

#[test]
fn the_manual_states_the_defaults() {
    let text = manual().replace(
        "# static: {endpoints: [10.0.0.1:8000, {address: 10.0.0.2, port: 8000, labels: {zone: a}}]}",
        "static: {endpoints: []}",
    );
    let stated: String =
        text.lines().filter(|line| !line.contains("# example")).map(|line| format!("{line}\n")).collect();
    let smallest = parse("pools: [{name: llama, discovery: {static: {endpoints: []}}}]").unwrap();
    assert_eq!(parse(&stated).unwrap(), smallest);
}

#[test]
fn engines_may_connect_only_where_it_says_so() {
    let with = |events: &str| {
        Config::parse(
            &format!(
                "listen: {{{events}}}\npools: [{{name: p, discovery: {{static: {{endpoints: ['10.0.0.1:8000']}}}}}}]"
            ),
            Path::new("/"),
        )
    };
    assert_eq!(with("").unwrap().events, None);
    assert_eq!(with("events: 5557").unwrap().events, Some("0.0.0.0:5557".parse().unwrap()));
    assert_eq!(with("events: '127.0.0.1:0'").unwrap().events, Some("127.0.0.1:0".parse().unwrap()));
    let refused = with("events: everywhere").unwrap_err().to_string();
    assert!(refused.contains("listen.events: must be ip:port or a port"), "{refused}");
}
