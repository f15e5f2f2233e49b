//! Starts the domains and follows the configuration. Gateways are served only when every listed endpoint was probed
//! once (or a few seconds have passed): a restarted control plane must not publish a table in which all are unknown.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{error, info, warn};

use super::pools::Pools;
use super::{HINTS, LAST_CALLS, Options, Running, Shutdown, StartError};
use crate::admin::serve::{Admin, serve as serve_admin};
use crate::config::Config;
use crate::config::watch::{LOOK, Watched};
use crate::datastore::drive::{Datastore, datastore};
use crate::envoy::write::follow as write_endpoints;
use crate::events::serve::Gate;
use crate::events::stream::Pace;
use crate::exact::drive::Door;
use crate::explain::serve::Explainer;
use crate::publish;
use crate::publish::drive::{PublishHandle, PublishSettings};
use crate::publish::rpc::routing_table_server::RoutingTableServer;
use crate::publish::serve::TableService;
use crate::scrape::Hint;
use crate::scrape::fetch::Client;
use crate::telemetry::Metrics;
use crate::telemetry::door::DoorCollector;
use crate::telemetry::tables::TableCollector;

/// Gateways wait at most this long for the first probes.
const FIRST_PROBES: Duration = Duration::from_secs(3);

/// A configuration larger than this is a mistake.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Starts the control plane; it runs until `Running::stop`.
///
/// # Errors
/// When an address cannot be listened on.
pub async fn start(options: Options) -> Result<Running, StartError> {
    let Options { config, config_path } = options;
    let grpc_listener = bind(config.grpc, "listen.grpc").await?;
    let http_listener = bind(config.http, "listen.http").await?;
    let (grpc, http) = (local(&grpc_listener, config.grpc), local(&http_listener, config.http));
    let events_listener = match config.events {
        Some(address) => Some(bind(address, "listen.events").await?),
        None => None,
    };

    let (store, writer) = datastore();
    let writer_stop = CancellationToken::new();
    let writer = tokio::spawn(writer.run(writer_stop.clone()));
    let shutdown = Shutdown::new((writer_stop, writer));
    let metrics = Metrics::new(store.view.clone());
    let (hints, _) = broadcast::channel(HINTS);
    let (serving, serving_reader) = watch::channel(false);
    let ready = readiness(&store, serving_reader, &shutdown);

    let (tables, publishing) = publish_tables(&store, hints.clone(), &shutdown.servers);
    let door = events_listener.map(|listener| open_door(listener, &shutdown.sources));
    let events = door.as_ref().map(|door| door.address);
    if let Some(door) = &door {
        metrics.collect(Box::new(DoorCollector(door.gate.clone())));
    }
    let mut pools = Pools {
        door,
        news: publishing.news.clone(),
        datastore: store.clone(),
        client: Client::new()?,
        metrics: Arc::clone(&metrics),
        hints: hints.clone(),
        stop: shutdown.sources.0.clone(),
        tasks: shutdown.sources.1.clone(),
        running: BTreeMap::new(),
    };
    pools.apply(&config.pools).await;

    let (stop, tasks) = &shutdown.servers;
    let explainer = Explainer::new(publishing.tables.clone());
    metrics.collect(Box::new(TableCollector::new(publishing.status.clone())));
    let admin = Admin {
        tables: publishing.status.clone(),
        view: store.view.clone(),
        ready: ready.clone(),
        metrics: Arc::clone(&metrics),
        explainer: explainer.clone(),
    };
    tasks.spawn(ended("http", serve_admin(http_listener, admin, stop.clone())));
    let stops = (shutdown.readiness.clone(), stop.clone());
    tasks.spawn(serve_grpc(grpc_listener, (store.clone(), serving), tables, stops));
    let (stop, tasks) = &shutdown.sources;
    if let Some(folder) = config.gateway.eds_directory.clone() {
        tasks.spawn(write_endpoints(store.view.clone(), folder, stop.clone()));
    }
    if let Some(path) = config_path {
        tasks.spawn(follow_config(path, config, pools, stop.clone()));
    }
    info!(%grpc, %http, "listening");
    Ok(Running { grpc, http, events, datastore: store, hints, metrics, ready, explainer, publishing, shutdown })
}

/// Lets engines in that publish by connecting.
fn open_door(listener: TcpListener, (stop, tasks): &(CancellationToken, TaskTracker)) -> Door {
    let address = local(&listener, SocketAddr::from(([0, 0, 0, 0], 0)));
    let gate = Gate::new();
    tasks.spawn(gate.clone().serve(listener, Pace::default(), stop.clone()));
    info!(%address, "KV events are heard");
    Door { gate, address }
}

async fn bind(address: SocketAddr, what: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, what, source })
}

fn local(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

/// Logs a server that failed.
async fn ended<E: std::fmt::Display>(server: &'static str, run: impl Future<Output = Result<(), E>>) {
    if let Err(error) = run.await {
        error!(server, %error, "server failed");
    }
}

/// Ready: every pool's first list is in and gRPC serves; no longer when the end begins.
fn readiness(store: &Datastore, mut serving: watch::Receiver<bool>, shutdown: &Shutdown) -> watch::Receiver<bool> {
    let (ready, reader) = watch::channel(false);
    let mut progress = store.progress.clone();
    let stop = shutdown.readiness.clone();
    shutdown.sources.1.spawn(async move {
        let first = async {
            let discovered = progress.wait_for(|progress| progress.discovered).await.is_ok();
            discovered && serving.wait_for(|serving| *serving).await.is_ok()
        };
        tokio::select! {
            () = stop.cancelled() => return,
            reached = first => ready.send_replace(reached),
        };
        stop.cancelled().await;
        ready.send_replace(false);
    });
    reader
}

/// Starts the publishing task; what gateways report about endpoints becomes hints for the scrapers.
fn publish_tables(
    store: &Datastore,
    hints: broadcast::Sender<Hint>,
    (stop, tasks): &(CancellationToken, TaskTracker),
) -> (RoutingTableServer<TableService>, PublishHandle) {
    let (reports, mut reported) = mpsc::channel(HINTS);
    tasks.spawn(async move {
        while let Some(hint) = reported.recv().await {
            // Nobody listens when there is no pool.
            let _unheard = hints.send(hint);
        }
    });
    let (stopping, stop_reader) = watch::channel(false);
    let stop = stop.clone();
    tasks.spawn(async move {
        stop.cancelled().await;
        stopping.send_replace(true);
    });
    publish::drive::start(PublishSettings::default(), store.view.clone(), reports, stop_reader)
}

/// Serves gateways on `listener`, from when the first probes are in until `stop`; from `unready` on, health says so.
async fn serve_grpc(
    listener: TcpListener,
    (store, serving): (Datastore, watch::Sender<bool>),
    tables: RoutingTableServer<TableService>,
    (unready, stop): (CancellationToken, CancellationToken),
) {
    let mut progress = store.progress.clone();
    tokio::select! {
        () = stop.cancelled() => return,
        _ = tokio::time::timeout(FIRST_PROBES, progress.wait_for(|progress| progress.probed)) => {}
    }
    let (reporter, health) = tonic_health::server::health_reporter();
    report_health(&reporter, ServingStatus::Serving).await;
    let ending = stop.clone();
    let end = async move {
        unready.cancelled().await;
        report_health(&reporter, ServingStatus::NotServing).await;
        ending.cancelled().await;
    };
    // Bookings must reach other gateways within 50 ms: Nagle's algorithm alone may take 40.
    let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .add_service(health)
        .add_service(tables)
        .serve_with_incoming_shutdown(connections, end);
    serving.send_replace(true);
    let last_calls = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_CALLS).await;
    };
    tokio::select! {
        () = ended("grpc", server) => {}
        () = last_calls => {}
    }
}

async fn report_health(reporter: &HealthReporter, status: ServingStatus) {
    for service in ["", "liveness", "readiness", "kvasir.v1.RoutingTable"] {
        reporter.set_service_status(service, status).await;
    }
}

/// Takes up a changed configuration file, at once on SIGHUP; a bad one changes nothing.
async fn follow_config(path: PathBuf, mut config: Config, mut pools: Pools, stop: CancellationToken) {
    let mut file = Watched::new(path.clone(), MAX_CONFIG_BYTES);
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| warn!(%error, "SIGHUP cannot be followed")).ok();
    // The file as it was read first: what `config` says of the gateway may have been filled in since.
    let mut written: Option<Config> = None;
    loop {
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => false,
            () = hung_up(&mut hangup) => true,
        };
        let looked = file.look();
        if asked && looked.is_none() {
            file = Watched::new(path.clone(), MAX_CONFIG_BYTES);
            continue;
        }
        let Some(read) = looked else { continue };
        let parsed = read.map_err(|error| error.to_string()).and_then(|bytes| parse(&bytes, &path));
        match parsed {
            Ok(next) => {
                if let Some(before) = &written {
                    restart_needed(before, &next);
                }
                if written.is_some() || next.pools != config.pools {
                    pools.apply(&next.pools).await;
                    pools.metrics.reloaded(true);
                    info!(pools = next.pools.len(), "configuration applied");
                }
                config.pools.clone_from(&next.pools);
                written = Some(next);
            }
            Err(error) => {
                pools.metrics.reloaded(false);
                error!(error, "configuration refused, the old one stays");
            }
        }
    }
}

fn parse(bytes: &[u8], path: &Path) -> Result<Config, String> {
    let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
    Config::parse(text, path.parent().unwrap_or_else(|| Path::new("."))).map_err(|error| error.to_string())
}

fn restart_needed(now: &Config, next: &Config) {
    if (now.grpc, now.http, now.events) != (next.grpc, next.http, next.events) {
        warn!("listen changed: it takes effect with a restart");
    }
    let names = |config: &Config| config.pools.iter().map(|pool| pool.name.clone()).collect::<Vec<_>>();
    if names(now) != names(next) {
        warn!("pools were added, removed or reordered: render the gateway's bootstrap again");
    }
    if now.gateway != next.gateway {
        warn!("gateway changed: it takes effect with a restart");
    }
}

async fn hung_up(hangup: &mut Option<tokio::signal::unix::Signal>) {
    match hangup {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
