//! Envoy Gateway without Kubernetes: it reads objects from files and runs Envoy itself. It listens on ports that nothing can
//! change (18000 to 18002, 19000 to 19003, 8081): one at a time on a machine.
//!
//! Its Envoy fetches modules from a name that only a cluster knows, with a certificate authority that its own server does not
//! trust. A patch of that one upstream mends both; what is attached to routes and listeners stays as in a cluster.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::process::Process;
use serde_json::{Value, json};

use crate::folder::Folder;
use crate::ports::free_port;
use crate::tools::Tools;

/// Where everything is that has a namespace.
pub const NAMESPACE: &str = "envoy-gateway-system";
/// The Gateway that routes and policies refer to; its only listener is called `http`.
pub const GATEWAY: &str = "gateway";
/// Which Envoy the given binary is said to be: Envoy Gateway looks for a folder of this name.
const ENVOY_VERSION: &str = "1.40.0";
const POLICIES: &str = "gateway.envoyproxy.io/v1alpha1";
const ROUTES: &str = "gateway.networking.k8s.io/v1";
const CLASS: &str = "gateway.envoyproxy.io/gatewayclass-controller";

/// How long its Envoy may take until it serves.
pub const START: Duration = Duration::from_secs(90);

/// A running Envoy Gateway and its Envoy, which ends with it.
#[derive(Debug)]
pub struct EnvoyGateway {
    /// `ip:port` of its listener.
    pub address: String,
    _process: Process,
}

impl EnvoyGateway {
    /// Starts it with `objects` beside a Gateway. It serves some time after this returns.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(tools: &Tools, envoy: &Path, folder: &Folder, objects: &[Value]) -> Self {
        let program = tools.binary("envoy-gateway");
        let homes =
            ["config", "data", "state", "run", "objects"].map(|name| folder.file(&format!("envoy-gateway/{name}")));
        for home in &homes {
            std::fs::create_dir_all(home).unwrap();
        }
        let [config, data, state, run, watched] = homes;
        let place = Path::new(&data).join("envoy-versions").join(ENVOY_VERSION).join("bin");
        std::fs::create_dir_all(&place).unwrap();
        std::os::unix::fs::symlink(envoy, place.join("envoy")).unwrap();
        let made = Command::new(&program).args(["certgen", "--local", "--config-home", &config]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

        let port = free_port();
        let mut all = gateway(port, &format!("{config}/certs/envoy"));
        all.extend_from_slice(objects);
        let documents: Vec<_> = all.iter().map(Value::to_string).collect();
        std::fs::write(format!("{watched}/objects.yaml"), documents.join("\n---\n")).unwrap();
        let host = json!({"configHome": config, "dataHome": data, "stateHome": state, "runtimeDir": run});
        let settings = json!({
            "apiVersion": POLICIES,
            "kind": "EnvoyGateway",
            "gateway": {"controllerName": CLASS},
            "provider": {"type": "Custom", "custom": {
                "resource": {"type": "File", "file": {"paths": [watched]}},
                "infrastructure": {"type": "Host", "host": host},
            }},
            "extensionApis": {"enableBackend": true, "enableEnvoyPatchPolicy": true},
        });
        let settings_file = folder.file("envoy-gateway.yaml");
        std::fs::write(&settings_file, settings.to_string()).unwrap();
        let process =
            Process::start(folder.path(), "envoy-gateway", &program, &["server", "--config-path", &settings_file]);
        Self { address: format!("127.0.0.1:{port}"), _process: process }
    }
}

/// An object of Envoy Gateway's own or of the Gateway API's group.
#[must_use]
pub fn object(kind: &str, name: &str, spec: Value) -> Value {
    let version = if ["GatewayClass", "Gateway", "HTTPRoute"].contains(&kind) { ROUTES } else { POLICIES };
    let metadata = json!({"name": name, "namespace": NAMESPACE});
    json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
}

/// A reference to [`GATEWAY`], as policies and routes have it.
#[must_use]
pub fn gateway_ref() -> Value {
    json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": GATEWAY})
}

fn gateway(port: u16, certificates: &str) -> Vec<Value> {
    let proxy = json!({"provider": {"type": "Host", "host": {"envoyVersion": ENVOY_VERSION}}});
    let parameters =
        json!({"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "host", "namespace": NAMESPACE});
    let listener = json!({"name": "http", "protocol": "HTTP", "port": port});
    let tls = json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            // Its server refuses Envoy's default, which is 1.2 for clients.
            "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [{
                "certificate_chain": {"filename": format!("{certificates}/tls.crt")},
                "private_key": {"filename": format!("{certificates}/tls.key")},
            }],
            "validation_context": {"trusted_ca": {"filename": format!("{certificates}/ca.crt")}},
        },
    }});
    let address = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address";
    let patches: Vec<_> = [(address, json!("127.0.0.1")), ("/transport_socket", tls)]
        .into_iter()
        .map(|(path, value)| {
            json!({
                "type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                "name": "wasm_cluster",
                "operation": {"op": "replace", "path": path, "value": value},
            })
        })
        .collect();
    vec![
        object("EnvoyProxy", "host", proxy),
        object("GatewayClass", "host", json!({"controllerName": CLASS, "parametersRef": parameters})),
        object("Gateway", GATEWAY, json!({"gatewayClassName": "host", "listeners": [listener]})),
        object(
            "EnvoyPatchPolicy",
            "modules",
            json!({"targetRef": gateway_ref(), "type": "JSONPatch", "jsonPatches": patches}),
        ),
    ]
}
