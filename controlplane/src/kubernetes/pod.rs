//! A pod, stripped to what routing needs: a cluster's pods are thousands, and their specs are long. Ready means what
//! Kubernetes means by it; a pod that is being deleted is never ready here, whatever its condition still says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;

use super::object::{Kept, Meta, Wire};

/// Which of a pod's ports serve, such as `8000,8001`; the newer name wins.
const ACTIVE_PORTS: [&str; 2] = ["llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports"];

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The node it runs on.
    pub node: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its address; `None`: none yet, or it has run its course and the address may be another pod's.
    pub ip: Option<IpAddr>,
    /// Ready, and not about to go.
    pub ready: bool,
    /// The ports that serve, when it says so.
    pub active_ports: Option<BTreeSet<u16>>,
    /// The ports that its containers declare.
    pub declared_ports: BTreeSet<u16>,
}

/// A pod as the server sends it.
#[derive(Clone, Debug, Deserialize)]
pub struct WirePod {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    node_name: Option<String>,
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Option<Vec<Container>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Container {
    #[serde(default)]
    ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    container_port: u16,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    phase: Option<String>,
    #[serde(rename = "podIP", default)]
    pod_ip: Option<String>,
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

impl Wire for WirePod {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl Kept for Pod {
    type Wire = WirePod;

    fn read(object: WirePod) -> Result<Self, String> {
        let WirePod { metadata, spec, status } = object;
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let ip = match status.pod_ip.as_deref().filter(|ip| !ip.is_empty() && !ended) {
            None => None,
            Some(ip) => Some(ip.parse().map_err(|_| format!("status.podIP: must be an IP address, got {ip:?}"))?),
        };
        let ready = status.conditions.iter().flatten().any(|c| c.r#type == "Ready" && c.status == "True");
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let declared_ports =
            containers.flat_map(|container| container.ports.iter().flatten()).map(|port| port.container_port).collect();
        let annotations = metadata.annotations.unwrap_or_default();
        Ok(Self {
            active_ports: ACTIVE_PORTS.iter().find_map(|name| annotations.get(*name)).map(|text| ports(text)),
            name: metadata.name,
            namespace: metadata.namespace,
            node: spec.node_name.filter(|node| !node.is_empty()),
            labels: metadata.labels.unwrap_or_default(),
            ip,
            ready: ready && metadata.deletion_timestamp.is_none(),
            declared_ports,
        })
    }
}

/// The numbers of a list; what is none is left out, as llm-d does.
fn ports(text: &str) -> BTreeSet<u16> {
    text.split(',').filter_map(|port| port.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(value: Value) -> Pod {
        Pod::read(serde_json::from_value(value).unwrap()).unwrap()
    }

    fn running() -> Value {
        json!({
            "metadata": {"name": "a", "namespace": "n", "labels": {"app": "vllm"}, "managedFields": [{"x": 1}]},
            "spec": {"nodeName": "gpu-1", "containers": [{"name": "c", "ports": [{"containerPort": 8000}]}]},
            "status": {
                "phase": "Running", "podIP": "10.0.0.1",
                "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}],
            },
        })
    }

    #[test]
    fn a_running_pod_is_read() {
        let pod = pod(running());
        assert_eq!((pod.name.as_str(), pod.namespace.as_str(), pod.node.as_deref()), ("a", "n", Some("gpu-1")));
        assert_eq!((pod.ip, pod.ready), (Some("10.0.0.1".parse().unwrap()), true));
        assert_eq!((pod.active_ports, pod.declared_ports), (None, BTreeSet::from([8000])));
    }

    #[test]
    fn a_pod_is_not_ready_without_the_condition_or_while_it_goes() {
        for (path, value) in [
            ("/status/conditions/1/status", json!("False")),
            ("/status/conditions/1/status", json!("Unknown")),
            ("/status/conditions", Value::Null),
            ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        ] {
            let mut object = running();
            object["metadata"]["deletionTimestamp"] = Value::Null;
            *object.pointer_mut(path).unwrap() = value;
            assert!(!pod(object).ready, "{path}");
        }
    }

    #[test]
    fn a_pod_that_has_ended_has_no_address() {
        for phase in ["Succeeded", "Failed"] {
            let mut object = running();
            object["status"]["phase"] = json!(phase);
            assert_eq!(pod(object).ip, None);
        }
    }

    #[test]
    fn active_ports_are_read_by_either_name_and_the_new_one_wins() {
        let with = |annotations: Value| {
            let mut object = running();
            object["metadata"]["annotations"] = annotations;
            pod(object).active_ports
        };
        let [new, old] = ACTIVE_PORTS;
        assert_eq!(with(json!({old: "8000, 8001"})), Some(BTreeSet::from([8000, 8001])));
        assert_eq!(with(json!({new: "8000,x,99999", old: "8001"})), Some(BTreeSet::from([8000])));
        assert_eq!(with(json!({new: ""})), Some(BTreeSet::new()));
        assert_eq!(with(json!({"other": "1"})), None);
    }

    #[test]
    fn a_bare_pod_is_read_and_a_bad_address_is_named() {
        let bare = pod(json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"containers": []}}));
        assert!(!bare.ready && bare.ip.is_none());
        let object = json!({"metadata": {}, "status": {"podIP": "nowhere"}});
        let told = Pod::read(serde_json::from_value(object).unwrap()).unwrap_err();
        assert_eq!(told, "status.podIP: must be an IP address, got \"nowhere\"");
    }
}
