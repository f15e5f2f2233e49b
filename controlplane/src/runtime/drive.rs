//! Starts the domains and follows the configuration. Gateways are served only when every listed endpoint was probed
//! once (or a few seconds have passed): a restarted control plane must not publish a table in which all are unknown.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::server::HealthReporter;
use tracing::info;

use super::pools::Pools;
use super::serve::{Grpc, ended, serve_health};
use super::watch::Follower;
use super::{HINTS, Options, Running, Shutdown, StartError};
use crate::admin::serve::{Admin, Known, serve as serve_admin};
use crate::config::Config;
use crate::datastore::drive::{Datastore, datastore};
use crate::envoy::write::follow as write_endpoints;
use crate::epp;
use crate::epp::certificate::self_signed;
use crate::epp::drive::feed;
use crate::epp::picker::{Picker, PickerCollector};
use crate::epp::{Certificate, Serves};
use crate::events::serve::Gate;
use crate::events::stream::Pace;
use crate::exact::drive::Door;
use crate::explain::serve::Explainer;
use crate::kubernetes::drive::Clustered;
use crate::kubernetes::lease::drive::Leadership;
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
pub async fn start(Options { config, config_path, epp }: Options) -> Result<Running, StartError> {
    let listeners = Listeners::bind(&config, epp.health).await?;
    let (grpc, http) = (local(&listeners.grpc, config.grpc), local(&listeners.http, config.http));
    let health = listeners.health.as_ref().and_then(|listener| listener.local_addr().ok());
    let (credentials, tls) = encryption(&config, epp.certificate)?;

    let (store, metrics, shutdown) = spawn_store();
    let (serving, ready) = readiness(&store, &shutdown);
    let Clustered { hub, cluster, leadership } = Clustered::start(&config, &metrics, &shutdown.sources).await?;
    let (settled, settled_reader) = watch::channel(hub.is_none());

    let Published { tables, publishing, hints, picker } = publish_tables(&store, &metrics, epp, &shutdown);
    let (door, events) = listeners.events.map(|listener| open_door(listener, &metrics, &shutdown.sources)).unzip();
    let mut pools = Pools {
        door,
        news: publishing.news.clone(),
        datastore: store.clone(),
        client: Client::new()?,
        metrics: Arc::clone(&metrics),
        hints: hints.clone(),
        cluster: cluster.clone(),
        hub,
        memberships: watch::Sender::new(Arc::default()),
        stop: shutdown.sources.0.clone(),
        tasks: shutdown.sources.1.clone(),
        running: BTreeMap::new(),
    };
    pools.apply(&config.pools).await;

    let explainer = Explainer::new(publishing.tables.clone());
    let admin = admin(&pools, &publishing, explainer.clone(), ready.clone(), leadership.clone());
    let server = Grpc {
        listener: listeners.grpc,
        health: HealthReporter::new(),
        tls,
        store: store.clone(),
        settled: settled_reader,
        serving,
        tables,
        leadership: (picker.settings.serves == Serves::WhileLeading).then(|| leadership.clone()),
        picker: Arc::clone(&picker),
    };
    spawn_servers(&shutdown, (listeners.http, admin), listeners.health, server);
    spawn_followers(&shutdown, credentials, Follower { config, pools, path: config_path, settled });
    info!(%grpc, %http, "listening");
    Ok(Running {
        grpc,
        http,
        events,
        health,
        datastore: store,
        hints,
        metrics,
        ready,
        cluster,
        leadership,
        explainer,
        publishing,
        picker,
        shutdown,
    })
}

/// TLS on the gRPC port: with files that are followed, or with a certificate of our own making.
#[expect(clippy::type_complexity, reason = "two halves of one thing, taken apart at once")]
fn encryption(
    config: &Config,
    certificate: Certificate,
) -> Result<(Option<Credentials>, Option<watch::Receiver<Arc<ServerConfig>>>), StartError> {
    let (credentials, tls) = config.tls.clone().map(Credentials::load).transpose()?.unzip();
    let tls = match (tls, certificate) {
        (None, Certificate::SelfSigned) => Some(watch::channel(self_signed()?).1),
        (tls, Certificate::SelfSigned | Certificate::None) => tls,
    };
    Ok((credentials, tls))
}

fn admin(
    pools: &Pools,
    publishing: &PublishHandle,
    explainer: Explainer,
    ready: watch::Receiver<bool>,
    leadership: watch::Receiver<Leadership>,
) -> Admin {
    Admin {
        tables: publishing.status.clone(),
        view: pools.datastore.view.clone(),
        cluster: Known { cluster: pools.cluster.clone(), memberships: pools.memberships.subscribe(), leadership },
        ready,
        metrics: Arc::clone(&pools.metrics),
        explainer,
    }
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

fn spawn_servers(shutdown: &Shutdown, (http, admin): (TcpListener, Admin), health: Option<TcpListener>, grpc: Grpc) {
    let (stop, tasks) = &shutdown.servers;
    if let Some(listener) = health {
        tasks.spawn(serve_health(listener, grpc.health.clone(), stop.clone()));
    }
    tasks.spawn(ended("http", serve_admin(http, admin, stop.clone())));
    tasks.spawn(grpc.serve((shutdown.readiness.clone(), stop.clone())));
}

/// The endpoint picker, fed by what is published here.
fn endpoint_picker(
    settings: epp::Settings,
    publishing: &PublishHandle,
    metrics: &Metrics,
    (stop, tasks): &(CancellationToken, TaskTracker),
) -> Arc<Picker> {
    let picker = Arc::new(Picker::new(settings));
    metrics.collect(Box::new(PickerCollector(Arc::clone(&picker))));
    tasks.spawn(feed(Arc::clone(&picker), publishing.local.clone(), stop.clone()));
    picker
}

/// Lets engines in that publish by connecting.
fn open_door(
    listener: TcpListener,
    metrics: &Metrics,
    (stop, tasks): &(CancellationToken, TaskTracker),
) -> (Door, SocketAddr) {
    let address = local(&listener, SocketAddr::from(([0, 0, 0, 0], 0)));
    let gate = Gate::new();
    metrics.collect(Box::new(DoorCollector(gate.clone())));
    tasks.spawn(gate.clone().serve(listener, Pace::default(), stop.clone()));
    info!(%address, "KV events are heard");
    (Door { gate, address }, address)
}

/// Sockets that listen already, so that their addresses are known before anything else starts.
struct Listeners {
    grpc: TcpListener,
    http: TcpListener,
    events: Option<TcpListener>,
    health: Option<TcpListener>,
}

impl Listeners {
    async fn bind(config: &Config, health: Option<SocketAddr>) -> Result<Self, StartError> {
        let bind_if = async |address: Option<SocketAddr>, what| match address {
            Some(address) => bind(address, what).await.map(Some),
            None => Ok(None),
        };
        Ok(Self {
            grpc: bind(config.grpc, "listen.grpc").await?,
            http: bind(config.http, "listen.http").await?,
            events: bind_if(config.events, "listen.events").await?,
            health: bind_if(health, "--grpc-health-port").await?,
        })
    }
}

async fn bind(address: SocketAddr, what: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, what, source })
}

fn local(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

/// Whom to tell that gRPC serves, and ready: every pool's first list is in and gRPC serves; no longer when the end begins.
fn readiness(store: &Datastore, shutdown: &Shutdown) -> (watch::Sender<bool>, watch::Receiver<bool>) {
    let (told, mut serving) = watch::channel(false);
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
    (told, reader)
}

/// What serves gateways.
struct Published {
    tables: RoutingTableServer<TableService>,
    publishing: PublishHandle,
    hints: broadcast::Sender<Hint>,
    picker: Arc<Picker>,
}

/// Starts the publishing task and what hangs on it; what gateways report about endpoints becomes hints for the scrapers.
fn publish_tables(store: &Datastore, metrics: &Metrics, epp: epp::Settings, shutdown: &Shutdown) -> Published {
    let (stop, tasks) = &shutdown.servers;
    let hints = broadcast::Sender::new(HINTS);
    let (reports, mut reported) = mpsc::channel(HINTS);
    let scrapers = hints.clone();
    tasks.spawn(async move {
        while let Some(hint) = reported.recv().await {
            // Nobody listens when there is no pool.
            let _unheard = scrapers.send(hint);
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
    let picker = endpoint_picker(epp, &publishing, metrics, &shutdown.sources);
    Published { tables, publishing, hints, picker }
}
