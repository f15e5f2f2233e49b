//! Starts child processes. The announcement of ports is one line on the child's standard output: `ports 1 2 3`.

use super::Guarded;
use anyhow::{Context, bail, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Starts `program` with its output in the file `log`.
pub(crate) fn logging(program: &Path, arguments: &[OsString], log: &Path) -> anyhow::Result<Guarded> {
    let out = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["become", "--parent", &std::process::id().to_string()]).arg(program).args(arguments);
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
    Ok(Guarded { child })
}

/// Starts this very program as one of its servers; the ports it announces.
pub(crate) async fn own_server(arguments: &[&str]) -> anyhow::Result<(Guarded, Vec<u16>)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).args(["--parent", &std::process::id().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Guarded { child: command.spawn().with_context(|| format!("start {arguments:?}"))? };
    let out = child.child.stdout.take().context("a piped child has an output")?;
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).map(|_| line)
    });
    let line = tokio::time::timeout(Duration::from_secs(10), line).await.context("a server announced no port")???;
    let Some(ports) = line.trim_end().strip_prefix("ports ") else { bail!("server {arguments:?} said {line:?}") };
    let ports = ports.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    Ok((child, ports))
}

/// `chosen`, or the program `name` beside this one.
pub(crate) fn beside(chosen: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    match chosen {
        Some(path) => Ok(path.to_owned()),
        None => Ok(std::env::current_exe()?.with_file_name(name)),
    }
}

/// The absolute path: Envoy resolves a relative one against its own directory.
pub(crate) fn existing(path: &Path, what: &str) -> anyhow::Result<PathBuf> {
    ensure!(path.is_file(), "{what} is not at {}", path.display());
    Ok(path.canonicalize()?)
}

/// Asks the kernel to end this process when `parent` ends, also by SIGKILL; the wish survives `exec`.
pub(crate) fn end_with_parent(parent: u32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("tie this process to its parent")?;
    // The parent may have ended before the kernel knew of the wish.
    ensure!(parent_id() == parent, "the bench has ended");
    Ok(())
}
