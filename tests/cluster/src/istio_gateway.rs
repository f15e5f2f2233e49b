//! A gateway of Istio's: a stock Envoy that takes everything from istiod, and the Service, pod and EndpointSlices that a
//! cluster with controllers would have. Istio's own proxy has an agent between the two: nobody here fetches a module from a
//! registry, so one that Envoy is to load has to be named as `file://`.

use std::path::Path;

use e2e::process::Process;
use e2e::wait::{SOON, eventually, wait_for};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use crate::config_dump::ConfigDump;
use crate::istiod::Istiod;
use crate::namespace::{Namespace, from_json};
use crate::pods::NewPod;
use crate::ports::free_port;

const LABEL: &str = "gateway.networking.k8s.io/gateway-name";
const POOL_LABEL: &str = "istio.io/inferencepool-name";
/// Of the gateway's pod; nothing listens there. Unlike an EndpointSlice, Envoy needs no address that can be reached.
const ADDRESS: [u8; 4] = [10, 9, 0, 1];

/// A running gateway.
#[derive(Debug)]
pub struct IstioGateway {
    /// How istiod calls it.
    pub name: String,
    admin: String,
    _process: Process,
}

impl IstioGateway {
    /// Starts the gateway of the Gateway `name`, which is in `namespace`.
    ///
    /// # Panics
    /// When a part of it is refused, or Envoy does not start.
    pub async fn start(istiod: &Istiod, namespace: &Namespace<'_>, name: &str, envoy: &Path) -> Self {
        let port = free_port();
        let service = format!("{name}-istio");
        let ports = json!([{"name": "http", "port": 80, "targetPort": port}]);
        let object = json!({
            "metadata": {"name": service, "labels": {LABEL: name}},
            "spec": {"selector": {LABEL: name}, "ports": ports},
        });
        let services: Api<Service> = namespace.api();
        services.create(&PostParams::default(), &from_json(object)).await.unwrap();
        namespace.run(NewPod::new("gateway", ADDRESS).label(LABEL, name)).await;
        endpoints(namespace, &service, ("http", port), &["10.9.0.1"]).await;

        let folder = tempfile::Builder::new().prefix("istio-gateway-").tempdir_in(namespace.cluster().folder().path());
        let folder = folder.unwrap().keep();
        std::fs::write(folder.join("envoy.json"), bootstrap(istiod.xds, &namespace.name, name).to_string()).unwrap();
        let mut arguments = vec!["--config-path", "envoy.json", "--admin-address-path", "admin", "--concurrency", "1"];
        arguments.extend(["--use-dynamic-base-id", "--log-level", "warn"]);
        let process = Process::start(&folder, "envoy", envoy, &arguments);
        let written = wait_for("Envoy's admin interface", SOON, async || {
            std::fs::read_to_string(folder.join("admin")).ok().filter(|text| !text.is_empty())
        });
        let admin = written.await;
        Self { name: format!("gateway.{}", namespace.name), admin, _process: process }
    }

    async fn ask(&self, path: &str) -> reqwest::Response {
        reqwest::get(format!("http://{}/{path}", self.admin)).await.unwrap()
    }

    /// What Envoy has taken over.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn dump(&self) -> ConfigDump {
        ConfigDump::new(self.ask("config_dump?include_eds").await.json().await.unwrap())
    }

    /// Waits until a route and all that it leads to have arrived, and `complete` holds.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn eventually(&self, what: &str, mut complete: impl FnMut(&ConfigDump) -> bool) -> ConfigDump {
        eventually(what, SOON, async || complete(&self.dump().await)).await;
        self.dump().await
    }

    /// The kinds of configuration that Envoy refused, by its statistics' names.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn refused(&self) -> Vec<String> {
        let all = self.ask("stats?filter=update_rejected").await.text().await.unwrap();
        all.lines().filter(|line| !line.ends_with(": 0")).map(str::to_owned).collect()
    }
}

/// Gives the pool's Service, which istiod makes, those endpoints; returns Istio's name of its cluster.
///
/// # Panics
/// When istiod does not make it.
pub async fn populate(namespace: &Namespace<'_>, pool: &str, ports: &[u16], addresses: &[&str]) -> String {
    let services: Api<Service> = namespace.api();
    let chosen = ListParams::default().labels(&format!("{POOL_LABEL}={pool}"));
    let made = wait_for("istiod makes the pool's Service", SOON * 2, async || {
        services.list(&chosen).await.unwrap().items.into_iter().find_map(|service| service.metadata.name)
    });
    let service = made.await;
    for (index, &port) in ports.iter().enumerate() {
        endpoints(namespace, &service, (&format!("http-{index}"), port), addresses).await;
    }
    format!("outbound|54321||{service}.{}.svc.cluster.local", namespace.name)
}

/// Gives a port of a Service, by its name and number, those endpoints.
///
/// # Panics
/// When they are refused, as loopback addresses are.
pub async fn endpoints(namespace: &Namespace<'_>, service: &str, port: (&str, u16), addresses: &[&str]) {
    let endpoints: Vec<_> =
        addresses.iter().map(|address| json!({"addresses": [address], "conditions": {"ready": true}})).collect();
    let object = json!({
        "metadata": {"generateName": format!("{service}-"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": port.0, "port": port.1}],
        "endpoints": endpoints,
    });
    let slices: Api<EndpointSlice> = namespace.api();
    slices.create(&PostParams::default(), &from_json(object)).await.unwrap();
}

/// As Istio's agent writes it, without what only its own Envoy knows.
fn bootstrap(xds: u16, namespace: &str, gateway: &str) -> Value {
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let [a, b, c, d] = ADDRESS;
    let metadata = json!({
        "NAME": "gateway",
        "NAMESPACE": namespace,
        "CLUSTER_ID": "Kubernetes",
        "ISTIO_VERSION": "1.31.0",
        "LABELS": {LABEL: gateway},
    });
    let node = json!({
        "id": format!("router~{a}.{b}.{c}.{d}~gateway.{namespace}~{namespace}.svc.cluster.local"),
        "cluster": gateway,
        "metadata": metadata,
    });
    let by_ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    let options = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }});
    let istiod = json!({
        "name": "xds-grpc",
        "type": "STATIC",
        "typed_extension_protocol_options": options,
        "load_assignment": {
            "cluster_name": "xds-grpc",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(xds)}}]}],
        },
    });
    let ads = json!({
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": true,
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
    });
    json!({
        "node": node,
        "admin": {"address": address(0)},
        "dynamic_resources": {"ads_config": ads, "lds_config": by_ads, "cds_config": by_ads},
        "static_resources": {"clusters": [istiod]},
    })
}
