//! The plugin's configuration: one small JSON object, the same for every way of installing the filter.

use serde::Deserialize;
use shared::lifecycle::Plan;

use crate::self_benchmark::SelfBenchmark;

/// How the host holds a request while its body is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The host sets `allow_on_headers_stop_iteration`: headers are held, and then changed.
    Hold,
    /// A stock host: headers go on at once, a buffer filter behind holds them, and the choice leaves through filter
    /// state. The default, since it cannot hang a request on any host.
    #[default]
    State,
}

/// The plugin's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginConfig {
    /// The pool that this filter routes to; absent: found by the request's model.
    pub pool: Option<String>,
    /// How requests are held.
    pub mode: Mode,
    /// Envoy's cluster of the control plane.
    pub cluster: String,
    /// Refuse larger bodies even before a table says so.
    pub max_body_bytes: Option<u64>,
    /// Measure, once at start, what a decision costs on this host, and log it. Blocks the worker meanwhile.
    pub self_benchmark: Option<SelfBenchmark>,
}

impl Default for PluginConfig {
    fn default() -> Self {
        Self {
            pool: None,
            mode: Mode::State,
            cluster: "kvasir-controlplane".to_owned(),
            max_body_bytes: None,
            self_benchmark: None,
        }
    }
}

impl PluginConfig {
    /// Parses the plugin configuration; empty bytes are the defaults.
    ///
    /// # Errors
    /// What is wrong with the JSON, and where.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(bytes)
    }

    /// What requests need of it.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan { pool: self.pool.clone(), max_body_bytes: self.max_body_bytes, subset: None }
    }
}

#[cfg(test)]
mod tests {
    use super::{Mode, PluginConfig};

    #[test]
    fn an_empty_configuration_cannot_hang_a_request() {
        for empty in ["", "  ", "{}"] {
            assert_eq!(PluginConfig::parse(empty.as_bytes()).unwrap().mode, Mode::State);
        }
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let error = PluginConfig::parse(br#"{"mode":"hold","pol":"x"}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `pol`"), "{error}");
    }
}
