//! Owns every task: starts the domains, wires their channels, reloads the configuration, and stops all in order: first
//! readiness goes down, then the servers end, then the sources, last the writer. Only this module knows all domains.

mod drive;
mod pools;
mod serve;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::datastore::drive::Datastore;
use crate::epp;
use crate::epp::picker::Picker;
use crate::epp::serve::drained;
use crate::explain::serve::Explainer;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::lease::drive::Leadership;
use crate::publish::drive::PublishHandle;
use crate::scrape::Hint;
use crate::telemetry::Metrics;

pub use drive::start;

/// Hints that may wait for the scrapers of one pool.
const HINTS: usize = 1024;

/// How long the servers, and then everything else, may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// How long calls that are under way may go on when the gRPC server ends; a health watch would go on for ever.
const LAST_CALLS: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Debug)]
pub struct Options {
    /// The configuration.
    pub config: Config,
    /// Where it came from, to follow changes; `None`: it never changes.
    pub config_path: Option<PathBuf>,
    /// The endpoint picker.
    pub epp: epp::Settings,
}

/// Why the control plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not ours.
    #[error("cannot listen on {address} ({what}): {source}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// `listen.grpc`, `listen.http`, `listen.events` or `--grpc-health-port`.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error("listen.tls: {0}")]
    Tls(#[from] crate::tls::TlsError),
    /// No certificate can be made.
    #[error(transparent)]
    Certificate(#[from] epp::certificate::CertificateError),
    /// There is no way to the cluster that the configuration needs.
    #[error("no way to the Kubernetes API (--kubeconfig, a service account, or $KUBECONFIG): {0}")]
    Cluster(#[from] crate::kubernetes::fetch::CredentialsError),
    /// The HTTP client of the probes cannot start.
    #[error("cannot start the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// A running control plane. Dropping it leaves its tasks running until the process ends: call `stop`.
pub struct Running {
    /// Where gRPC listens; the real port when the configuration said 0.
    pub grpc: SocketAddr,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Where engines connect to publish; `None`: nowhere.
    pub events: Option<SocketAddr>,
    /// Where gRPC health alone listens; `None`: nowhere.
    pub health: Option<SocketAddr>,
    /// Views and updates.
    pub datastore: Datastore,
    /// Where gateways' failures and bookings are hinted.
    pub hints: broadcast::Sender<Hint>,
    /// Counters, and the registry to add more to.
    pub metrics: Arc<Metrics>,
    /// Ready?
    pub ready: Receiver<bool>,
    /// What is known of the cluster; nothing, without one.
    pub cluster: Receiver<Arc<Cluster>>,
    /// Does this replica lead; false for ever without an election.
    pub leadership: Receiver<Leadership>,
    /// To see what is published.
    pub publishing: PublishHandle,
    /// Explains decisions.
    pub explainer: Explainer,
    /// The endpoint picker.
    pub picker: Arc<Picker>,
    shutdown: Shutdown,
}

/// The tokens and tasks, in the order in which they end.
struct Shutdown {
    readiness: CancellationToken,
    servers: (CancellationToken, TaskTracker),
    sources: (CancellationToken, TaskTracker),
    writer: (CancellationToken, JoinHandle<()>),
}

impl Shutdown {
    fn new(writer: (CancellationToken, JoinHandle<()>)) -> Self {
        let group = || (CancellationToken::new(), TaskTracker::new());
        Self { readiness: CancellationToken::new(), servers: group(), sources: group(), writer }
    }
}

impl Running {
    /// Ends everything in order: a few seconds, after the endpoint picker has drained if it was used.
    pub async fn stop(self) {
        let Shutdown { readiness, servers, sources, writer } = self.shutdown;
        readiness.cancel();
        drained(&self.picker).await;
        let streams = (servers.0.clone(), self.publishing.tasks);
        for (token, tasks) in [servers, streams, sources] {
            token.cancel();
            tasks.close();
            if tokio::time::timeout(STOP_WITHIN, tasks.wait()).await.is_err() {
                tracing::warn!(tasks = tasks.len(), "tasks did not end in time");
            }
        }
        writer.0.cancel();
        let abort = writer.1.abort_handle();
        if tokio::time::timeout(STOP_WITHIN, writer.1).await.is_err() {
            abort.abort();
        }
    }
}
