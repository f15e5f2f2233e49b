//! The tasks behind a pool's exact residency: one loads the model and minds the list of engines, one follows each engine.
//! They decide nothing; what they find goes to the publishing task.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::identity::EndpointId;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::fetch::{Loaded, load, origin};
use super::{ModelState, News, judge};
use crate::config::{EventPorts, Exact, Pool};
use crate::datastore::{PoolView, View};
use crate::events::fetch::ask;
use crate::events::sequence::ResetReason;
use crate::events::serve::Gate;
use crate::events::sources::{Address, Ports, Source};
use crate::events::subscribe::{Follower, Options, Update};
use crate::publish::drive::NewsDesk;
use crate::scrape::fetch::Client;

/// First and longest wait before something that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// An engine that is up says where it publishes within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Updates of one engine that wait for the publishing task.
const UPDATES: usize = 256;
/// A connection that is down for so many attempts may have moved: the engine is asked again.
const ATTEMPTS: u32 = 4;
/// An engine that connected and left is dialled again after this.
const AWAY: Duration = Duration::from_secs(10);

/// What the tasks of a pool work with.
pub struct Context {
    /// Its configuration, now and later.
    pub pool: watch::Receiver<Arc<Pool>>,
    /// Its endpoints and models.
    pub view: watch::Receiver<Arc<View>>,
    /// To ask engines.
    pub client: Client,
    /// Who decides.
    pub news: NewsDesk,
    /// Where engines may connect to publish; `None`: nowhere.
    pub door: Option<Door>,
}

/// Where engines connect that publish by dialling us.
#[derive(Clone, Debug)]
pub struct Door {
    /// Tells whose messages they are.
    pub gate: Gate,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Runs until `stop`.
pub async fn run(context: Context, stop: CancellationToken) {
    let mut wanted = false;
    let mut settings = context.pool.clone();
    loop {
        let pool = Arc::clone(&settings.borrow_and_update());
        match &pool.exact {
            Some(exact) => {
                wanted = true;
                let attempt = stop.child_token();
                let tasks = TaskTracker::new();
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = changed(&mut settings, &pool) => {}
                    () = follow_pool(&context, &pool.name, exact, &attempt, &tasks) => {}
                }
                attempt.cancel();
                tasks.close();
                tasks.wait().await;
            }
            None => {
                if std::mem::take(&mut wanted) {
                    context.news.tell(&pool.name, News::Unwanted).await;
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = changed(&mut settings, &pool) => {}
                }
            }
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

/// Until something of the configuration changes that exact residency hangs on.
async fn changed(pool: &mut watch::Receiver<Arc<Pool>>, before: &Pool) {
    let matters =
        |now: &Arc<Pool>| now.exact != before.exact || now.settings.chunk_bytes != before.settings.chunk_bytes;
    if pool.wait_for(matters).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn follow_pool(context: &Context, pool: &str, exact: &Exact, stop: &CancellationToken, tasks: &TaskTracker) {
    let loading = ModelState::Loading { from: origin(exact) };
    context.news.tell(pool, News::Model(loading)).await;
    let mut view = context.view.clone();
    let mut wait = RETRY.0;
    loop {
        let loaded = match base_model(&mut view, pool).await {
            Ok(name) => load(exact, &name).await,
            Err(why) => Err(why),
        };
        match loaded {
            Ok(Loaded { model, judge }) => {
                info!(pool, model = model.name, "prefixes are exact: tokenizer and template are loaded");
                if let (Some(judge), Some(inquiries)) = (judge, model.inquiries.clone()) {
                    let (news, stop) = (context.news.clone(), stop.clone());
                    tasks.spawn(judge::drive::run(judge, inquiries, pool.to_owned(), news, stop));
                }
                context.news.tell(pool, News::Model(ModelState::Ready(Arc::new(model)))).await;
                break;
            }
            Err(why) => {
                warn!(pool, why, "prefixes are learned: the model cannot be followed; trying again");
                context.news.tell(pool, News::Model(ModelState::Failed(why))).await;
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
    mind_engines(context, view, pool, exact, (stop, tasks)).await;
}

/// The name of the pool's base model, once it is known.
async fn base_model(view: &mut watch::Receiver<Arc<View>>, pool: &str) -> Result<String, String> {
    let known = view
        .wait_for(|view| view.pools.iter().any(|known| known.name == pool && !known.models.is_empty()))
        .await
        .map_err(|_| "the control plane is ending".to_owned())?
        .clone();
    let bases: Vec<&str> = known
        .pools
        .iter()
        .filter(|known| known.name == pool)
        .flat_map(|known| &known.models)
        .filter(|model| model.base.is_empty())
        .map(|model| model.name.as_str())
        .collect();
    match bases.as_slice() {
        [name] => Ok((*name).to_owned()),
        [] => Err("the pool names no base model".to_owned()),
        several => Err(format!("the pool serves several base models ({})", several.join(", "))),
    }
}

/// One task for each endpoint of the pool, as they come and go.
async fn mind_engines(
    context: &Context,
    mut view: watch::Receiver<Arc<View>>,
    pool: &str,
    exact: &Exact,
    (stop, tasks): (&CancellationToken, &TaskTracker),
) {
    let mut followed: BTreeMap<EndpointId, CancellationToken> = BTreeMap::new();
    loop {
        let now = Arc::clone(&view.borrow_and_update());
        let endpoints: BTreeMap<EndpointId, String> = now
            .pools
            .iter()
            .filter(|known| known.name == pool)
            .flat_map(|known: &PoolView| &known.endpoints)
            .map(|endpoint| (endpoint.id, endpoint.address.clone()))
            .collect();
        followed.retain(|id, stop| {
            let stays = endpoints.contains_key(id);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for (id, address) in endpoints {
            followed.entry(id).or_insert_with(|| {
                let stop = stop.child_token();
                let engine = Engine {
                    pool: pool.to_owned(),
                    id,
                    address,
                    ports: exact.events.clone(),
                    client: context.client.clone(),
                    news: context.news.clone(),
                    door: context.door.clone(),
                };
                tasks.spawn(engine.follow(stop.clone()));
                stop
            });
        }
        if view.changed().await.is_err() {
            return;
        }
    }
}

/// What topics of the pod at `address` begin with, as llm-d names pods: with the port, and without.
fn topics(address: &str) -> [String; 2] {
    [format!("kv@{address}@"), format!("kv@{}@", host_of(address))]
}

/// Without brackets.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// One engine, as its task knows it.
struct Engine {
    pool: String,
    id: EndpointId,
    address: String,
    ports: Option<EventPorts>,
    client: Client,
    news: NewsDesk,
    door: Option<Door>,
}

impl Engine {
    async fn follow(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep_following() => {}
        }
    }

    /// Dials the engine until it is heard at the door.
    async fn keep_following(&self) {
        let Some(door) = &self.door else { return self.keep_dialling().await };
        loop {
            let events = Address { host: self.host().to_owned(), port: door.address.port() };
            let source = Source { events, replay: None, topic: String::new(), rank: 0 };
            let follower = Follower::new(source, Options::default());
            let _admitted = topics(&self.address).map(|topic| door.gate.admit(&self.address, &topic, None, &follower));
            let (updates, mut incoming) = mpsc::channel(UPDATES);
            let stop = CancellationToken::new();
            let _ends_with_us = stop.clone().drop_guard();
            let _follower = tokio::spawn(follower.follow(updates, stop));
            let first = tokio::select! {
                () = self.keep_dialling() => return,
                first = incoming.recv() => first,
            };
            let Some(first) = first else { return };
            info!(pool = self.pool, endpoint = self.address, "KV events come by themselves");
            // What was known from dialling is void: numbers of the two streams cannot be compared.
            self.tell(News::Update(self.id, Update::Reset(ResetReason::Restarted))).await;
            self.forward(first, &mut incoming).await;
        }
    }

    /// Until the engine was away for `AWAY`.
    async fn forward(&self, first: Update, incoming: &mut mpsc::Receiver<Update>) {
        let mut next = Some(first);
        while let Some(update) = next {
            let away = matches!(update, Update::Disconnected(_));
            if !self.news.tell(&self.pool, News::Update(self.id, update)).await {
                return;
            }
            next = if away {
                tokio::time::timeout(AWAY, incoming.recv()).await.unwrap_or_default()
            } else {
                incoming.recv().await
            };
        }
    }

    fn host(&self) -> &str {
        host_of(&self.address)
    }

    async fn keep_dialling(&self) {
        let (mut wait, mut told) = (RETRY.0, String::new());
        loop {
            match self.source().await {
                Ok(source) => {
                    (wait, told) = (RETRY.0, String::new());
                    self.follow_source(source).await;
                    self.tell(News::Update(self.id, Update::Reset(ResetReason::Restarted))).await;
                }
                Err(why) if why != told => {
                    told.clone_from(&why);
                    info!(pool = self.pool, endpoint = self.address, why, "KV events cannot be followed");
                    self.tell(News::Unfollowed(self.id, why)).await;
                }
                Err(_) => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    async fn tell(&self, news: News) {
        self.news.tell(&self.pool, news).await;
    }

    /// Where this engine publishes.
    async fn source(&self) -> Result<Source, String> {
        let host = self.host();
        if let Some(ports) = &self.ports {
            let ports = Ports { events: ports.publish, replay: ports.replay, topic: ports.topic.clone(), ranks: 1 };
            return ports.of(host).next().ok_or_else(|| "its events have no port".to_owned());
        }
        let advertised = ask(&self.client, &self.address, ANSWER_WITHIN)
            .await
            .map_err(|error| format!("GET /kv_event_sources: {error}; set exact.events.port if it publishes"))?;
        if let Some((rank, error)) = advertised.unusable.first() {
            return Err(format!("rank {rank} publishes where nobody can listen: {error}"));
        }
        match <[Source; 1]>::try_from(advertised.sources) {
            Ok([source]) if self.dials_us(&source) => {
                Err("it connects to listen.events, but was not heard yet".to_owned())
            }
            Ok([source]) => Ok(source),
            Err(several) if several.is_empty() => Err("it publishes no KV events (--kv-events-config)".to_owned()),
            Err(several) => Err(format!(
                "{} data-parallel ranks share its address: which of them holds a prefix cannot be used for routing yet",
                several.len()
            )),
        }
    }

    /// An engine that connects says to whom, not where it could be dialled.
    fn dials_us(&self, source: &Source) -> bool {
        let ours = |door: &Door| source.events.port == door.address.port() && source.events.host != self.host();
        self.door.as_ref().is_some_and(ours)
    }

    /// Until the engine publishes elsewhere.
    async fn follow_source(&self, source: Source) {
        let (updates, mut incoming) = mpsc::channel(UPDATES);
        let stop = CancellationToken::new();
        let _ends_with_us = stop.clone().drop_guard();
        let follower = tokio::spawn(Follower::new(source.clone(), Options::default()).dial(updates, stop));
        let mut failures = 0;
        while let Some(update) = incoming.recv().await {
            failures = match &update {
                Update::Disconnected(_) => failures + 1,
                Update::Connected | Update::Batch { .. } | Update::Synced(_) => 0,
                Update::Gap { .. } | Update::Reset(_) => failures,
            };
            if !self.news.tell(&self.pool, News::Update(self.id, update)).await {
                break;
            }
            if failures >= ATTEMPTS {
                failures = 0;
                if self.source().await.is_ok_and(|now| now != source) {
                    break;
                }
            }
        }
        follower.abort();
    }
}
