//! The filter attached by Envoy Gateway's own means, on a real Envoy: what the chart's mode `envoy-gateway` relies on.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail, and say why")]

use cluster::envoy_gateway::{EnvoyGateway, GATEWAY, START, gateway_ref, object};
use cluster::file_server;
use cluster::folder::Folder;
use cluster::tools::Tools;
use e2e::binaries::Binaries;
use e2e::client::{Client, Version, answer, try_answer};
use e2e::control_plane::ControlPlane;
use e2e::prompts::{chat, prose};
use e2e::sim::Sim;
use e2e::wait::eventually;
use reqwest::Method;
use serde_json::{Value, json};

const LIMIT: usize = 1 << 20;
const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

/// The upstream of the filter's stream, and what an EnvoyExtensionPolicy cannot say.
fn patches(control_plane: &str) -> Value {
    let (host, port) = control_plane.rsplit_once(':').unwrap();
    let address = json!({"socket_address": {"address": host, "port_value": port.parse::<u16>().unwrap()}});
    let upstream = json!({
        "name": "kvasir-controlplane",
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "kvasir-controlplane",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
    });
    // Found by what it is: the name of the filter differs between providers of Envoy Gateway.
    let filter = "..http_filters[?(@.typed_config.config.root_id=='kvasir')].typed_config.config";
    let hold = json!({"op": "add", "jsonPath": filter, "path": "/allow_on_headers_stop_iteration", "value": true});
    json!([
        {"type": CLUSTER, "name": "kvasir-controlplane", "operation": {"op": "add", "path": "", "value": upstream}},
        {"type": LISTENER, "name": format!("envoy-gateway-system/{GATEWAY}/http"), "operation": hold},
    ])
}

fn objects(module: &str, control_plane: &str, engines: &[String]) -> Vec<Value> {
    let endpoints: Vec<_> = engines
        .iter()
        .filter_map(|engine| engine.rsplit_once(':'))
        .map(|(ip, port)| json!({"ip": {"address": ip, "port": port.parse::<u16>().unwrap()}}))
        .collect();
    let backend = json!({"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "pool"});
    let settings = json!({"cluster": "kvasir-controlplane", "pool": "llama", "mode": "hold", "max_body_bytes": LIMIT});
    let filter = json!({
        "name": "kvasir",
        "rootID": "kvasir",
        "code": {"type": "HTTP", "http": {"url": module}},
        "config": settings,
    });
    let steering = json!({"type": "LeastRequest", "endpointOverride": {"extractFrom": [{"header": "x-gateway-destination-endpoint"}]}});
    let patched = json!({"targetRef": gateway_ref(), "type": "JSONPatch", "jsonPatches": patches(control_plane)});
    vec![
        object("Backend", "pool", json!({"endpoints": endpoints})),
        object("HTTPRoute", "llm", json!({"parentRefs": [{"name": GATEWAY}], "rules": [{"backendRefs": [backend]}]})),
        object("BackendTrafficPolicy", "llm", json!({"targetRefs": [gateway_ref()], "loadBalancer": steering})),
        object(
            "ClientTrafficPolicy",
            "llm",
            json!({"targetRefs": [gateway_ref()], "connection": {"bufferLimit": "2Mi"}}),
        ),
        object("EnvoyExtensionPolicy", "kvasir", json!({"targetRefs": [gateway_ref()], "wasm": [filter]})),
        object("EnvoyPatchPolicy", "kvasir", patched),
    ]
}

/// How many endpoints the filter weighs; none before it decides at all.
async fn candidates(client: &Client) -> usize {
    let asked = client.post("/v1/chat/completions", chat("hello", 1).to_string());
    match try_answer(asked).await {
        Ok(answer) if !answer.header("x-kvasir-decision").is_empty() => {
            answer.decision().get("candidates").and_then(Value::as_array).map_or(0, Vec::len)
        }
        Ok(_) | Err(_) => 0,
    }
}

#[tokio::test]
async fn requests_go_where_the_filter_says_up_to_its_limit_and_without_a_control_plane() {
    let (Some(tools), Some(binaries)) = (Tools::find(&["envoy-gateway"]), Binaries::find()) else { return };
    let folder = Folder::new();
    let sim = Sim::start(&binaries, folder.path(), 3, &["--speedup=10".to_owned()]).await;
    std::fs::write(folder.file("endpoints.json"), json!(sim.addresses).to_string()).unwrap();
    let pool =
        json!({"name": "llama", "explain": true, "discovery": {"file": {"path": "endpoints.json"}}, "maxBody": LIMIT});
    let listen = json!({"grpc": "127.0.0.1:0", "http": "127.0.0.1:0"});
    std::fs::write(folder.file("kvasir.yaml"), json!({"listen": listen, "pools": [pool]}).to_string()).unwrap();
    let control_plane = ControlPlane::start(&binaries, folder.path(), "kvasir.yaml").await;
    let module = file_server::serve(&binaries.wasm).await;
    let objects = objects(&module, &control_plane.grpc, &sim.addresses);
    let gateway = EnvoyGateway::start(&tools, &binaries.envoy, &folder, &objects);
    let client = Client::new(&gateway.address, Version::Http1);
    eventually("the filter chooses among three", START, async || candidates(&client).await == 3).await;

    // Far above the 32 KiB that Envoy Gateway holds unless told otherwise.
    let prompt = prose(7, 200_000);
    let first = client.ask(&prompt).await;
    assert_eq!(first.status, 200, "{first:?}");
    for _ in 0..3 {
        assert_eq!(client.ask(&prompt).await.engine(), first.engine());
    }

    assert_eq!(client.ask(&"x".repeat(LIMIT)).await.status, 413);

    // The control plane's own HTTP port: an address that is no endpoint.
    let steered = client.request(Method::GET, "/readyz").header("x-gateway-destination-endpoint", &control_plane.http);
    assert_ne!(answer(steered).await.status, 200);

    drop(control_plane);
    assert_eq!(client.ask(&prompt).await.engine(), first.engine());
}
