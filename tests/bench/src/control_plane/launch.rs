//! Starts `kvasir serve` and waits until it says that it is ready.

use super::metrics::Reading;
use super::{Ports, config};
use crate::child::{Guarded, spawn};
use crate::envoy::launch::get;
use crate::load::drive::once;
use anyhow::{Context, bail, ensure};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

const START_LIMIT: Duration = Duration::from_secs(20);

/// A running control plane.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    process: Guarded,
    pub(crate) grpc_port: u16,
    http_port: u16,
}

impl ControlPlane {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What its metrics say now.
    pub(crate) async fn metrics(&self) -> anyhow::Result<Reading> {
        let (status, text) = once(self.http_port, &get("/metrics")).await?;
        ensure!(status == 200, "the control plane's metrics were answered with {status}");
        Ok(Reading::new(&text))
    }

    /// Starts `binary` with a pool of these endpoints; its configuration and log go to `directory`. `model` as in `config`.
    pub(crate) async fn start(
        binary: &Path,
        directory: &Path,
        endpoints: &[u16],
        model: Option<&Path>,
    ) -> anyhow::Result<ControlPlane> {
        let ports = free_ports()?;
        let (file, log) = (directory.join("kvasir.yaml"), directory.join("kvasir.log"));
        fs::write(&file, config(ports, endpoints, model).to_string())?;
        let mut process = spawn::logging(binary, &["serve".into(), "--config".into(), file.into()], &log)?;
        let start = Instant::now();
        while !matches!(once(ports.http, &get("/readyz")).await, Ok((200, _))) {
            let ended = process.ended();
            if ended.is_some() || start.elapsed() > START_LIMIT {
                let log = fs::read_to_string(&log).unwrap_or_default();
                bail!("the control plane is not ready; it ended: {ended:?}; its log:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(ControlPlane { process, grpc_port: ports.grpc, http_port: ports.http })
    }
}

/// Two ports that were free a moment ago: both are held while the second is chosen.
fn free_ports() -> anyhow::Result<Ports> {
    let bind = || TcpListener::bind(("127.0.0.1", 0)).context("find a free port");
    let (grpc, http) = (bind()?, bind()?);
    Ok(Ports { grpc: grpc.local_addr()?.port(), http: http.local_addr()?.port() })
}
