//! `kvasir serve` as a process, and its API.

use std::path::Path;

use serde_json::Value;

use crate::binaries::Binaries;
use crate::process::Process;
use crate::sim::{admin_client, written};

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    /// `ip:port` of gRPC.
    pub grpc: String,
    /// `ip:port` of HTTP.
    pub http: String,
    process: Process,
}

impl ControlPlane {
    /// Starts it with `config`, a file in `folder`; returns when it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(binaries: &Binaries, folder: &Path, config: &str) -> Self {
        Self::start_with(binaries, folder, config, &[]).await
    }

    /// The same with more command-line flags.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_with(binaries: &Binaries, folder: &Path, config: &str, flags: &[String]) -> Self {
        let ready = folder.join("ready.json");
        if ready.exists() {
            std::fs::remove_file(&ready).unwrap();
        }
        let mut arguments = ["serve", "--config", config, "--ready-file", "ready.json"].map(str::to_owned).to_vec();
        arguments.extend_from_slice(flags);
        let process = Process::start(folder, "kvasir", &binaries.kvasir, &arguments);
        let ready = written(&ready).await;
        let address = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        Self { grpc: address("grpc"), http: address("http"), process }
    }

    /// A JSON answer of its API.
    ///
    /// # Panics
    /// When there is none.
    pub async fn api(&self, path: &str) -> Value {
        admin_client().get(format!("http://{}{path}", self.http)).send().await.unwrap().json().await.unwrap()
    }

    /// A text of its HTTP.
    ///
    /// # Panics
    /// When there is none.
    pub async fn text(&self, path: &str) -> String {
        admin_client().get(format!("http://{}{path}", self.http)).send().await.unwrap().text().await.unwrap()
    }

    /// The state of each endpoint: `ready`, `draining` or `unhealthy`.
    pub async fn state_of(&self, address: &str) -> Option<String> {
        let endpoints = self.api("/api/v1/endpoints").await;
        let row = endpoints.as_array()?.iter().find(|row| row["address"] == address)?.clone();
        row["state"].as_str().map(str::to_owned)
    }

    /// The end of its log, on stderr.
    pub fn dump(&self) {
        self.process.dump();
    }
}
