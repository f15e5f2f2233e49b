//! `kvasir-bench`: measures what Kvasir costs on a real Envoy, and how fast it follows engines. The hidden subcommands are servers that the bench starts as
//! children of itself, so that their CPU time can be told from the load generator's.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "reports go to stdout, progress to stderr")]

mod backend;
mod child;
mod control_plane;
mod cpu;
mod draw;
mod envoy;
mod estimate;
mod events;
mod ext_proc;
mod http1;
mod load;
mod overhead;
mod placement;
mod prompts;
mod rpc;
mod table;

use anyhow::bail;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(name = "kvasir-bench", version, about = "Measures what Kvasir costs on a real Envoy")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compares plain Envoy, Envoy with Kvasir's filter, and Envoy with a no-op ext_proc server
    Overhead(Box<overhead::plan::OverheadArgs>),
    /// Times KV events from eight publishers to every worker of an Envoy
    Events(Box<events::plan::EventsArgs>),
    /// The backend of a run (started by the bench itself)
    #[command(hide = true)]
    ServeBackend {
        #[arg(long)]
        parent: u32,
        #[arg(long)]
        endpoints: usize,
    },
    /// The no-op external processor of a run (started by the bench itself)
    #[command(hide = true)]
    ServeExtProc {
        #[arg(long)]
        parent: u32,
    },
    /// Becomes another program that ends with the bench (started by the bench itself)
    #[command(hide = true)]
    Become {
        #[arg(long)]
        parent: u32,
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// One thread for everything: the closed loop is then free of hand-overs between threads, and so are both servers.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Overhead(arguments) => until_signal(overhead::drive::run(*arguments)).await,
        Command::Events(arguments) => until_signal(events::drive::run(*arguments)).await,
        Command::ServeBackend { parent, endpoints } => {
            child::spawn::end_with_parent(parent)?;
            backend::serve::serve(endpoints, announce).await
        }
        Command::ServeExtProc { parent } => {
            child::spawn::end_with_parent(parent)?;
            ext_proc::serve::serve(announce).await
        }
        Command::Become { parent, program, arguments } => {
            child::spawn::end_with_parent(parent)?;
            Err(process::Command::new(program).args(arguments).exec().into())
        }
    }
}

fn announce(ports: &[u16]) {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    println!("ports {}", ports.join(" "));
}

/// Runs `work`, or drops it, and with it every child process, on SIGINT or SIGTERM.
async fn until_signal(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}
