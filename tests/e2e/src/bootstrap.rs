//! What an Envoy is started with: what `kvasir envoy` prints, or the same with Envoy's ext_proc filter in the place of
//! Kvasir's own, as gateways with InferencePool support set it up.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::binaries::Binaries;

/// What `kvasir envoy` prints, with the control plane at `grpc`.
pub(crate) fn render(binaries: &Binaries, folder: &Path, config: &str, grpc: &str) -> Value {
    let known = config.replace("edsDirectory:", &format!("controlPlane: '{grpc}', edsDirectory:"));
    std::fs::write(folder.join("rendered.yaml"), known).unwrap();
    let mut command = Command::new(&binaries.kvasir);
    command.args(["envoy", "--config", "rendered.yaml"]).current_dir(folder);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The filter's place is taken by external processing as gateways with InferencePool support set it up, and nothing keeps
/// clients' headers from it.
pub(crate) fn ask_the_picker(bootstrap: &mut Value) {
    let manager = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    manager.as_object_mut().unwrap().remove("early_header_mutation_extensions").unwrap();
    let filters = manager["http_filters"].as_array_mut().unwrap();
    filters.retain(|filter| filter["name"] == "envoy.filters.http.router");
    filters.insert(0, ext_proc("kvasir-controlplane"));
}

/// The filter that asks the endpoint picker in `cluster`.
fn ext_proc(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.http.ext_proc",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": cluster}},
            "failure_mode_allow": false,
            "message_timeout": "1000s",
            "processing_mode": {
                "request_header_mode": "SEND",
                "response_header_mode": "SEND",
                "request_body_mode": "FULL_DUPLEX_STREAMED",
                "response_body_mode": "FULL_DUPLEX_STREAMED",
                "request_trailer_mode": "SEND",
                "response_trailer_mode": "SEND",
            },
            "response_attributes": ["upstream.address"],
            "metadata_options": {
                "forwarding_namespaces": {"untyped": ["envoy.lb", "envoy.lb.subset_hint"]},
                "receiving_namespaces": {"untyped": ["envoy.lb"]},
            },
        },
    })
}

/// Envoy's endpoint file, where no control plane writes it.
pub(crate) fn write_eds(folder: &Path, addresses: &[&String]) {
    let hosts: Vec<Value> = addresses
        .iter()
        .filter_map(|address| address.rsplit_once(':'))
        .map(|(ip, port)| {
            let port: u16 = port.parse().unwrap();
            json!({"endpoint": {"address": {"socket_address": {"address": ip, "port_value": port}}}})
        })
        .collect();
    let response = json!({"resources": [{
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": "kvasir-pool-llama",
        "endpoints": [{"lb_endpoints": hosts}],
    }]});
    std::fs::write(folder.join("eds/llama.json"), response.to_string()).unwrap();
}
