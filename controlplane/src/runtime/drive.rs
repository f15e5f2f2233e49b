//! Starts the domains and follows the configuration. Gateways are served only when every listed endpoint was probed
//! once (or a few seconds have passed): a restarted control plane must not publish a table in which all are unknown.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::pools::Pools;
use super::serve::{Grpc, ended};
use super::watch::Follower;
use super::{HINTS, Options, Running, Shutdown, StartError};
use crate::admin::serve::{Admin, Known, serve as serve_admin};
use crate::config::Config;
use crate::datastore::drive::{Datastore, datastore};
use crate::envoy::write::follow as write_endpoints;
use crate::events::serve::Gate;
use crate::events::stream::Pace;
use crate::exact::drive::Door;
use crate::explain::serve::Explainer;
use crate::kubernetes::drive::Clustered;
use crate::publish;
use crate::publish::drive::{PublishHandle, PublishSettings};
use crate::publish::rpc::routing_table_server::RoutingTableServer;
use crate::publish::serve::TableService;
use crate::scrape::Hint;
use crate::scrape::fetch::Client;
use crate::telemetry::Metrics;
use crate::telemetry::door::DoorCollector;
use crate::telemetry::tables::TableCollector;
use crate::tls::serve::Credentials;

/// Starts the control plane; it runs until `Running::stop`.
///
/// # Errors
/// When an address cannot be listened on, a certificate cannot be used, or there is no way to a cluster that is needed.
pub async fn start(Options { config, config_path }: Options) -> Result<Running, StartError> {
    let listeners = Listeners::bind(&config).await?;
    let (grpc, http) = (local(&listeners.grpc, config.grpc), local(&listeners.http, config.http));
    let (credentials, tls) = config.tls.clone().map(Credentials::load).transpose()?.unzip();

    let (store, metrics, shutdown) = spawn_store();
    let (hints, _) = broadcast::channel(HINTS);
    let (serving, serving_reader) = watch::channel(false);
    let ready = readiness(&store, serving_reader, &shutdown);
    let Clustered { hub, cluster, leadership } = Clustered::start(&config, &metrics, &shutdown.sources).await?;
    let (settled, settled_reader) = watch::channel(hub.is_none());

    let (tables, publishing) = publish_tables(&store, &metrics, hints.clone(), &shutdown.servers);
    let door = listeners.events.map(|listener| open_door(listener, &metrics, &shutdown.sources));
    let events = door.as_ref().map(|door| door.address);
    let (memberships, memberships_reader) = watch::channel(Arc::default());
    let mut pools = Pools {
        door,
        news: publishing.news.clone(),
        datastore: store.clone(),
        client: Client::new()?,
        metrics: Arc::clone(&metrics),
        hints: hints.clone(),
        cluster: cluster.clone(),
        hub,
        memberships,
        stop: shutdown.sources.0.clone(),
        tasks: shutdown.sources.1.clone(),
        running: BTreeMap::new(),
    };
    pools.apply(&config.pools).await;

    let explainer = Explainer::new(publishing.tables.clone());
    let admin = Admin {
        tables: publishing.status.clone(),
        view: store.view.clone(),
        cluster: Known { cluster: cluster.clone(), memberships: memberships_reader, leadership: leadership.clone() },
        ready: ready.clone(),
        metrics: Arc::clone(&metrics),
        explainer: explainer.clone(),
    };
    let server = Grpc { listener: listeners.grpc, tls, store: store.clone(), settled: settled_reader, serving, tables };
    spawn_servers(&shutdown, (listeners.http, admin), server);
    spawn_followers(&shutdown, credentials, Follower { config, pools, path: config_path, settled });
    info!(%grpc, %http, "listening");
    Ok(Running {
        grpc,
        http,
        events,
        datastore: store,
        hints,
        metrics,
        ready,
        cluster,
        leadership,
        explainer,
        publishing,
        shutdown,
    })
}

fn spawn_store() -> (Datastore, Arc<Metrics>, Shutdown) {
    let (store, writer) = datastore();
    let metrics = Metrics::new(store.view.clone());
    let stop = CancellationToken::new();
    let writer = tokio::spawn(writer.run(stop.clone()));
    (store, metrics, Shutdown::new((stop, writer)))
}

fn spawn_followers(shutdown: &Shutdown, credentials: Option<Credentials>, follower: Follower) {
    let (stop, tasks) = &shutdown.sources;
    if let Some(folder) = follower.config.gateway.eds_directory.clone() {
        let view = follower.pools.datastore.view.clone();
        tasks.spawn(write_endpoints(view, folder, stop.clone()));
    }
    if let Some(credentials) = credentials {
        tasks.spawn(credentials.follow(Arc::clone(&follower.pools.metrics), stop.clone()));
    }
    tasks.spawn(follower.run(stop.clone()));
}

fn spawn_servers(shutdown: &Shutdown, (http, admin): (TcpListener, Admin), grpc: Grpc) {
    let (stop, tasks) = &shutdown.servers;
    tasks.spawn(ended("http", serve_admin(http, admin, stop.clone())));
    tasks.spawn(grpc.serve((shutdown.readiness.clone(), stop.clone())));
}

/// Lets engines in that publish by connecting.
fn open_door(listener: TcpListener, metrics: &Metrics, (stop, tasks): &(CancellationToken, TaskTracker)) -> Door {
    let address = local(&listener, SocketAddr::from(([0, 0, 0, 0], 0)));
    let gate = Gate::new();
    metrics.collect(Box::new(DoorCollector(gate.clone())));
    tasks.spawn(gate.clone().serve(listener, Pace::default(), stop.clone()));
    info!(%address, "KV events are heard");
    Door { gate, address }
}

/// Sockets that listen already, so that their addresses are known before anything else starts.
struct Listeners {
    grpc: TcpListener,
    http: TcpListener,
    events: Option<TcpListener>,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        let events = match config.events {
            Some(address) => Some(bind(address, "listen.events").await?),
            None => None,
        };
        Ok(Self {
            grpc: bind(config.grpc, "listen.grpc").await?,
            http: bind(config.http, "listen.http").await?,
            events,
        })
    }
}

async fn bind(address: SocketAddr, what: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, what, source })
}

fn local(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

/// Ready: every pool's first list is in and gRPC serves; no longer when the end begins.
fn readiness(store: &Datastore, mut serving: watch::Receiver<bool>, shutdown: &Shutdown) -> watch::Receiver<bool> {
    let (ready, reader) = watch::channel(false);
    let mut progress = store.progress.clone();
    let stop = shutdown.readiness.clone();
    shutdown.sources.1.spawn(async move {
        let first = async {
            // In this order: before gRPC serves, not all pools may be known.
            let served = serving.wait_for(|serving| *serving).await.is_ok();
            served && progress.wait_for(|progress| progress.discovered).await.is_ok()
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
    metrics: &Metrics,
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
    let (tables, publishing) =
        publish::drive::start(PublishSettings::default(), store.view.clone(), reports, stop_reader);
    metrics.collect(Box::new(TableCollector::new(publishing.status.clone())));
    (tables, publishing)
}
