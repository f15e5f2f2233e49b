//! The simulator's binary: flags in, listening engines out, until a signal.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks on its streams")]

mod flags;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use vllm_sim::cluster::Cluster;

#[tokio::main]
async fn main() -> ExitCode {
    let flags = flags::Flags::parse();
    match run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vllm-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: flags::Flags) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(flags::Task::WriteTokenizer { directory }) = &flags.task {
        return vllm_sim::language::write_builtin(directory).map_err(Into::into);
    }
    let (ready_file, admin_ready_file) = (flags.ready_file.clone(), flags.admin_ready_file.clone());
    let cluster = Cluster::start(flags.into_config()?).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let addresses: Vec<String> = cluster.addresses().iter().map(ToString::to_string).collect();
    for (index, address) in addresses.iter().enumerate() {
        println!("engine {index} http://{address}");
    }
    if let Some(admin) = cluster.admin() {
        println!("admin http://{admin}");
        if let Some(path) = admin_ready_file {
            publish(&path, &serde_json::to_string(&admin.to_string())?)?;
        }
    }
    if let Some(path) = ready_file {
        publish(&path, &serde_json::to_string(&addresses)?)?;
    }
    tokio::select! {
        () = cluster.serve() => Err("an engine task ended by itself".into()),
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
    }
}

/// Writes the file whole or not at all: whoever waits for it must never read half.
fn publish(path: &Path, text: &str) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".tmp");
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, path)
}
