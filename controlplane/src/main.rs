//! `kvasir`: reads the command line, runs one command, says on stderr what went wrong. Exit code 1 for a refused
//! configuration or a failed start, 2 (by clap) for a wrong command line. A comparison that cannot be made is 2 as well: 1
//! is its answer "different".
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks through them")]

mod cli;
mod explain_command;
mod render_command;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use controlplane::config::watch::load;
use controlplane::config::{Config, Discovery, Pool, summary::summary};
use controlplane::discovery::static_file;
use controlplane::envoy::{bootstrap::bootstrap, write};
use controlplane::epp::install::Installation;
use controlplane::runtime::{Options, Running, start};
use controlplane::standalone::drive::{Envoy, RunFolder};
use controlplane::{epp, llmd, standalone, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use cli::{Bootstrap, Cli, Command, Picker, Render, Serve, Source, Standalone, meant};
use explain_command::explain;
use render_command::{Comparison, compare, render};

fn main() -> ExitCode {
    let cli = Cli::parse_from(meant(std::env::args_os().collect()));
    telemetry::init_logs(cli.log(), cli.log_format());
    let outcome = match cli.command {
        Command::Check(source) => check(&source),
        Command::Envoy(asked) => envoy_bootstrap(&asked),
        Command::Explain(asked) => block_on(async { explain(asked).await.map(|text| print!("{text}")) }),
        Command::Render(asked) => match asked.compare.clone() {
            Some(url) => return compared(&asked, &url),
            None => render(&asked).map(|prompt| print!("{prompt}")),
        },
        Command::Epp(asked) => block_on(pick_endpoints(*asked)),
        Command::Serve(asked) => block_on(serve(asked)),
        Command::Standalone(asked) => block_on(run_standalone(asked)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvasir: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compared(asked: &Render, url: &str) -> ExitCode {
    match block_on(compare(asked, url)) {
        Ok(comparison) => {
            print!("{comparison}");
            match comparison {
                Comparison::Equal(_) => ExitCode::SUCCESS,
                Comparison::Different(_) => ExitCode::from(1),
            }
        }
        Err(error) => {
            eprintln!("kvasir: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn block_on<T>(run: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run)
}

fn check(source: &Source) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&source.config).with_context(|| source.config.display().to_string())?;
    if llmd::is_endpoint_picker_config(&text) {
        return check_endpoint_picker(&text);
    }
    let config = load(&source.config)?;
    print!("{}", summary(&config, &listed));
    Ok(())
}

/// llm-d's own configuration, without a pool around it.
fn check_endpoint_picker(text: &str) -> anyhow::Result<()> {
    match llmd::load(text) {
        Ok(loaded) => {
            print!("{}", llmd::explain(&loaded, ""));
            Ok(())
        }
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Err(anyhow::anyhow!("{}", lines.join("\n")))
        }
    }
}

fn listed(pool: &Pool) -> Result<usize, String> {
    match &pool.discovery {
        // Nothing is asked of the cluster to check a file.
        Discovery::Kubernetes(_) => Ok(0),
        Discovery::Static(endpoints) => Ok(endpoints.len()),
        Discovery::File { path, .. } => {
            let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
            static_file::parse(&text).map(|list| list.len()).map_err(|problem| problem.to_string())
        }
    }
}

fn envoy_bootstrap(asked: &Bootstrap) -> anyhow::Result<()> {
    let mut config = load(&asked.source.config)?;
    absolute_paths(&mut config)?;
    if let Some(folder) = &asked.into {
        let folder = std::path::absolute(folder)?;
        return write::hand_over(&folder, config).with_context(|| format!("--into {}", folder.display()));
    }
    let folder = config.gateway.eds_directory.clone();
    let rendered = bootstrap(&config, &config.control_plane_for(config.grpc), folder.as_deref())?;
    println!("{}", serde_json::to_string_pretty(&rendered)?);
    Ok(())
}

/// Envoy may run in another folder than we do.
fn absolute_paths(config: &mut Config) -> std::io::Result<()> {
    let gateway = &mut config.gateway;
    let tls = gateway.tls.iter_mut().flat_map(|tls| {
        let identity = tls.identity.iter_mut().flat_map(|identity| [&mut identity.cert, &mut identity.key]);
        identity.chain([&mut tls.ca])
    });
    for path in gateway.eds_directory.iter_mut().chain(tls).chain([&mut gateway.wasm]) {
        *path = std::path::absolute(&*path)?;
    }
    Ok(())
}

async fn serve(asked: Serve) -> anyhow::Result<()> {
    let mut config = load(&asked.source.config)?;
    config.kubernetes.kubeconfig = asked.kubeconfig;
    absolute_paths(&mut config)?;
    if let Some(folder) = &config.gateway.eds_directory {
        write::prepare(folder, &config.pools).with_context(|| format!("gateway.edsDirectory {}", folder.display()))?;
    }
    let stop = stop_signal()?;
    let running =
        start(Options { config, config_path: Some(asked.source.config), epp: epp::Settings::default() }).await?;
    announce(&running, asked.ready_file, &stop).await?;
    stop.cancelled().await;
    running.stop().await;
    Ok(())
}

async fn pick_endpoints(Picker { flags, ready_file }: Picker) -> anyhow::Result<()> {
    let Installation { config, settings: epp } = flags.installation()?;
    for (flag, why) in flags.ignored.given() {
        tracing::info!(flag, why, "nothing to do for a flag");
    }
    let stop = stop_signal()?;
    let running = start(Options { config, config_path: None, epp }).await?;
    announce(&running, ready_file, &stop).await?;
    stop.cancelled().await;
    running.stop().await;
    Ok(())
}

async fn run_standalone(asked: Standalone) -> anyhow::Result<()> {
    let Serve { source, ready_file, kubeconfig } = asked.serve;
    let mut config = load(&source.config)?;
    config.kubernetes.kubeconfig = kubeconfig;
    absolute_paths(&mut config)?;
    let binary = envoy_binary(asked.envoy)?;
    let run_folder = RunFolder::create()?;
    let eds_folder = config.gateway.eds_directory.get_or_insert_with(|| run_folder.path().join("eds")).clone();
    write::prepare(&eds_folder, &config.pools)?;

    let stop = stop_signal()?;
    let running =
        start(Options { config: config.clone(), config_path: Some(source.config), epp: epp::Settings::default() })
            .await?;
    let rendered = bootstrap(&config, &config.control_plane_for(running.grpc), Some(&eds_folder))?;
    let bootstrap_file = run_folder.path().join("envoy.json");
    std::fs::write(&bootstrap_file, rendered.to_string())?;
    let envoy = Envoy {
        binary,
        bootstrap: bootstrap_file,
        admin_address: run_folder.path().join("admin"),
        workers: config.gateway.workers,
    };
    announce(&running, ready_file, &stop).await?;
    println!("listening on http://{}, API on http://{}", config.gateway.listen, running.http);
    let outcome = envoy.supervise(stop).await;
    running.stop().await;
    outcome.with_context(|| format!("{}", envoy.binary.display()))
}

fn envoy_binary(asked: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let from_env = std::env::var_os("ENVOY_BIN").filter(|value| !value.is_empty()).map(PathBuf::from);
    let search_path: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    standalone::find_envoy(asked, from_env, &search_path, Path::is_file)
        .context("no envoy found: give --envoy PATH, set ENVOY_BIN, or put it on the search path")
}

/// Writes the ready file once everything is.
async fn announce(running: &Running, file: Option<PathBuf>, stop: &CancellationToken) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let mut ready = running.ready.clone();
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        reached = tokio::time::timeout(Duration::from_secs(60), ready.wait_for(|ready| *ready)) => {
            reached.context("not ready within 60 s")??;
        }
    }
    let mut addresses = serde_json::json!({"grpc": running.grpc, "http": running.http});
    if let (Some(health), Some(fields)) = (running.health, addresses.as_object_mut()) {
        fields.insert("health".to_owned(), health.to_string().into());
    }
    let text = addresses.to_string();
    let name = file.file_name().context("--ready-file: must name a file")?.to_string_lossy().into_owned();
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    write::replace(folder, &name, &text).with_context(|| file.display().to_string())
}

/// Cancelled by SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        token.cancel();
    });
    Ok(stop)
}
