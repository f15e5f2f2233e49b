//! Starts an Envoy and waits until it answers. Every port is chosen by Envoy itself, so none can be taken meanwhile.

use super::{Addition, bootstrap, listener_port};
use crate::child::{Guarded, spawn};
use crate::load::drive::once;
use crate::prompts::Prompts;
use anyhow::{Context, bail, ensure};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// How every Envoy of a run is started.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) binary: PathBuf,
    /// Worker threads.
    pub(crate) workers: u16,
    /// Configurations and logs.
    pub(crate) directory: PathBuf,
    /// Ports of the backend's endpoints.
    pub(crate) endpoints: Vec<u16>,
}

/// A running Envoy.
#[derive(Debug)]
pub(crate) struct Envoy {
    process: Guarded,
    pub(crate) port: u16,
    pub(crate) admin_port: u16,
}

impl Envoy {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

impl Launcher {
    /// Starts an Envoy that has answered one request with 200 when this returns.
    pub(crate) async fn start(&self, name: &str, addition: &Addition) -> anyhow::Result<Envoy> {
        let file = |ending: &str| self.directory.join(format!("{name}{ending}"));
        let (config, log, admin) = (file(".json"), file(".log"), file(".admin"));
        fs::write(&config, bootstrap(addition, &self.endpoints).to_string())?;
        let workers = self.workers.to_string();
        // Without hot restart there is no shared memory, and so no base id that two Envoys could have in common.
        let flags = ["--disable-hot-restart", "--log-level", "warning", "--concurrency", &workers];
        let mut arguments: Vec<OsString> = flags.map(OsString::from).to_vec();
        arguments.extend(["-c".into(), config.into(), "--admin-address-path".into(), admin.clone().into()]);
        let mut process = spawn::logging(&self.binary, &arguments, &log)?;
        let start = Instant::now();
        let ready = async {
            let ports = wait_for_listener(&mut process, &admin, start).await?;
            wait_for_answer(ports.0, start).await?;
            Ok(ports)
        };
        match ready.await {
            Ok((port, admin_port)) => Ok(Envoy { process, port, admin_port }),
            Err(error) => Err(log_tail(&log, error).context(format!("Envoy {name:?} did not start"))),
        }
    }
}

fn log_tail(log: &Path, error: anyhow::Error) -> anyhow::Error {
    let text = fs::read_to_string(log).unwrap_or_default();
    let tail: Vec<&str> = text.lines().rev().take(10).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    error.context(tail.join("\n"))
}

/// The listener's port and that of the admin interface.
async fn wait_for_listener(process: &mut Guarded, admin: &Path, start: Instant) -> anyhow::Result<(u16, u16)> {
    loop {
        if let Some(status) = process.ended() {
            bail!("it ended: {status}");
        }
        if let Some(ports) = ask_admin(admin).await {
            return Ok(ports);
        }
        ensure!(start.elapsed() < START_LIMIT, "no listener within {START_LIMIT:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// Both ports as soon as Envoy serves; until then nothing, for whatever reason.
async fn ask_admin(admin: &Path) -> Option<(u16, u16)> {
    let address = fs::read_to_string(admin).ok()?;
    let port = address.rsplit_once(':')?.1.trim().parse().ok()?;
    let (status, _) = once(port, &get("/ready")).await.ok()?;
    if status != 200 {
        return None;
    }
    let (_, listeners) = once(port, &get("/listeners?format=json")).await.ok()?;
    Some((listener_port(&listeners)?, port))
}

async fn wait_for_answer(port: u16, start: Instant) -> anyhow::Result<()> {
    let prompts = Prompts::whole(1, 1_000);
    loop {
        let answer = once(port, prompts.request(0)).await;
        if matches!(answer, Ok((200, _))) {
            return Ok(());
        }
        if start.elapsed() >= START_LIMIT {
            let (status, body) = answer.context("the probe request failed")?;
            bail!("the probe request was answered with {status}: {}", String::from_utf8_lossy(&body));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A request without a body.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}
