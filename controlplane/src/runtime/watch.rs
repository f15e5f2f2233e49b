//! Which pools there are: those of the configuration file, taken up when it changes (at once on SIGHUP; a bad one changes
//! nothing), and the automatic ones of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::clock::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch::Sender;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::pools::Pools;
use crate::clock;
use crate::config::kubernetes::AutomaticPools;
use crate::config::watch::{LOOK, Watched, parse};
use crate::config::{Config, EndpointPicker, Pool};
use crate::datastore::View;
use crate::discovery::retire::{Retiring, until};
use crate::kubernetes::automatic;
use crate::kubernetes::rewrite::ruled;

/// A configuration larger than this is a mistake.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Follows what says which pools there are.
pub(super) struct Follower {
    pub(super) config: Config,
    pub(super) pools: Pools,
    /// Where the configuration came from; `None`: it never changes.
    pub(super) path: Option<PathBuf>,
    /// Told once all pools are known and in the view.
    pub(super) settled: Sender<bool>,
}

/// The configuration file.
struct Written {
    path: PathBuf,
    file: Watched,
    /// The files that it refers to.
    others: Vec<Watched>,
    hangup: Option<Signal>,
    /// As it was read last; the first reading may differ from what runs: that has been filled in since.
    last: Option<Config>,
}

impl Follower {
    /// Follows until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut written = self.path.take().map(Written::new);
        let mut automatic = Retiring::default();
        let mut cluster = self.pools.cluster.clone();
        let mut shown: Vec<Pool> = self.config.pools.clone();
        let mut waits = self.pools.hub.is_some();
        loop {
            let now = clock::now();
            let known = Arc::clone(&cluster.borrow_and_update());
            if let Some(fresh) = automatic::pools(&self.config.kubernetes, &self.config.pools, &known) {
                let grace = self.config.kubernetes.pools.as_ref().map_or(Duration::ZERO, AutomaticPools::drain_grace);
                automatic.list(fresh, until(now, grace), |pool| pool);
            }
            let next = merged(&self.config.pools, automatic.shown(now));
            let next: Vec<Pool> = next.into_iter().map(|pool| ruled(pool, &known)).collect();
            if next != shown {
                self.pools.apply(&next).await;
                shown = next;
            }
            if waits && known.synced() {
                waits = !self.settle(&shown).await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = cluster.changed(), if self.pools.hub.is_some() => if changed.is_err() { return },
                () = at(automatic.next()) => {}
                read = next_text(&mut written) => self.read(read, &mut written).await,
            }
        }
    }

    /// Waits until the view shows all pools; then there is no doubt that their endpoints are waited for.
    async fn settle(&mut self, shown: &[Pool]) -> bool {
        let mut view = self.pools.datastore.view.clone();
        let all = |view: &Arc<View>| shown.iter().all(|pool| view.pools.iter().any(|seen| seen.name == pool.name));
        let seen = view.wait_for(all).await.is_ok();
        self.settled.send_replace(seen);
        seen
    }

    /// Takes up the text of the file, or refuses it.
    async fn read(&mut self, text: Result<Vec<u8>, String>, written: &mut Option<Written>) {
        let Some(written) = written else { return };
        let parsed = text.and_then(|bytes| written.parse(&bytes)).and_then(|next| self.allowed(next));
        match parsed {
            Ok(next) => {
                if let Some(before) = &written.last {
                    restart_needed(before, &next);
                }
                let changed = next.pools != self.config.pools || next.kubernetes.pools != self.config.kubernetes.pools;
                if written.last.is_some() || changed {
                    self.pools.metrics.reloaded(true);
                    info!(pools = next.pools.len(), "configuration applied");
                }
                warn_of_pickers(written.last.as_ref(), &next);
                self.config.pools.clone_from(&next.pools);
                self.config.kubernetes.pools.clone_from(&next.kubernetes.pools);
                written.last = Some(next);
            }
            Err(error) => {
                self.pools.metrics.reloaded(false);
                error!(error, "configuration refused, the old one stays");
            }
        }
    }

    fn allowed(&self, next: Config) -> Result<Config, String> {
        if next.needs_cluster() && self.pools.hub.is_none() {
            return Err("kubernetes: must be there from the start: restart to begin with it".to_owned());
        }
        Ok(next)
    }
}

/// The configured pools, then the automatic ones that none of those replaces.
fn merged(configured: &[Pool], automatic: Vec<Pool>) -> Vec<Pool> {
    let names: BTreeSet<&str> = configured.iter().map(|pool| pool.name.as_str()).collect();
    let own = automatic.into_iter().filter(|pool| !names.contains(pool.name.as_str()));
    configured.iter().cloned().chain(own).collect()
}

async fn at(time: Option<Timestamp>) {
    match time {
        Some(time) => tokio::time::sleep(time.since(clock::now())).await,
        None => std::future::pending().await,
    }
}

/// Waits for a new text of the file.
async fn next_text(written: &mut Option<Written>) -> Result<Vec<u8>, String> {
    let Some(written) = written else { return std::future::pending().await };
    loop {
        let asked = tokio::select! {
            () = tokio::time::sleep(LOOK) => false,
            () = hung_up(&mut written.hangup) => true,
        };
        match written.file.look() {
            Some(read) => return read.map_err(|error| error.to_string()),
            None if asked || written.others_changed() => {
                written.file = Watched::new(written.path.clone(), MAX_CONFIG_BYTES);
            }
            None => {}
        }
    }
}

impl Written {
    fn new(path: PathBuf) -> Self {
        let hangup = signal(SignalKind::hangup()).map_err(|error| warn!(%error, "SIGHUP cannot be followed")).ok();
        Self { file: Watched::new(path.clone(), MAX_CONFIG_BYTES), path, others: Vec::new(), hangup, last: None }
    }

    /// Follows the files that the text refers to from now on.
    fn parse(&mut self, bytes: &[u8]) -> Result<Config, String> {
        let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let (parsed, others) = parse(text, &self.path);
        self.others = others;
        parsed.map_err(|error| error.to_string())
    }

    fn others_changed(&mut self) -> bool {
        self.others.iter_mut().filter_map(Watched::look).count() > 0
    }
}

/// What of a pool's `endpointPickerConfig` is not in force is said once, and again when it changes.
fn warn_of_pickers(before: Option<&Config>, next: &Config) {
    let before: BTreeMap<&str, &EndpointPicker> = before.into_iter().flat_map(pickers).collect();
    for (pool, picker) in pickers(next) {
        if before.get(pool) != Some(&picker) {
            for warning in picker.loaded.report.warnings() {
                warn!(pool, warning, "endpointPickerConfig is taken, but not all of it is as in llm-d");
            }
        }
    }
}

/// Each pool's, by name, and that of the automatic ones.
fn pickers(config: &Config) -> impl Iterator<Item = (&str, &EndpointPicker)> {
    let own = config.pools.iter().filter_map(|pool| Some((pool.name.as_str(), pool.endpoint_picker.as_ref()?)));
    let automatic = config.kubernetes.pools.iter().filter_map(AutomaticPools::endpoint_picker);
    own.chain(automatic.map(|picker| ("kubernetes.pools", picker)))
}

fn restart_needed(now: &Config, next: &Config) {
    if (now.grpc, now.http, now.events, &now.tls) != (next.grpc, next.http, next.events, &next.tls) {
        warn!("listen changed: it takes effect with a restart");
    }
    let cluster = |config: &Config| (config.kubernetes.namespaces.clone(), config.kubernetes.leader_election.clone());
    if cluster(now) != cluster(next) {
        warn!("kubernetes.namespaces or leaderElection changed: it takes effect with a restart");
    }
    let names = |config: &Config| config.pools.iter().map(|pool| pool.name.clone()).collect::<Vec<_>>();
    if names(now) != names(next) {
        warn!("pools were added, removed or reordered: render the gateway's bootstrap again");
    }
    if now.gateway != next.gateway {
        warn!("gateway changed: it takes effect with a restart");
    }
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
