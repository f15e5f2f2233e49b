//! What is accepted, what is refused, and that a refusal names path, rule and value.

mod endpoint_picker;

use super::kubernetes::Membership;
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
fn rewrites_are_read_as_written_and_what_gateways_would_refuse_is_named_by_its_path() {
    let pool = |rewrites: &str| SMALLEST.replace("name: p,", &format!("name: p, rewrites: {rewrites},"));
    let two = "[{models: [a, b], targets: [{model: x, weight: 9}, {model: y, weight: 1}]}, {targets: [{model: z}]}]";
    let rules = parse(&pool(two)).unwrap().pools[0].settings.rewrites.clone();
    assert_eq!((rules[0].models.as_slice(), rules[1].models.len()), (&["a".to_owned(), "b".to_owned()][..], 0));
    let targets = |rule: &shared::wire::ModelRewrite| {
        rule.targets.iter().map(|target| (target.model.clone(), target.weight)).collect::<Vec<_>>()
    };
    assert_eq!(targets(&rules[0]), [("x".to_owned(), 9), ("y".to_owned(), 1)]);
    assert_eq!(targets(&rules[1]), [("z".to_owned(), 0)]);
    for (rewrites, told) in [
        ("[{targets: []}]", "pools[0].rewrites[0].targets: must hold 1 to 64 models, got 0"),
        (
            "[{targets: [{model: x, weight: 1}, {model: y}]}]",
            "pools[0].rewrites[0].targets: must all have a weight or none, got 1 of 2",
        ),
        (
            "[{targets: [{model: x, weight: 0}]}]",
            "pools[0].rewrites[0].targets[0].weight: must be between 1 and 1000000, got 0",
        ),
        (
            "[{targets: [{model: x}]}, {models: [a, ''], targets: [{model: x}]}]",
            "pools[0].rewrites[1].models[1]: must be a name of 1 to 256 bytes, got \"\"",
        ),
    ] {
        assert_eq!(refusal(&pool(rewrites)), told);
    }
    assert!(refusal(&pool("[{target: []}]")).starts_with("pools[0].rewrites[0].target: unknown field"));
}

#[test]
fn budgets_are_read_as_written_and_one_that_is_never_used_is_refused() {
    let pool = |budgets: &str| SMALLEST.replace("name: p,", &format!("name: p, budgets: {budgets},"));
    let two = "[{tenants: [a], tokensPerMinute: 600}, {requestsPerMinute: 60}]";
    let budgets = parse(&pool(two)).unwrap().pools[0].settings.budgets.clone();
    let told = budgets.iter().map(|one| (one.tenants.len(), one.tokens_per_minute, one.requests_per_minute));
    assert_eq!(told.collect::<Vec<_>>(), [(1, 600.0, 0.0), (0, 0.0, 60.0)]);
    for (budgets, told) in [
        ("[{tenants: [a]}]", "pools[0].budgets[0]: must have tokensPerMinute, requestsPerMinute or both, got neither"),
        ("[{tokensPerMinute: 0}]", "pools[0].budgets[0].tokensPerMinute: must be between 1 and 4294967295, got 0"),
        (
            "[{tokensPerMinute: 1}, {tenants: [a], tokensPerMinute: 1}]",
            "pools[0].budgets[1]: must come before the budget of all tenants, or it is never used, got a later one",
        ),
    ] {
        assert_eq!(refusal(&pool(budgets)), told);
    }
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
    let found = refusal("{kubernetes: {pools: {endpointPicker: kvasir}}, gateway: {mode: state}}");
    assert!(found.starts_with("gateway.mode: must be hold with kubernetes.pools"), "{found}");
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

#[test]
fn pods_are_those_of_an_inference_pool_or_those_with_labels() {
    let of = |fields: &str| {
        let pool =
            parse(&format!("pools: [{{name: p, discovery: {{kubernetes: {{{fields}}}}}}}]")).unwrap().pools.remove(0);
        let Discovery::Kubernetes(membership) = pool.discovery else { panic!("{pool:?}") };
        membership
    };
    let named = Membership::InferencePool { namespace: Some("n".to_owned()), name: "llama".to_owned() };
    assert_eq!(of("inferencePool: llama, namespace: n"), named);
    let labels = [("app".to_owned(), "vllm".to_owned())].into();
    let selected = Membership::Selector { namespace: None, labels, ports: vec![8000, 8001] };
    assert_eq!(of("selector: {app: vllm}, ports: [8000, 8001]"), selected);
}

#[test]
fn pods_that_are_not_said_clearly_are_refused() {
    for (fields, told) in [
        ("", "pools[0].discovery.kubernetes: must have inferencePool, or selector and ports, got no selector"),
        ("inferencePool: P", "pools[0].discovery.kubernetes.inferencePool: must be the name of an object, got \"P\""),
        ("inferencePool: p, ports: [1]", "pools[0].discovery.kubernetes.ports: must be left out"),
        ("inferencePool: p, namespace: a.b", "pools[0].discovery.kubernetes.namespace: must be 1 to 63"),
        ("selector: {a: b}", "pools[0].discovery.kubernetes.ports: must be 1 to 8 ports, got 0"),
        ("selector: {a: b}, ports: [1, 1]", "pools[0].discovery.kubernetes.ports[1]: must be between 1 and 65535"),
    ] {
        let text = refusal(&format!("pools: [{{name: p, discovery: {{kubernetes: {{{fields}}}}}}}]"));
        assert!(text.starts_with(told), "{fields}: {text}");
    }
    let two = "pools: [{name: p, discovery: {file: {path: f}, kubernetes: {inferencePool: p}}}]";
    let told = "pools[0].discovery: must have exactly one of file, static and kubernetes, got file and kubernetes";
    assert_eq!(refusal(two), told);
}

#[test]
fn automatic_pools_need_no_other_and_have_checked_defaults() {
    let config = parse("kubernetes: {pools: {endpointPicker: kvasir, defaults: {engine: sglang}}}").unwrap();
    assert!(config.pools.is_empty() && config.needs_cluster());
    let pool = config.kubernetes.pools.unwrap().pool("n", "llama");
    assert_eq!((pool.name.as_str(), pool.engine), ("n/llama", Engine::Sglang));
    assert_eq!(pool.drain_grace, Duration::from_secs(10));
    for (fields, told) in [
        ("pools: {endpointPicker: K}", "kubernetes.pools.endpointPicker: must be 1 to 63"),
        ("pools: {endpointPicker: k, defaults: {name: p}}", "kubernetes.pools.defaults.name: must be left out"),
        ("pools: {endpointPicker: k, defaults: {choices: 9}}", "kubernetes.pools.defaults.choices: must be between"),
        ("pools: {endpointPicker: k}, namespaces: [a, '*']", "kubernetes.namespaces[1]: must stand alone"),
        ("pools: {endpointPicker: k}, namespaces: [A]", "kubernetes.namespaces[0]: must be 1 to 63"),
        ("pools: {}", "kubernetes.pools: missing field `endpointPicker`"),
    ] {
        let text = refusal(&format!("kubernetes: {{{fields}}}"));
        assert!(text.starts_with(told), "{fields}: {text}");
    }
}

#[test]
fn a_pool_may_be_called_as_its_inference_pool_is() {
    let named = |name: &str| SMALLEST.replace("name: p,", &format!("name: {name},"));
    assert_eq!(parse(&named("prod/llama.v2")).unwrap().pools[0].name, "prod/llama.v2");
    for name in ["a/b/c", "/a", "a/", "a/B", "''"] {
        assert!(refusal(&named(name)).starts_with("pools[0].name: must be 1 to 63"), "{name}");
    }
}

#[test]
fn leader_election_is_off_until_asked_for_and_its_times_fit_together() {
    let with = |fields: &str| format!("{SMALLEST}\nkubernetes: {{leaderElection: {{{fields}}}}}");
    assert_eq!(parse(SMALLEST).unwrap().kubernetes.leader_election, None);
    assert!(!parse(SMALLEST).unwrap().needs_cluster());
    let election = parse(&with("enabled: true")).unwrap().kubernetes.leader_election.unwrap();
    let seconds = [election.lease_duration, election.renew_deadline, election.retry_period].map(|time| time.as_secs());
    assert_eq!((election.lease.as_str(), seconds), ("kvasir", [15, 10, 2]));
    let short = parse(&with("enabled: true, leaseDuration: 3s")).unwrap().kubernetes.leader_election.unwrap();
    assert!(short.renew_deadline < short.lease_duration && short.retry_period < short.renew_deadline);
    for (fields, told) in [
        ("leaseDuration: 1500ms", "kubernetes.leaderElection.leaseDuration: must be whole seconds"),
        ("leaseDuration: 5s, renewDeadline: 5s", "kubernetes.leaderElection.renewDeadline: must be between 1ms and"),
        ("retryPeriod: 10s", "kubernetes.leaderElection.retryPeriod: must be between 1ms and"),
        ("leaseName: K", "kubernetes.leaderElection.leaseName: must be the name of an object"),
    ] {
        assert!(refusal(&with(fields)).starts_with(told), "{fields}: {}", refusal(&with(fields)));
    }
}

#[test]
fn certificates_are_files_beside_the_configuration() {
    let with = |fields: &str| format!("{SMALLEST}\nlisten: {{tls: {{{fields}}}}}");
    let tls = parse(&with("cert: tls.crt, key: /k, clientCa: ca.crt")).unwrap().tls.unwrap();
    assert_eq!(tls.cert, PathBuf::from("/etc/kvasir/tls.crt"));
    assert_eq!((tls.key, tls.client_ca), (PathBuf::from("/k"), Some(PathBuf::from("/etc/kvasir/ca.crt"))));
    assert!(refusal(&with("cert: c, key: ''")).starts_with("listen.tls.key: must name a file"));
    assert!(refusal(&with("cert: c")).starts_with("listen.tls"));
}

#[test]
fn what_envoy_needs_for_tls_lies_beside_the_configuration() {
    let with = |listen: &str, gateway: &str| format!("{SMALLEST}\nlisten: {{{listen}}}\ngateway: {{{gateway}}}");
    let (tls, asking) = ("tls: {cert: c, key: k}", "tls: {cert: c, key: k, clientCa: ca}");
    let shown = "tls: {ca: ca.crt, cert: tls.crt, key: /k, serverName: kvasir.test}";
    let found = parse(&with(asking, shown)).unwrap().gateway.tls.unwrap();
    let identity = Identity { cert: PathBuf::from("/etc/kvasir/tls.crt"), key: PathBuf::from("/k") };
    assert_eq!((found.ca, found.identity), (PathBuf::from("/etc/kvasir/ca.crt"), Some(identity)));
    assert_eq!(found.server_name.as_deref(), Some("kvasir.test"));
    // Gateways may be given certificates before they are asked for, and a control plane elsewhere is not in this file.
    for (listen, gateway) in [(tls, "tls: {ca: a}"), (tls, shown), ("", "tls: {ca: a}, controlPlane: 'kvasir:9002'")] {
        assert!(parse(&with(listen, gateway)).is_ok(), "{listen} {gateway}");
    }
    for (listen, fields, told) in [
        (tls, "ca: ''", "gateway.tls.ca: must name a file, got nothing"),
        (tls, "ca: a, cert: c", "gateway.tls.key: must come with gateway.tls.cert, got nothing"),
        (tls, "ca: a, key: k", "gateway.tls.cert: must come with gateway.tls.key, got nothing"),
        (tls, "ca: a, serverName: '*.test'", "gateway.tls.serverName: must be a DNS name or an IP address"),
        (tls, "ca: a, serverName: ''", "gateway.tls.serverName: must be a DNS name or an IP address"),
        (tls, "cert: c, key: k", "gateway.tls: missing field `ca`"),
        (asking, "ca: a", "gateway.tls.cert: must be set, with gateway.tls.key: listen.tls.clientCa asks"),
        ("", "ca: a", "gateway.tls: must come with listen.tls"),
    ] {
        let text = refusal(&with(listen, &format!("tls: {{{fields}}}")));
        assert!(text.starts_with(told), "{listen} {fields}: {text}");
    }
}

#[test]
fn what_the_operator_adds_to_envoy_is_checked_as_far_as_that_is_ours() {
    let with = |fields: &str| format!("{SMALLEST}\ngateway: {{{fields}}}");
    let keys = "{name: keys, typed_config: {'@type': t/KeyAuth, any: [1]}}";
    let found = parse(&with(&format!("removeHeaders: [x-tenant], httpFilters: [{keys}]"))).unwrap().gateway;
    assert_eq!(found.remove_headers, ["x-tenant"]);
    assert_eq!(found.http_filters[0]["typed_config"]["any"][0], 1);
    let router = "httpFilters: [{name: r, typed_config: {'@type': t/envoy.extensions.filters.http.router.v3.Router}}]";
    for (fields, told) in [
        ("removeHeaders: [x-a, X-Tenant]", "gateway.removeHeaders[1]: must be a header's name in lower case"),
        ("removeHeaders: [':path']", "gateway.removeHeaders[0]: must be"),
        ("removeHeaders: [host]", "gateway.removeHeaders[0]: must be"),
        ("removeHeaders: ['']", "gateway.removeHeaders[0]: must be"),
        ("httpFilters: [{name: a}, {typed_config: {}}]", "gateway.httpFilters[1]: must be an object with a name"),
        ("httpFilters: [keys]", "gateway.httpFilters[0]: must be an object with a name"),
        (router, "gateway.httpFilters[0]: must not be the router"),
    ] {
        let text = refusal(&with(fields));
        assert!(text.starts_with(told), "{fields}: {text}");
    }
}

#[test]
fn failover_is_off_where_nothing_is_said_and_its_times_have_bounds() {
    let with = |failover: &str| {
        let pool = "{name: p, discovery: {static: {endpoints: ['10.0.0.1:1']}}";
        format!("pools: [{pool}, failover: {failover}}}]")
    };
    let times = |failover: &str| {
        let settings = parse(&with(failover)).unwrap().pools.remove(0).settings;
        [settings.first_token_timeout_seconds, settings.slow_start_seconds].map(Duration::from_secs_f64)
    };
    assert_eq!(times("{}"), [Duration::ZERO; 2]);
    let [timeout, slow_start] = times("{firstTokenTimeout: 1500ms, slowStart: 10s}");
    assert_eq!((timeout, slow_start), (Duration::from_millis(1500), Duration::from_secs(10)));
    let text = refusal(&with("{firstTokenTimeout: 50ms, slowStart: 2h}"));
    let bounds =
        ["failover.firstTokenTimeout: must be between 100ms and", "failover.slowStart: must be between 0s and"];
    assert!(bounds.iter().all(|rule| text.contains(&format!("pools[0].{rule}"))), "{text}");
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
