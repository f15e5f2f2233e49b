//! Endpoint lists as values → endpoints, pure. Two forms are accepted, in YAML or JSON, and may be mixed: Kvasir's own
//! (`ip:port`, or `{address: ip:port, labels, draining, metrics}`) and that of llm-d's `file-discovery` plugin
//! (`{name, namespace, address: ip, port: "8000", labels, metricsHost}`). A list with one bad entry is refused whole:
//! a half-applied file would look like an outage of the other half.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value};
use shared::identity::MAX_ENDPOINTS;

use crate::config::Problem;
use crate::datastore::Discovered;

/// Larger files are refused, as by llm-d.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

const FIELDS: [&str; 8] = ["address", "port", "labels", "draining", "metrics", "name", "namespace", "metricsHost"];

/// The endpoints of a file: a list, or a mapping with the list under `endpoints`.
///
/// # Errors
/// The first thing that is wrong, with its path; the path is empty when the text is not YAML at all.
pub fn parse(text: &str) -> Result<Vec<Discovered>, Problem> {
    let document: Value = crate::config::deserialize(text).map_err(|error| Problem {
        path: "endpoints file".to_owned(),
        rule: "must be YAML or JSON".to_owned(),
        value: error,
    })?;
    match &document {
        Value::Object(fields) => {
            if let Some(unknown) = fields.keys().find(|key| *key != "endpoints") {
                return Err(problem("endpoints file", "must have the one key endpoints", format!("{unknown:?}")));
            }
            endpoints(fields.get("endpoints").unwrap_or(&Value::Null), "endpoints")
        }
        list @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            endpoints(list, "endpoints")
        }
    }
}

/// The endpoints of a list that stands at `path`.
///
/// # Errors
/// The first thing that is wrong, with its path.
pub fn endpoints(list: &Value, path: &str) -> Result<Vec<Discovered>, Problem> {
    let entries = match list {
        Value::Array(entries) => entries.as_slice(),
        Value::Null => &[],
        other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            return Err(problem(path, "must be a list", shown(other)));
        }
    };
    if entries.len() > usize::from(MAX_ENDPOINTS) {
        return Err(problem(path, format!("must have at most {MAX_ENDPOINTS} entries"), entries.len().to_string()));
    }
    let mut seen = BTreeSet::new();
    let mut found = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let endpoint = endpoint(entry, &path)?;
        if !seen.insert(endpoint.address.clone()) {
            return Err(problem(path, "must be listed once", endpoint.address));
        }
        found.push(endpoint);
    }
    Ok(found)
}

fn endpoint(entry: &Value, path: &str) -> Result<Discovered, Problem> {
    match entry {
        Value::String(text) => Ok(Discovered {
            address: socket(text, path)?.to_string(),
            labels: BTreeMap::new(),
            draining: false,
            metrics: None,
        }),
        Value::Object(fields) => from_fields(fields, path),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
            Err(problem(path, "must be ip:port or a mapping with an address", shown(other)))
        }
    }
}

fn from_fields(fields: &Map<String, Value>, path: &str) -> Result<Discovered, Problem> {
    if let Some(unknown) = fields.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(problem(path, format!("must have no other fields than {}", FIELDS.join(", ")), unknown.clone()));
    }
    let mut labels = labels(fields.get("labels"), path)?;
    for key in ["name", "namespace"] {
        if let Some(value) = text(fields, key, path)? {
            labels.entry(key.to_owned()).or_insert(value);
        }
    }
    let flagged = match fields.get("draining") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(draining)) => *draining,
        Some(other) => return Err(problem(format!("{path}.draining"), "must be true or false", shown(other))),
    };
    let draining = flagged || labels.get("draining").is_some_and(|value| value == "true");
    let metrics = text(fields, "metrics", path)?.or(text(fields, "metricsHost", path)?);
    if let Some(metrics) = &metrics {
        let port =
            metrics.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, p)| p.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) {
            return Err(problem(format!("{path}.metrics"), "must be host:port", format!("{metrics:?}")));
        }
    }
    Ok(Discovered { address: address(fields, path)?.to_string(), labels, draining, metrics })
}

fn address(fields: &Map<String, Value>, path: &str) -> Result<SocketAddr, Problem> {
    let here = format!("{path}.address");
    let Some(address) = text(fields, "address", path)? else {
        return Err(problem(here, "must be given", "nothing"));
    };
    let Some(port) = fields.get("port") else { return socket(&address, &here) };
    let number = match port {
        Value::String(text) => text.parse::<u16>().ok(),
        Value::Number(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let number = number
        .filter(|&number| number > 0)
        .ok_or_else(|| problem(format!("{path}.port"), "must be between 1 and 65535", shown(port)))?;
    let ip: IpAddr = address
        .parse()
        .map_err(|_| problem(here, "must be an IP address when port is given", format!("{address:?}")))?;
    Ok(SocketAddr::new(ip, number))
}

fn socket(text: &str, path: &str) -> Result<SocketAddr, Problem> {
    text.parse::<SocketAddr>()
        .ok()
        .filter(|address| address.port() > 0)
        .ok_or_else(|| problem(path, "must be ip:port", format!("{text:?}")))
}

fn labels(value: Option<&Value>, path: &str) -> Result<BTreeMap<String, String>, Problem> {
    let here = format!("{path}.labels");
    match value {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(fields)) => fields
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) => Ok((key.clone(), text.clone())),
                Value::Bool(_) | Value::Number(_) => Ok((key.clone(), value.to_string())),
                other @ (Value::Null | Value::Array(_) | Value::Object(_)) => {
                    Err(problem(format!("{here}.{key}"), "must be text", shown(other)))
                }
            })
            .collect(),
        Some(other) => Err(problem(here, "must be a mapping", shown(other))),
    }
}

fn text(fields: &Map<String, Value>, key: &str, path: &str) -> Result<Option<String>, Problem> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(other) => Err(problem(format!("{path}.{key}"), "must be text", shown(other))),
    }
}

fn problem(path: impl Into<String>, rule: impl Into<String>, value: impl Into<String>) -> Problem {
    Problem { path: path.into(), rule: rule.into(), value: value.into() }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 60 { format!("{}…", text.chars().take(60).collect::<String>()) } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn own_form_as_list_or_under_a_key_in_yaml_or_json() {
        let yaml =
            parse("- 10.0.0.1:8000\n- {address: 10.0.0.2:8000, labels: {zone: a, gpus: 2}, draining: true}\n").unwrap();
        assert_eq!(yaml[0].address, "10.0.0.1:8000");
        assert_eq!((yaml[1].labels["zone"].as_str(), yaml[1].labels["gpus"].as_str()), ("a", "2"));
        assert!(!yaml[0].draining && yaml[1].draining);
        let json = r#"{"endpoints": ["10.0.0.1:8000", {"address": "[::1]:80", "metrics": "10.0.0.9:9400"}]}"#;
        let json = parse(json).unwrap();
        assert_eq!((json[1].address.as_str(), json[1].metrics.as_deref()), ("[::1]:80", Some("10.0.0.9:9400")));
    }

    #[test]
    fn llm_d_file_discovery_form() {
        let text = r#"
endpoints:
  - name: vllm-0
    namespace: prod
    address: "10.0.0.1"
    port: "8000"
    labels: {llm-d.ai/role: decode}
  - {name: vllm-1, address: 10.0.0.2, port: 8000, metricsHost: "10.0.0.2:9400"}
"#;
        let found = parse(text).unwrap();
        assert_eq!(found[0].address, "10.0.0.1:8000");
        assert_eq!(found[0].labels["llm-d.ai/role"], "decode");
        assert_eq!((found[0].labels["name"].as_str(), found[0].labels["namespace"].as_str()), ("vllm-0", "prod"));
        assert_eq!(found[1].metrics.as_deref(), Some("10.0.0.2:9400"));
    }

    #[test]
    fn a_bad_entry_refuses_the_list_and_is_named() {
        for (text, told) in [
            ("[10.0.0.1:8000, 10.0.0.1:8000]", "endpoints[1]: must be listed once, got 10.0.0.1:8000"),
            ("[host:8000]", "endpoints[0]: must be ip:port, got \"host:8000\""),
            ("[{address: 10.0.0.1, port: 0}]", "endpoints[0].port: must be between 1 and 65535, got 0"),
            ("[{address: pod.local, port: 80}]", "endpoints[0].address: must be an IP address"),
            ("[{port: 80}]", "endpoints[0].address: must be given"),
            ("[{address: '10.0.0.1:1', weight: 2}]", "endpoints[0]: must have no other fields"),
            ("{endpoint: []}", "endpoints file: must have the one key endpoints"),
            ("7", "endpoints: must be a list, got 7"),
        ] {
            let problem = parse(text).unwrap_err().to_string();
            assert!(problem.starts_with(told), "{text}: {problem}");
        }
    }

    #[test]
    fn the_draining_label_drains() {
        assert!(parse("[{address: '10.0.0.1:1', labels: {draining: 'true'}}]").unwrap()[0].draining);
    }

    #[test]
    fn as_many_endpoints_as_a_table_holds_are_accepted_and_no_more() {
        let list =
            |n: u16| (1..=n).map(|port| format!("- {{address: 10.0.0.1, port: \"{port}\"}}\n")).collect::<String>();
        assert_eq!(parse(&list(MAX_ENDPOINTS)).unwrap().len(), usize::from(MAX_ENDPOINTS));
        assert!(parse(&list(MAX_ENDPOINTS + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _outcome = parse(&text);
        }

        #[test]
        fn json_lists_come_back_in_order(ports in proptest::collection::btree_set(1_u16.., 0..50)) {
            let addresses: Vec<String> = ports.iter().map(|port| format!("10.1.2.3:{port}")).collect();
            let found = parse(&serde_json::to_string(&addresses).unwrap()).unwrap();
            prop_assert_eq!(found.into_iter().map(|e| e.address).collect::<Vec<_>>(), addresses);
        }
    }
}
