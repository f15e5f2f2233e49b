//! Follows one pool's endpoint source and tells the whole list to the datastore and to the scrapers. A file that cannot
//! be read or parsed changes nothing: the last good list stays in force, the fault is logged once and counted.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::retire::Retiring;
use super::static_file;
use crate::clock;
use crate::config::watch::{LOOK, Watched};
use crate::config::{Discovery, Pool};
use crate::datastore::{Discovered, Update};
use crate::telemetry::Metrics;

/// Follows the source of one pool.
#[derive(Debug)]
pub struct Source {
    /// The pool's settings; a changed source is taken up at once.
    pub pool: watch::Receiver<Arc<Pool>>,
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
    async fn follow(&self, pool: &Pool, retiring: &mut Retiring) {
        let mut list = Listing::new(&pool.discovery);
        loop {
            let now = clock::now();
            let fresh = match list.next() {
                Some(Ok(listed)) => {
                    info!(pool = pool.name, endpoints = listed.len(), "endpoints listed");
                    self.metrics.discovery_up(&pool.name, true);
                    retiring.list(listed, now, pool.drain_grace);
                    true
                }
                Some(Err(error)) => {
                    warn!(pool = pool.name, error, "endpoint list refused, the last good one stays");
                    self.metrics.discovery_up(&pool.name, false);
                    false
                }
                None => retiring.next().is_some_and(|at| at <= now),
            };
            if fresh && !self.tell(pool, retiring.shown(now)).await {
                return;
            }
            match retiring.next() {
                None if list.is_final() => std::future::pending().await,
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn tell(&self, pool: &Pool, shown: Vec<Discovered>) -> bool {
        self.targets.send_replace(Arc::new(shown.clone()));
        self.updates.send(Update::Endpoints { pool: pool.name.clone(), endpoints: shown }).await.is_ok()
    }
}

/// A source of lists: the configuration (once), or a file.
enum Listing {
    Fixed(Option<Vec<Discovered>>),
    File { file: Watched, follow: bool, read: bool },
}

impl Listing {
    fn new(discovery: &Discovery) -> Self {
        match discovery {
            Discovery::Static(list) => Self::Fixed(Some(list.clone())),
            Discovery::File { path, watch } => {
                let file = Watched::new(path.clone(), static_file::MAX_FILE_BYTES);
                Self::File { file, follow: *watch, read: false }
            }
        }
    }

    /// The list, when there is a new one, or what is wrong with it.
    fn next(&mut self) -> Option<Result<Vec<Discovered>, String>> {
        match self {
            Self::Fixed(list) => list.take().map(Ok),
            Self::File { file, follow, read } => {
                if *read && !*follow {
                    return None;
                }
                let bytes = match file.look()? {
                    Ok(bytes) => bytes,
                    Err(error) => return Some(Err(error.to_string())),
                };
                let text = match String::from_utf8(bytes) {
                    Ok(text) => text,
                    Err(error) => return Some(Err(error.to_string())),
                };
                let parsed = static_file::parse(&text).map_err(|problem| problem.to_string());
                *read |= parsed.is_ok();
                Some(parsed)
            }
        }
    }

    /// Will it never say anything new?
    const fn is_final(&self) -> bool {
        match self {
            Self::Fixed(list) => list.is_none(),
            Self::File { follow, read, .. } => *read && !*follow,
        }
    }
}
