//! Runs Envoy as a child: writes its bootstrap, forwards its log lines, starts it again when it dies, and asks it over
//! its admin interface to end. Its folder is private and removed at the end.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::restart_wait;

/// How long Envoy may take to end by itself.
const QUIT_WITHIN: Duration = Duration::from_secs(5);

/// How long the log lines of an Envoy that has ended are waited for.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A folder for one run, removed when dropped.
#[derive(Debug)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// A fresh folder under the system's temporary one, open to this user only.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create() -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path =
            std::env::temp_dir().join(format!("kvasir-{}-{}", std::process::id(), crate::clock::now().as_nanos()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            warn!(folder = %self.0.display(), %error, "temporary folder stays");
        }
    }
}

/// The Envoy to run.
#[derive(Debug)]
pub struct Envoy {
    /// Its binary.
    pub binary: PathBuf,
    /// Its bootstrap file.
    pub bootstrap: PathBuf,
    /// Where it writes the address of its admin interface.
    pub admin_address: PathBuf,
    /// Worker threads; `None`: one per core.
    pub workers: Option<u32>,
}

impl Envoy {
    /// Keeps Envoy running until `stop`, then ends it.
    ///
    /// # Errors
    /// When it cannot be started the first time, or ends at once with a bad configuration.
    pub async fn supervise(&self, stop: CancellationToken) -> io::Result<()> {
        let mut readers = JoinSet::new();
        let outcome = self.keep_running(stop, &mut readers).await;
        // Its last words may say why it ended.
        let _unfinished =
            tokio::time::timeout(LAST_WORDS, async { while readers.join_next().await.is_some() {} }).await;
        outcome
    }

    async fn keep_running(&self, stop: CancellationToken, readers: &mut JoinSet<()>) -> io::Result<()> {
        let mut wait = Duration::ZERO;
        let mut first = true;
        loop {
            let started = Instant::now();
            let mut child = match self.spawn(readers) {
                Err(error) if first => return Err(error),
                spawned => spawned.inspect_err(|error| error!(%error, "envoy cannot be started")).ok(),
            };
            tokio::select! {
                () = stop.cancelled() => {
                    if let Some(child) = &mut child {
                        self.end(child).await;
                    }
                    return Ok(());
                }
                status = exit_of(&mut child) => {
                    if first && started.elapsed() < Duration::from_secs(2) {
                        return Err(io::Error::other(format!("envoy ended at once: {status}")));
                    }
                    error!(status, "envoy died");
                }
            }
            first = false;
            wait = restart_wait(wait, started.elapsed());
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn spawn(&self, readers: &mut JoinSet<()>) -> io::Result<Child> {
        let mut command = Command::new(&self.binary);
        command.arg("--config-path").arg(&self.bootstrap).arg("--admin-address-path").arg(&self.admin_address);
        command.args(["--use-dynamic-base-id", "--log-level", "warn"]);
        if let Some(workers) = self.workers {
            command.arg("--concurrency").arg(workers.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        info!(pid = child.id(), "envoy started");
        if let Some(stderr) = child.stderr.take() {
            // Ends with the child's stderr.
            readers.spawn(async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    info!(target: "envoy", "{line}");
                }
            });
        }
        Ok(child)
    }

    async fn end(&self, child: &mut Child) {
        if let Err(error) = self.ask_to_quit().await {
            // Before it has started its admin interface it understands signals only.
            info!(error, "envoy cannot be asked to end, it is told to");
            terminate(child);
        }
        if tokio::time::timeout(QUIT_WITHIN, child.wait()).await.is_ok() {
            return;
        }
        warn!("envoy does not end, it is killed");
        if let Err(error) = child.kill().await {
            error!(%error, "envoy cannot be ended");
        }
    }

    async fn ask_to_quit(&self) -> Result<(), String> {
        let admin = std::fs::read_to_string(&self.admin_address).map_err(|error| error.to_string())?;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build();
        let request = client.map_err(|error| error.to_string())?.post(format!("http://{}/quitquitquit", admin.trim()));
        request.send().await.map(drop).map_err(|error| error.to_string())
    }
}

fn terminate(child: &Child) {
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
        warn!(%error, "envoy cannot be told to end");
    }
}

/// How the child ended; never, when there is none.
async fn exit_of(child: &mut Option<Child>) -> String {
    match child {
        Some(child) => child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string()),
        None => "not started".to_owned(),
    }
}
