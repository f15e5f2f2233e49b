//! `--kv-events-config` as vLLM takes it: one JSON object.
//!
//! Whether the publisher binds or connects is read from the endpoint as vLLM does it: `*` or `::` binds, a host connects, even if
//! that host is this machine.

use serde::{Deserialize, Serialize};

/// vLLM's `KVEventsConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KvEventsOptions {
    /// Off by default.
    pub enable_kv_cache_events: bool,
    /// `zmq` when enabled; `null` publishes nothing.
    pub publisher: Option<String>,
    /// Where batches are published.
    pub endpoint: String,
    /// Where missed batches can be asked for.
    pub replay_endpoint: Option<String>,
    /// Batches kept for replay.
    pub buffer_steps: usize,
    /// Batches queued per subscriber before they are dropped.
    pub hwm: usize,
    /// Batches queued for publishing; this simulator publishes at once and never queues.
    pub max_queue_size: usize,
    /// The first frame of every message.
    pub topic: String,
}

impl Default for KvEventsOptions {
    fn default() -> Self {
        Self {
            enable_kv_cache_events: false,
            publisher: None,
            endpoint: "tcp://*:5557".to_owned(),
            replay_endpoint: None,
            buffer_steps: 10_000,
            hwm: 100_000,
            max_queue_size: 100_000,
            topic: String::new(),
        }
    }
}

/// Why options are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Not JSON, or not these fields.
    #[error("kv_events_config: {0}")]
    Json(String),
    /// Something vLLM has and the simulator has not.
    #[error("kv_events_config: {field}: {rule}, got `{got}`")]
    Unsupported {
        /// Which field.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
        /// What it is.
        got: String,
    },
}

/// Where a socket goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Every address (`*`, `::`, `0.0.0.0` in brackets or not): the caller decides which.
    Bind {
        /// 0 for any free one.
        port: u16,
    },
    /// A peer that listens.
    Connect {
        /// Name or address.
        host: String,
        /// Its port.
        port: u16,
    },
}

impl KvEventsOptions {
    /// Reads the flag's value.
    ///
    /// # Errors
    /// When it is not a JSON object of these fields, or asks for what is not simulated.
    pub fn parse(json: &str) -> Result<Self, OptionsError> {
        let options: Self = serde_json::from_str(json).map_err(|error| OptionsError::Json(error.to_string()))?;
        if let Some(publisher) = options.publisher.as_deref()
            && !["zmq", "null"].contains(&publisher)
        {
            return unsupported("publisher", "must be zmq or null", publisher);
        }
        options.endpoint()?;
        options.replay()?;
        if options.buffer_steps == 0 {
            return unsupported("buffer_steps", "must be at least 1", "0");
        }
        Ok(options)
    }

    /// True when batches go out.
    #[must_use]
    pub fn publishes(&self) -> bool {
        self.enable_kv_cache_events && self.publisher.as_deref() != Some("null")
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint, OptionsError> {
        endpoint("endpoint", &self.endpoint)
    }

    /// Always bound, whatever it looks like.
    pub(crate) fn replay(&self) -> Result<Option<Endpoint>, OptionsError> {
        let Some(text) = &self.replay_endpoint else { return Ok(None) };
        endpoint("replay_endpoint", text).map(Some)
    }
}

fn endpoint(field: &'static str, text: &str) -> Result<Endpoint, OptionsError> {
    let rule = "must be tcp://HOST:PORT (ipc and inproc are not simulated)";
    let Some((host, port)) = text.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')) else {
        return unsupported(field, rule, text);
    };
    let Ok(port) = port.parse() else { return unsupported(field, rule, text) };
    if host.contains('*') || host.contains("::") {
        return Ok(Endpoint::Bind { port });
    }
    let host = host.trim_matches(['[', ']']).to_owned();
    Ok(Endpoint::Connect { host, port })
}

fn unsupported<T>(field: &'static str, rule: &'static str, got: &str) -> Result<T, OptionsError> {
    Err(OptionsError::Unsupported { field, rule, got: got.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vllms_example_is_read_and_the_rest_defaults() {
        let options =
            KvEventsOptions::parse(r#"{"enable_kv_cache_events":true,"publisher":"zmq","topic":"kv-events"}"#).unwrap();
        assert!(options.publishes());
        assert_eq!(options.endpoint().unwrap(), Endpoint::Bind { port: 5557 });
        assert_eq!((options.buffer_steps, options.hwm), (10_000, 100_000));
        assert!(!KvEventsOptions::default().publishes());
    }

    #[test]
    fn a_host_is_dialled_and_a_star_is_bound() {
        let of = |text: &str| endpoint("endpoint", text).unwrap();
        assert_eq!(of("tcp://[::]:7"), Endpoint::Bind { port: 7 });
        assert_eq!(of("tcp://127.0.0.1:7"), Endpoint::Connect { host: "127.0.0.1".to_owned(), port: 7 });
    }

    #[test]
    fn a_mistake_names_its_field() {
        for (json, words) in [
            (r#"{"endpont":"tcp://*:1"}"#, "unknown field `endpont`"),
            (r#"{"endpoint":"ipc:///tmp/x"}"#, "endpoint: must be tcp://"),
            (r#"{"publisher":"nats"}"#, "publisher: must be zmq or null"),
            (r#"{"buffer_steps":0}"#, "buffer_steps: must be at least 1"),
        ] {
            let error = KvEventsOptions::parse(json).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
