//! What Istio makes of the chart's objects: istiod serves it over xDS, a stock Envoy takes it over. The pods' addresses lead
//! nowhere: that requests arrive is shown elsewhere, here only that the configuration is the one they need.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on must fail, and say why")]

use std::collections::BTreeMap;

use cluster::cluster::Cluster;
use cluster::config_dump::ConfigDump;
use cluster::helm::Chart;
use cluster::istio_gateway::{IstioGateway, endpoints, populate};
use cluster::istiod::Istiod;
use cluster::kind::{Kind, POOL};
use cluster::namespace::Namespace;
use cluster::tools::Tools;
use e2e::binaries::Binaries;
use e2e::wait::{SOON, eventually, wait_for};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const ENGINES: [&str; 2] = ["10.1.0.1", "10.1.0.2"];
const STEERING: &str = "x-gateway-destination-endpoint";
const ROUTER: &str = "envoy.filters.http.router";
const EXT_PROC: &str = "envoy.filters.http.ext_proc";
const TO_METADATA: &str = "envoy.filters.http.header_to_metadata";

const ROUTE: Kind = Kind::new("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes");

/// Everything that the tests share.
struct Stage {
    cluster: &'static Cluster,
    istiod: Istiod,
    chart: Chart,
    binaries: Binaries,
}

async fn stage() -> Option<&'static Stage> {
    static STAGE: OnceCell<Option<Stage>> = OnceCell::const_new();
    let prepare = async || {
        Tools::find(&["pilot-discovery", "helm"])?;
        let (binaries, chart, cluster) = (Binaries::find()?, Chart::ours(), Cluster::shared().await?);
        cluster.install(&["gateway-api", "inference-extension", "istio"]);
        Some(Stage { cluster, istiod: Istiod::start(cluster).await, chart, binaries })
    };
    STAGE.get_or_init(prepare).await.as_ref()
}

/// The chart in a namespace of its own, two endpoints for each pool, and a gateway.
struct Installed {
    namespace: Namespace<'static>,
    gateway: IstioGateway,
    /// Istio's names of the pools' clusters.
    clusters: Vec<String>,
}

async fn apply(stage: &'static Stage, mode: &str, settings: &[&str]) -> Namespace<'static> {
    let namespace = stage.cluster.namespace(mode).await;
    let mut verb = vec!["template", "kvasir"];
    verb.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let objects = stage.chart.helm(stage.cluster, &verb, &namespace.name, &stage.chart.values(mode)).unwrap();
    namespace.kubectl(&["apply", "--filename", "-"], &objects).unwrap();
    namespace
}

async fn start(stage: &'static Stage, namespace: Namespace<'static>, clusters: Vec<String>) -> Installed {
    let gateway = IstioGateway::start(&stage.istiod, &namespace, "kvasir-gateway", &stage.binaries.envoy).await;
    Installed { namespace, gateway, clusters }
}

async fn install(stage: &'static Stage, mode: &str, settings: &[&str]) -> Installed {
    let namespace = apply(stage, mode, settings).await;
    let pools: &[(&str, &[u16])] =
        if mode == "istio-wasmplugin" { &[("llama", &[8000])] } else { &[("llama", &[8000]), ("qwen", &[8000, 8001])] };
    let mut clusters = Vec::new();
    for (pool, ports) in pools {
        clusters.push(populate(&namespace, pool, ports, &ENGINES).await);
    }
    start(stage, namespace, clusters).await
}

/// The module where Envoy can load it without Istio's agent.
fn from_file(stage: &Stage) -> String {
    format!("wasm.url=file://{}", stage.binaries.wasm.display())
}

/// When routes, endpoints and fetched filters have arrived.
async fn complete(installed: &Installed) -> ConfigDump {
    let arrived = |dump: &ConfigDump| {
        let populated = |cluster: &String| dump.cluster(cluster).is_some() && !dump.endpoints(cluster).is_empty();
        !dump.routes().is_empty() && !dump.extensions().is_empty() && installed.clusters.iter().all(populated)
    };
    installed.gateway.eventually("Envoy has taken everything over", arrived).await
}

fn filters(dump: &ConfigDump) -> Vec<&Value> {
    let managers = dump.connection_managers();
    assert_eq!(managers.len(), 1);
    managers.iter().flat_map(|manager| manager["http_filters"].as_array().unwrap()).collect()
}

/// Where the filter is that has this name.
fn position(filters: &[&Value], name: &str) -> Option<usize> {
    filters.iter().position(|filter| filter["name"] == name)
}

/// The fetched filter's name, and its configuration.
fn module(dump: &ConfigDump) -> (&str, &Value) {
    let fetched = dump.extensions();
    assert_eq!(fetched.len(), 1, "{fetched:?}");
    let filter = fetched.first().unwrap();
    (filter["name"].as_str().unwrap(), filter.pointer("/typed_config/config").unwrap())
}

fn plugin(config: &Value) -> Value {
    let text = config.pointer("/configuration/value").and_then(Value::as_str).unwrap();
    serde_json::from_str(text).unwrap()
}

/// Nobody outside says where a request goes, and what the filter says is where Istio's pools look.
fn the_choice_is_ours_alone(dump: &ConfigDump) {
    let managers = dump.connection_managers();
    let early =
        managers.first().unwrap().pointer("/early_header_mutation_extensions/0/typed_config/mutations").unwrap();
    let removed: Vec<_> =
        early.as_array().unwrap().iter().map(|mutation| mutation["remove"].as_str().unwrap()).collect();
    for header in [STEERING, "x-gateway-destination-endpoint-subset", "x-prefiller-host-port", "x-kvasir-pool"] {
        assert!(removed.contains(&header), "{header} is not in {removed:?}");
    }
    let filters = filters(dump);
    let bridge = position(&filters, TO_METADATA).and_then(|at| filters.get(at)).expect("a header_to_metadata filter");
    let rules = bridge.pointer("/typed_config/request_rules").unwrap();
    // Its type is STRING, the default, which a dump leaves out.
    let target = json!({"metadata_namespace": "envoy.lb", "key": STEERING});
    assert_eq!(rules, &json!([{"header": STEERING, "on_header_present": target}]));
}

/// The upstreams: the control plane's speaks HTTP/2, a pool's goes where `source` says.
fn upstreams_follow(dump: &ConfigDump, installed: &Installed, source: &Value) {
    let ours = dump.cluster("kvasir-controlplane").expect("the control plane's cluster");
    let options = "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    assert!(ours.pointer(&format!("{options}/explicit_http_config/http2_protocol_options")).is_some(), "{ours}");
    let host = ours.pointer("/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address");
    let name = format!("kvasir.{}.svc.cluster.local", installed.namespace.name);
    assert_eq!(host, Some(&json!({"address": name, "port_value": 9002})));
    for cluster in &installed.clusters {
        let policies = dump.cluster(cluster).unwrap().pointer("/load_balancing_policy/policies").unwrap();
        assert_eq!(policies.as_array().map(Vec::len), Some(1), "{policies}");
        let policy = policies.pointer("/0/typed_extension_config/typed_config").unwrap();
        assert_eq!(policy["override_host_sources"], json!([source]));
    }
}

/// Where an InferencePool's cluster looks.
fn metadata() -> Value {
    json!({"metadata": {"key": "envoy.lb", "path": [{"key": STEERING}]}})
}

#[tokio::test]
async fn envoy_takes_over_the_plugin_with_its_bridge_to_the_pools_metadata() {
    let Some(stage) = stage().await else { return };
    let installed = install(stage, "istio-wasmplugin", &[&from_file(stage)]).await;
    let dump = complete(&installed).await;
    assert_eq!(installed.gateway.refused().await, [""; 0]);

    let (name, config) = module(&dump);
    assert_eq!(config["failure_policy"], "FAIL_RELOAD");
    assert_eq!(config["root_id"], "kvasir");
    assert_eq!(plugin(config)["mode"], "state");
    let filters = filters(&dump);
    assert_eq!(position(&filters, EXT_PROC), None);
    let order = [name, "envoy.filters.http.buffer", "envoy.filters.http.header_mutation", TO_METADATA, ROUTER];
    let places: Vec<_> = order.iter().map(|name| position(&filters, name).expect(name)).collect();
    assert!(places.is_sorted(), "{order:?} are at {places:?}");
    let setter = filters.iter().find(|filter| filter["name"] == "envoy.filters.http.header_mutation").unwrap();
    let header = setter.pointer("/typed_config/mutations/request_mutations/0/append/header").unwrap();
    assert_eq!(header, &json!({"key": STEERING, "value": "%FILTER_STATE(wasm.kvasir.endpoint:PLAIN)%"}));

    the_choice_is_ours_alone(&dump);
    upstreams_follow(&dump, &installed, &metadata());
    let cluster = installed.clusters.first().unwrap();
    assert_eq!(dump.endpoints(cluster), ["10.1.0.1:8000", "10.1.0.2:8000"]);
    let targets: Vec<_> = dump.routes().iter().map(|route| route.pointer("/route/cluster").unwrap().clone()).collect();
    assert_eq!(targets, [json!(cluster)]);
}

#[tokio::test]
async fn envoy_takes_over_the_holding_filter_and_a_route_for_each_pool() {
    let Some(stage) = stage().await else { return };
    let installed = install(stage, "istio-envoyfilter", &[&from_file(stage)]).await;
    let dump = complete(&installed).await;
    assert_eq!(installed.gateway.refused().await, [""; 0]);

    let (name, config) = module(&dump);
    assert_eq!(config["allow_on_headers_stop_iteration"], true);
    assert_eq!(config["failure_policy"], "FAIL_RELOAD");
    assert_eq!(plugin(config)["mode"], "hold");
    let filters = filters(&dump);
    assert_eq!(position(&filters, EXT_PROC), None);
    let places: Vec<_> = [name, TO_METADATA, ROUTER].iter().map(|name| position(&filters, name).expect(name)).collect();
    assert!(places.is_sorted(), "{places:?}");
    let limit = plugin(config)["max_body_bytes"].as_u64().unwrap();
    let buffer = dump.listeners().first().unwrap()["per_connection_buffer_limit_bytes"].as_u64().unwrap();
    assert!(buffer > limit, "a buffer of {buffer} for bodies of {limit}");

    the_choice_is_ours_alone(&dump);
    upstreams_follow(&dump, &installed, &metadata());
    let [llama, qwen] = installed.clusters.as_slice() else { panic!("{:?}", installed.clusters) };
    assert_eq!(dump.endpoints(qwen), ["10.1.0.1:8000", "10.1.0.1:8001", "10.1.0.2:8000", "10.1.0.2:8001"]);
    // The pool that a header names comes before the one that takes everything.
    let named = |route: &&Value| route.pointer("/match/headers/0/name").cloned();
    let routes = dump.routes();
    let targets: Vec<_> = routes.iter().map(|route| (route.pointer("/route/cluster").cloned(), named(route))).collect();
    assert_eq!(targets, [(Some(json!(qwen)), Some(json!("x-kvasir-pool"))), (Some(json!(llama)), None)]);
}

#[tokio::test]
async fn istio_asks_its_picker_after_the_filter_unless_that_is_taken_out() {
    let Some(stage) = stage().await else { return };
    let installed = install(stage, "istio-wasmplugin", &[&from_file(stage), "istio.removeExtProc=false"]).await;
    let dump = complete(&installed).await;
    assert_eq!(installed.gateway.refused().await, [""; 0]);
    let filters = filters(&dump);
    assert!(position(&filters, module(&dump).0).unwrap() < position(&filters, EXT_PROC).expect(EXT_PROC));
}

#[tokio::test]
async fn envoy_takes_over_a_services_cluster_that_follows_the_header_and_tls_to_the_control_plane() {
    let Some(stage) = stage().await else { return };
    let settings = [&*from_file(stage), "gateway.backend=Service", "tls.enabled=true"];
    let namespace = apply(stage, "istio-wasmplugin", &settings).await;
    endpoints(&namespace, "kvasir-llama", ("http-8000", 8000), &ENGINES).await;
    let cluster = format!("outbound|8000||kvasir-llama.{}.svc.cluster.local", namespace.name);
    let installed = start(stage, namespace, vec![cluster.clone()]).await;
    let dump = complete(&installed).await;
    assert_eq!(installed.gateway.refused().await, [""; 0]);
    assert_eq!(position(&filters(&dump), TO_METADATA), None);
    upstreams_follow(&dump, &installed, &json!({"header": STEERING}));
    let tls = dump.cluster("kvasir-controlplane").unwrap().pointer("/transport_socket/typed_config").unwrap();
    assert_eq!(tls["sni"], format!("kvasir.{}.svc.cluster.local", installed.namespace.name));
    assert!(tls.pointer("/common_tls_context/validation_context/trusted_ca/inline_string").is_some());
    let targets: Vec<_> = dump.routes().iter().map(|route| route.pointer("/route/cluster").unwrap().clone()).collect();
    assert_eq!(targets, [json!(cluster)]);
}

/// The conditions of an object for its Gateway, when they are written.
async fn conditions(namespace: &Namespace<'_>, kind: Kind, name: &str) -> Option<BTreeMap<String, String>> {
    let object = namespace.of(kind).get(name).await.unwrap();
    let all = object.data.pointer("/status/parents/0/conditions")?.as_array()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(all.iter().map(|condition| (text(&condition["type"]), text(&condition["status"]))).collect())
}

#[tokio::test]
async fn istio_accepts_the_route_and_the_pools_and_resolves_what_they_refer_to() {
    let Some(stage) = stage().await else { return };
    let namespace = apply(stage, "istio-envoyfilter", &[]).await;
    let good = BTreeMap::from(["Accepted", "ResolvedRefs"].map(|kind| (kind.to_owned(), "True".to_owned())));
    for (kind, name) in [(ROUTE, "kvasir"), (POOL, "llama"), (POOL, "qwen")] {
        let what = format!("{name}'s conditions are all true");
        eventually(&what, SOON * 2, async || conditions(&namespace, kind, name).await.as_ref() == Some(&good)).await;
    }
}

#[tokio::test]
async fn istios_agent_is_told_where_the_module_is() {
    let Some(stage) = stage().await else { return };
    // Without a checksum a WasmPlugin's message has none, which only the agent accepts.
    let digest = json!("4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865");
    for (mode, digest) in [("istio-wasmplugin", Value::Null), ("istio-envoyfilter", digest)] {
        let installed = install(stage, mode, &[]).await;
        let served = wait_for("istiod serves the module", SOON, async || {
            let dump = stage.istiod.served_to(&installed.gateway.name).await?;
            dump.extensions().first().map(|&filter| filter.clone())
        });
        let config = served.await["config"].take();
        let remote = config.pointer("/vmConfig/code/remote").unwrap();
        assert_eq!(remote.pointer("/httpUri/uri"), Some(&json!("oci://registry.example/kvasir-filter:0.1.0")));
        assert_eq!(remote["sha256"], digest);
        let pull = config.pointer("/vmConfig/environmentVariables/keyValues/ISTIO_META_WASM_IMAGE_PULL_POLICY");
        assert_eq!(pull, Some(&json!("IfNotPresent")));
        assert_eq!(config["failurePolicy"], "FAIL_RELOAD");
        assert_eq!(config["rootId"], "kvasir");
        assert_eq!(plugin(&config)["cluster"], "kvasir-controlplane");
    }
}
