//! Follows one pool's endpoint source and tells the whole list to the datastore and to the scrapers. A file that cannot
//! be read or parsed, or a cluster that cannot be reached, changes nothing: the last good list stays in force, the fault
//! is logged once and shown in a metric.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::clock::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::listing::{Pods, Told};
use super::retire::{Retiring, until};
use super::static_file;
use crate::clock;
use crate::config::watch::{LOOK, Watched};
use crate::config::{Discovery, Pool};
use crate::datastore::{Discovered, Update};
use crate::kubernetes::cluster::Cluster;
use crate::telemetry::Metrics;

/// Follows the source of one pool.
#[derive(Debug)]
pub struct Source {
    /// The pool's settings; a changed source is taken up at once.
    pub pool: watch::Receiver<Arc<Pool>>,
    /// What is known of the cluster.
    pub cluster: watch::Receiver<Arc<Cluster>>,
    /// The datastore.
    pub updates: mpsc::Sender<Update>,
    /// The scrapers.
    pub targets: watch::Sender<Arc<Vec<Discovered>>>,
    /// Where faults are counted.
    pub metrics: Arc<Metrics>,
}

impl Source {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut retiring = Retiring::default();
        loop {
            let pool = Arc::clone(&self.pool.borrow_and_update());
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.follow(&pool, &mut retiring) => return,
                changed = self.next_settings(&pool) => if !changed { return },
            }
        }
    }

    /// Waits until discovery is configured otherwise; false when the pool is gone.
    async fn next_settings(&self, now: &Pool) -> bool {
        let mut settings = self.pool.clone();
        let differs = |next: &Arc<Pool>| next.discovery != now.discovery || next.drain_grace != now.drain_grace;
        settings.wait_for(differs).await.is_ok()
    }

    /// Follows one source; ends when the datastore is gone.
    async fn follow(&self, pool: &Pool, retiring: &mut Retiring<Discovered>) {
        let mut listing = Listing::new(&pool.discovery, &self.cluster);
        let mut fault = None;
        loop {
            let now = clock::now();
            let mut fresh = retiring.next().is_some_and(|at| at <= now);
            if let Some(told) = listing.next() {
                self.metrics.discovery_up(&pool.name, told.fault.is_none());
                if let Some(error) = told.fault.as_ref().filter(|error| fault.as_ref() != Some(*error)) {
                    warn!(pool = pool.name, error, "no newer endpoint list, the last good one stays");
                }
                fault = told.fault;
                if let Some(priorities) = told.priorities
                    && !self.update(Update::Objectives { pool: pool.name.clone(), priorities }).await
                {
                    return;
                }
                if let Some(list) = told.list {
                    listing.log(pool, &list);
                    let list = list.into_iter().map(|endpoint| (endpoint.address.clone(), endpoint)).collect();
                    retiring.list(list, until(now, pool.drain_grace), |e| Discovered { draining: true, ..e });
                    fresh = true;
                }
            }
            if fresh && !self.tell(pool, retiring.shown(now)).await {
                return;
            }
            tokio::select! {
                () = listing.changed() => {}
                () = at(retiring.next()) => {}
            }
        }
    }

    async fn tell(&self, pool: &Pool, shown: Vec<Discovered>) -> bool {
        self.targets.send_replace(Arc::new(shown.clone()));
        self.update(Update::Endpoints { pool: pool.name.clone(), endpoints: shown }).await
    }

    /// False when the datastore is gone.
    async fn update(&self, update: Update) -> bool {
        self.updates.send(update).await.is_ok()
    }
}

async fn at(time: Option<Timestamp>) {
    match time {
        Some(time) => tokio::time::sleep(time.since(clock::now())).await,
        None => std::future::pending().await,
    }
}

/// A source of lists: the configuration (once), a file, or a cluster.
enum Listing {
    Fixed(Option<Vec<Discovered>>),
    File { file: Watched, follow: bool, read: bool },
    Pods { pods: Pods, cluster: watch::Receiver<Arc<Cluster>> },
}

impl Listing {
    fn new(discovery: &Discovery, cluster: &watch::Receiver<Arc<Cluster>>) -> Self {
        match discovery {
            Discovery::Static(list) => Self::Fixed(Some(list.clone())),
            Discovery::File { path, watch } => {
                let file = Watched::new(path.clone(), static_file::MAX_FILE_BYTES);
                Self::File { file, follow: *watch, read: false }
            }
            Discovery::Kubernetes(membership) => {
                Self::Pods { pods: Pods::new(membership.clone()), cluster: cluster.clone() }
            }
        }
    }

    /// What is new, if anything is.
    fn next(&mut self) -> Option<Told> {
        match self {
            Self::Fixed(list) => list.take().map(fresh),
            Self::Pods { pods, cluster } => {
                let cluster = Arc::clone(&cluster.borrow_and_update());
                pods.read(&cluster)
            }
            Self::File { file, follow, read } => {
                if *read && !*follow {
                    return None;
                }
                let parsed = file.look()?.map_err(|error| error.to_string()).and_then(parse);
                *read |= parsed.is_ok();
                Some(match parsed {
                    Ok(list) => fresh(list),
                    Err(error) => Told { fault: Some(error), ..Told::default() },
                })
            }
        }
    }

    /// Waits until it may have something new to say.
    async fn changed(&mut self) {
        match self {
            Self::File { follow, read, .. } if *follow || !*read => tokio::time::sleep(LOOK).await,
            Self::Pods { cluster, .. } => {
                if cluster.changed().await.is_err() {
                    std::future::pending().await
                }
            }
            Self::Fixed(_) | Self::File { .. } => std::future::pending().await,
        }
    }

    /// Pods come and go all the time; who edits a file wants to see that it is read.
    fn log(&self, pool: &Pool, list: &[Discovered]) {
        match self {
            Self::Pods { .. } => debug!(pool = pool.name, endpoints = list.len(), "endpoints listed"),
            Self::Fixed(_) | Self::File { .. } => info!(pool = pool.name, endpoints = list.len(), "endpoints listed"),
        }
    }
}

/// A source that knows of no objectives.
fn fresh(list: Vec<Discovered>) -> Told {
    Told { list: Some(list), priorities: Some(BTreeMap::new()), fault: None }
}

fn parse(bytes: Vec<u8>) -> Result<Vec<Discovered>, String> {
    let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
    static_file::parse(&text).map_err(|problem| problem.to_string())
}
