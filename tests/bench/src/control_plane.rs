//! The configuration of the control plane that feeds the measured filter: one static pool, everything on loopback.

pub(crate) mod launch;
pub(crate) mod metrics;

use crate::prompts::MODEL;
use serde_json::{Value, json};
use std::path::Path;

/// Where the control plane listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) grpc: u16,
    pub(crate) http: u16,
}

/// The configuration file; JSON is YAML. With a `model`, a folder with its tokenizer, the pool's residency is exact and
/// decisions explain themselves.
fn config(ports: Ports, endpoints: &[u16], model: Option<&Path>) -> Value {
    let endpoints: Vec<String> = endpoints.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut pool = json!({"name": "bench", "models": [MODEL], "discovery": {"static": {"endpoints": endpoints}}});
    if let (Some(model), Some(pool)) = (model, pool.as_object_mut()) {
        pool.insert("exact".to_owned(), json!({"model": model}));
        pool.insert("explain".to_owned(), json!(true));
    }
    json!({
        "listen": {"grpc": format!("127.0.0.1:{}", ports.grpc), "http": format!("127.0.0.1:{}", ports.http)},
        "pools": [pool],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_lists_every_backend_endpoint() {
        let config = config(Ports { grpc: 1, http: 2 }, &[8001, 8002], None);
        assert_eq!(config["pools"][0]["name"], "bench");
        let told = config.pointer("/pools/0/discovery/static/endpoints").expect("static endpoints");
        assert_eq!(*told, json!(["127.0.0.1:8001", "127.0.0.1:8002"]));
        assert_eq!(config["listen"]["grpc"], "127.0.0.1:1");
    }
}
