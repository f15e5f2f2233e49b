//! The tasks of each configured pool: one source, one set of watches. A changed pool keeps its tasks and gets its new
//! settings through a channel, so that nothing that is known of its endpoints is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::config::kubernetes::Membership;
use crate::config::{Discovery, Pool};
use crate::datastore::Update;
use crate::datastore::drive::Datastore;
use crate::discovery::watch::Source;
use crate::exact;
use crate::exact::drive::Door;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::collection::Scope;
use crate::kubernetes::drive::Hub;
use crate::publish::drive::NewsDesk;
use crate::scrape::Hint;
use crate::scrape::drive::watch_endpoints;
use crate::scrape::fetch::Client;
use crate::scrape::poll::Context;
use crate::telemetry::Metrics;

/// The pools that run.
pub(super) struct Pools {
    pub(super) door: Option<Door>,
    pub(super) datastore: Datastore,
    pub(super) client: Client,
    pub(super) metrics: Arc<Metrics>,
    pub(super) hints: broadcast::Sender<Hint>,
    pub(super) news: NewsDesk,
    /// What is known of the cluster; nothing, without one.
    pub(super) cluster: watch::Receiver<Arc<Cluster>>,
    /// The cluster's watches, if there are any.
    pub(super) hub: Option<Hub>,
    /// Which pods each running pool has.
    pub(super) memberships: watch::Sender<Arc<BTreeMap<String, Membership>>>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) running: BTreeMap<String, (watch::Sender<Arc<Pool>>, CancellationToken)>,
}

impl Pools {
    /// Makes the configured pools the running ones.
    pub(super) async fn apply(&mut self, pools: &[Pool]) {
        self.cover(pools).await;
        let specs = Update::Pools(pools.iter().map(Pool::spec).collect());
        if self.datastore.updates.send(specs).await.is_err() {
            return;
        }
        self.running.retain(|name, (_, stop)| {
            let stays = pools.iter().any(|pool| pool.name == *name);
            if !stays {
                info!(pool = name, "pool removed");
                stop.cancel();
                self.metrics.forget(name);
            }
            stays
        });
        for pool in pools {
            match self.running.get(&pool.name) {
                Some((settings, _)) => {
                    let next = Arc::new(pool.clone());
                    settings.send_if_modified(|now| {
                        let changed = **now != *next;
                        *now = next;
                        changed
                    });
                }
                None => self.add(pool),
            }
        }
    }

    /// Has the pools' pods watched.
    async fn cover(&self, pools: &[Pool]) {
        let memberships: BTreeMap<String, Membership> = pools
            .iter()
            .filter_map(|pool| match &pool.discovery {
                Discovery::Kubernetes(membership) => Some((pool.name.clone(), membership.clone())),
                Discovery::File { .. } | Discovery::Static(_) => None,
            })
            .collect();
        if let Some(hub) = &self.hub {
            let own = Arc::clone(&self.cluster.borrow().own);
            for membership in memberships.values() {
                hub.cover(Scope::Namespace(membership.namespace(&own).into())).await;
            }
        }
        self.memberships.send_replace(Arc::new(memberships));
    }

    fn add(&mut self, pool: &Pool) {
        info!(pool = pool.name, "pool added");
        let stop = self.stop.child_token();
        let (settings, settings_reader) = watch::channel(Arc::new(pool.clone()));
        let (targets, targets_reader) = watch::channel(Arc::default());
        let source = Source {
            pool: settings_reader.clone(),
            cluster: self.cluster.clone(),
            updates: self.datastore.updates.clone(),
            targets,
            metrics: Arc::clone(&self.metrics),
        };
        self.tasks.spawn(source.run(stop.clone()));
        let exact = exact::drive::Context {
            pool: settings_reader.clone(),
            view: self.datastore.view.clone(),
            client: self.client.clone(),
            news: self.news.clone(),
            door: self.door.clone(),
        };
        self.tasks.spawn(exact::drive::run(exact, stop.clone()));
        let context = Context {
            pool: settings_reader,
            updates: self.datastore.updates.clone(),
            client: self.client.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        self.tasks.spawn(watch_endpoints(context, targets_reader, self.hints.clone(), stop.clone()));
        self.running.insert(pool.name.clone(), (settings, stop));
    }
}
