//! The single writer of the cluster's snapshot, and the tasks that feed it: one watch of each kind in each scope,
//! shared by all pools. Scopes are only ever added: what is watched stays so until the end.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::automatic::scopes;
use super::cluster::{Change, Cluster};
use super::collection::{News, Scope};
use super::fetch::{CredentialsError, client};
use super::lease::drive::{LeaderElector, Leadership};
use super::object::Kept;
use super::watch::{INFERENCE_POOLS, OBJECTIVES, PODS, REWRITES, Resource, follow};
use crate::config::Config;
use crate::telemetry::Metrics;

/// Changes that may wait for the writer; watches wait when it is full.
const QUEUE: usize = 1024;

/// Two snapshots are at least this far apart.
const GATHER: Duration = Duration::from_millis(5);

/// What a control plane has of its cluster.
#[derive(Debug)]
pub struct Clustered {
    /// The watches; `None`: the configuration needs no cluster.
    pub hub: Option<Hub>,
    /// What is known; nothing, without a cluster.
    pub cluster: watch::Receiver<Arc<Cluster>>,
    /// Whether this replica leads; it does not, without an election.
    pub leadership: watch::Receiver<Leadership>,
}

impl Clustered {
    /// Starts what `config` needs.
    ///
    /// # Errors
    /// When it needs a cluster and there is no way to one. That the server does not answer is no error.
    pub async fn start(
        config: &Config,
        metrics: &Arc<Metrics>,
        group: &(CancellationToken, TaskTracker),
    ) -> Result<Self, CredentialsError> {
        if !config.needs_cluster() {
            let (cluster, leadership) = (watch::channel(Arc::default()).1, watch::channel(Leadership::default()).1);
            return Ok(Self { hub: None, cluster, leadership });
        }
        let client = client(config.kubernetes.kubeconfig.as_deref()).await?;
        let first = scopes(&config.kubernetes, &config.pools, client.default_namespace());
        let leadership = match config.kubernetes.leader_election.clone() {
            None => watch::channel(Leadership::default()).1,
            Some(settings) => {
                let (elector, leadership) =
                    LeaderElector::new(client.clone(), settings, identity(), Arc::clone(metrics));
                group.1.spawn(elector.run(group.0.clone()));
                leadership
            }
        };
        let hub = Hub::start(client, first, Arc::clone(metrics), group).await;
        Ok(Self { cluster: hub.cluster.clone(), hub: Some(hub), leadership })
    }
}

/// Another in every process, even of one pod: its name, and a number that is drawn.
fn identity() -> String {
    let pod = ["POD_NAME", "HOSTNAME"].iter().find_map(|name| std::env::var(name).ok()).filter(|name| !name.is_empty());
    format!("{}_{:016x}", pod.as_deref().unwrap_or("kvasir"), RandomState::new().hash_one(std::process::id()))
}

/// The watches of one cluster.
#[derive(Debug)]
pub struct Hub {
    /// What is known.
    pub cluster: watch::Receiver<Arc<Cluster>>,
    scopes: mpsc::Sender<Scope>,
}

impl Hub {
    /// Starts to watch `first`: nobody takes the cluster for known before that is.
    pub async fn start(
        client: Client,
        first: BTreeSet<Scope>,
        metrics: Arc<Metrics>,
        (stop, tasks): &(CancellationToken, TaskTracker),
    ) -> Self {
        let mut cluster = Cluster::new(client.default_namespace());
        for scope in &first {
            cluster.expect(scope);
        }
        let (snapshots, reader) = watch::channel(Arc::new(cluster.clone()));
        let (scopes, wanted) = mpsc::channel(QUEUE);
        let (changes, inbox) = mpsc::channel(QUEUE);
        let writer = Writer { cluster, snapshots, metrics };
        tasks.spawn(writer.run(inbox, stop.clone()));
        let watches = Watches { client, changes, covered: BTreeSet::new(), tasks: tasks.clone(), stop: stop.clone() };
        tasks.spawn(watches.run(wanted));
        let hub = Self { cluster: reader, scopes };
        for scope in first {
            hub.cover(scope).await;
        }
        hub
    }

    /// Watches `scope` as well, unless that is done already.
    pub async fn cover(&self, scope: Scope) {
        // It fails only at the end, when nothing matters any more.
        let _ended = self.scopes.send(scope).await;
    }
}

struct Watches {
    client: Client,
    changes: mpsc::Sender<(Scope, Told)>,
    covered: BTreeSet<Scope>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What the writer is told.
enum Told {
    /// A scope is watched from now on.
    Expect,
    Change(Change),
}

impl Watches {
    async fn run(mut self, mut wanted: mpsc::Receiver<Scope>) {
        loop {
            let scope = tokio::select! {
                () = self.stop.cancelled() => return,
                scope = wanted.recv() => scope,
            };
            let Some(scope) = scope else { return };
            if self.covered.contains(&Scope::All) || !self.covered.insert(scope.clone()) {
                continue;
            }
            if self.changes.send((scope.clone(), Told::Expect)).await.is_err() {
                return;
            }
            self.spawn(PODS, &scope, Change::Pods);
            self.spawn(INFERENCE_POOLS, &scope, Change::Pools);
            self.spawn(OBJECTIVES, &scope, Change::Objectives);
            self.spawn(REWRITES, &scope, Change::Rewrites);
        }
    }

    fn spawn<T: Kept>(&self, resource: Resource, scope: &Scope, change: fn(News<T>) -> Change) {
        let (changes, stop) = (self.changes.clone(), self.stop.clone());
        let told = scope.clone();
        let tell = move |news| {
            let (changes, told) = (changes.clone(), told.clone());
            async move { changes.send((told, Told::Change(change(news)))).await.is_ok() }
        };
        let following = follow(self.client.clone(), resource, scope.clone(), tell);
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = following => {}
            }
        });
    }
}

struct Writer {
    cluster: Cluster,
    snapshots: watch::Sender<Arc<Cluster>>,
    metrics: Arc<Metrics>,
}

impl Writer {
    async fn run(mut self, mut inbox: mpsc::Receiver<(Scope, Told)>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(QUEUE);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                taken = inbox.recv_many(&mut batch, QUEUE) => if taken == 0 { return },
            }
            for (scope, told) in batch.drain(..) {
                match told {
                    Told::Expect => self.cluster.expect(&scope),
                    Told::Change(change) => self.take(&scope, change),
                }
            }
            self.snapshots.send_replace(Arc::new(self.cluster.clone()));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(GATHER) => {}
            }
        }
    }

    fn take(&mut self, scope: &Scope, change: Change) {
        let kind = change.kind();
        let before = self.cluster.fault(kind, scope).map(str::to_owned);
        for malformed in self.cluster.apply(scope, change) {
            let (namespace, object) = (&*malformed.namespace, &*malformed.name);
            warn!(kind = kind.name(), namespace, object, error = malformed.error, "malformed object, left as it was");
            self.metrics.malformed_object(kind.name());
        }
        let namespace = match scope {
            Scope::All => "*",
            Scope::Namespace(namespace) => namespace,
        };
        match (before, self.cluster.fault(kind, scope)) {
            (None, None) => {}
            (None, Some(error)) => {
                warn!(kind = kind.name(), namespace, error, "not followed, what was known stays");
            }
            (Some(before), Some(error)) if before != error => {
                warn!(kind = kind.name(), namespace, error, "still not followed");
            }
            (Some(_), Some(_)) => {}
            (Some(_), None) => info!(kind = kind.name(), namespace, "followed again"),
        }
    }
}
