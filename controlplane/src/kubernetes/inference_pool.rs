//! InferencePool, in both of its groups: `inference.networking.k8s.io/v1` and, where a cluster has only that,
//! `inference.networking.x-k8s.io/v1alpha2`, whose fields have other names. A server with an older or no schema may
//! hand out anything: ranges are checked here again.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::object::{Kept, Object, spec};

/// An InferencePool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferencePool {
    /// Labels that its pods have, all of them; at least one.
    pub selector: BTreeMap<String, String>,
    /// Each is an endpoint of every pod; at least one, each once.
    pub ports: Vec<u16>,
    /// Name of the Service that picks its endpoints.
    pub picker: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    selector: Selector,
    #[serde(default)]
    target_ports: Vec<Port>,
    #[serde(default)]
    target_port_number: Option<u16>,
    #[serde(alias = "extensionRef", default)]
    endpoint_picker_ref: Option<Reference>,
}

/// Tried in this order: labels cannot be called `matchLabels` and hold a mapping.
#[derive(Deserialize)]
#[serde(untagged, expecting = "must be labels, or matchLabels with labels")]
enum Selector {
    #[serde(rename_all = "camelCase")]
    Nested {
        match_labels: BTreeMap<String, String>,
    },
    Plain(BTreeMap<String, String>),
}

#[derive(Deserialize)]
struct Port {
    number: u16,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    #[serde(default)]
    kind: Option<String>,
}

impl Kept for InferencePool {
    type Wire = Object;

    fn read(object: Object) -> Result<Self, String> {
        let raw: Spec = spec(object.spec)?;
        let (Selector::Nested { match_labels: selector } | Selector::Plain(selector)) = raw.selector;
        if selector.is_empty() {
            return Err("spec.selector: must have a label, got none".to_owned());
        }
        let ports: Vec<u16> = raw.target_ports.iter().map(|port| port.number).chain(raw.target_port_number).collect();
        let unique: BTreeSet<u16> = ports.iter().copied().collect();
        if ports.is_empty() || unique.len() != ports.len() || unique.contains(&0) {
            return Err(format!("spec.targetPorts: must be ports, each once, got {ports:?}"));
        }
        let service = |reference: &Reference| reference.kind.as_deref().is_none_or(|kind| kind == "Service");
        let picker = raw.endpoint_picker_ref.filter(service).map(|reference| reference.name);
        Ok(Self { selector, ports, picker })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: Value) -> Result<InferencePool, String> {
        InferencePool::read(serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap())
    }

    fn labels() -> BTreeMap<String, String> {
        BTreeMap::from([("app".to_owned(), "vllm".to_owned())])
    }

    #[test]
    fn v1_is_read() {
        let pool = read(json!({
            "selector": {"matchLabels": {"app": "vllm"}},
            "targetPorts": [{"number": 8000}, {"number": 8001}],
            "appProtocol": "http",
            "endpointPickerRef": {"group": "", "kind": "Service", "name": "kvasir", "port": {"number": 9002}},
        }));
        let ports = vec![8000, 8001];
        assert_eq!(pool, Ok(InferencePool { selector: labels(), ports, picker: Some("kvasir".to_owned()) }));
    }

    #[test]
    fn v1alpha2_is_read() {
        let pool = read(json!({
            "selector": {"app": "vllm"}, "targetPortNumber": 8000, "extensionRef": {"name": "kvasir"},
        }));
        assert_eq!(
            pool.unwrap(),
            InferencePool { selector: labels(), ports: vec![8000], picker: Some("kvasir".to_owned()) }
        );
    }

    #[test]
    fn a_pool_without_a_picker_or_with_another_kind_of_one_names_no_service() {
        let with = |picker: Value| {
            let base =
                json!({"selector": {"app": "vllm"}, "targetPorts": [{"number": 1}], "endpointPickerRef": picker});
            read(base).unwrap().picker
        };
        assert_eq!(with(Value::Null), None);
        assert_eq!(with(json!({"kind": "Other", "name": "kvasir"})), None);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        for (spec, told) in [
            (Value::Null, "spec"),
            (json!({"targetPorts": [{"number": 1}]}), "spec: missing field `selector`"),
            (json!({"selector": {}, "targetPorts": [{"number": 1}]}), "spec.selector: must have a label"),
            (json!({"selector": {"matchLabels": {"a": 1}}}), "spec.selector: must be labels"),
            (json!({"selector": {"a": "b"}, "targetPorts": [{"number": 70_000}]}), "spec.targetPorts[0].number: "),
            (json!({"selector": {"a": "b"}, "targetPorts": [{"number": 0}]}), "spec.targetPorts: must be ports"),
            (json!({"selector": {"a": "b"}, "targetPorts": []}), "spec.targetPorts: must be ports, each once, got []"),
            (
                json!({"selector": {"a": "b"}, "targetPorts": [{"number": 1}, {"number": 1}]}),
                "spec.targetPorts: must be ports, each once, got [1, 1]",
            ),
        ] {
            let error = read(spec.clone()).unwrap_err();
            assert!(error.starts_with(told), "{spec}: {error}");
        }
    }
}
