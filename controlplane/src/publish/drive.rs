//! The one task that owns all published state. It gathers what came in and publishes at most every 10 ms; with nothing to
//! do it sleeps until the next heartbeat.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::clock::Timestamp;
use shared::identity::EndpointId;
use shared::wire::{Live, Segment};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::board::{Board, HEARTBEAT, RESIDENCY_BUDGET};
use super::local::LocalDesk;
use super::log::{LOG_BYTES, TableLog, snapshot_segments};
use super::rpc::routing_table_server::RoutingTableServer;
use super::serve::TableService;
use super::status::Status;
use super::stream::{Input, Shared, Totals};
use crate::bookings::ledger::GatewayId;
use crate::clock;
use crate::datastore::View;
use crate::exact::News;
use crate::exact::status::PrefixStatus;
use crate::scrape::Hint;

/// Shortest time between two publications: a quarter of the 50 ms that sharing between gateways may take is plenty.
const PERIOD: Duration = Duration::from_millis(10);
/// Inputs that wait for the task; then gateways' reports wait in their streams.
const INPUTS: usize = 1024;
/// Inputs taken before the clock is looked at again.
const BURST: usize = 256;

/// How to publish.
#[derive(Clone, Copy, Debug)]
pub struct PublishSettings {
    /// Memberships of the residency index over all pools.
    pub residency_budget: usize,
    /// Encoded bytes of deltas kept for gateways that come back.
    pub log_bytes: usize,
}

impl Default for PublishSettings {
    fn default() -> Self {
        Self { residency_budget: RESIDENCY_BUDGET, log_bytes: LOG_BYTES }
    }
}

/// To see and to stop the publishing task.
pub struct PublishHandle {
    /// At most a second old.
    pub status: watch::Receiver<Arc<Status>>,
    /// To read what is published.
    pub tables: TableReader,
    /// To tell what engines hold.
    pub news: NewsDesk,
    /// Where gateways of this process sign on.
    pub local: LocalDesk,
    /// The task and every gateway's stream; all end after the shutdown signal.
    pub tasks: TaskTracker,
}

/// Reads what is published; clones read the same.
#[derive(Clone)]
pub struct TableReader {
    inputs: mpsc::Sender<Input>,
}

/// Brings the publishing task news of exact residency; clones bring it to the same.
#[derive(Clone)]
pub struct NewsDesk {
    inputs: mpsc::Sender<Input>,
}

impl NewsDesk {
    /// Waits for room; false when the task has ended.
    pub async fn tell(&self, pool: &str, news: News) -> bool {
        self.inputs.send(Input::News(pool.to_owned(), news)).await.is_ok()
    }
}

/// All that is published, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Dump {
    /// The whole table as a snapshot's segments.
    pub segments: Vec<Segment>,
    /// What a gateway without work of its own would be told: everybody's bookings.
    pub live: Live,
}

impl TableReader {
    /// What is published now; `None` when the task has ended.
    pub async fn dump(&self) -> Option<Dump> {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(Input::Dump(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// Starts the task. `hints` gets what gateways report about endpoints and must be drained (when it is full, the news is
/// dropped: gateways go on reporting). Streams and task end when `shutdown` turns true or its sender is dropped.
#[must_use]
pub fn start(
    settings: PublishSettings,
    view: watch::Receiver<Arc<View>>,
    hints: mpsc::Sender<Hint>,
    shutdown: watch::Receiver<bool>,
) -> (RoutingTableServer<TableService>, PublishHandle) {
    let now = clock::now();
    // Microseconds since 1970 differ between two runs and are never 0.
    let epoch = (now.as_nanos() / 1000).max(1);
    let log = Arc::new(Mutex::new(TableLog::new(epoch, settings.log_bytes)));
    let (inputs, incoming) = mpsc::channel(INPUTS);
    let (head, head_seen) = watch::channel(0);
    let (status, status_seen) = watch::channel(Arc::new(Status { epoch, ..Status::default() }));
    let totals = Arc::new(Totals::default());
    let tasks = TaskTracker::new();
    let shared = Shared {
        log: log.clone(),
        head: head_seen,
        inputs: inputs.clone(),
        totals: totals.clone(),
        streams: tasks.clone(),
        gateways: Arc::default(),
    };
    let board = Board::new(epoch, random(), settings.residency_budget);
    let publisher = Publisher {
        board,
        log,
        head,
        status,
        totals,
        hints,
        lives: BTreeMap::new(),
        unplaced: Vec::new(),
        snapshot_wanted: false,
        published: Timestamp::ZERO,
        status_at: Timestamp::ZERO,
    };
    tasks.spawn(publisher.run(view, incoming, shutdown));
    let handle = PublishHandle {
        status: status_seen,
        tables: TableReader { inputs: inputs.clone() },
        news: NewsDesk { inputs },
        local: LocalDesk::new(shared.clone()),
        tasks,
    };
    (RoutingTableServer::new(TableService::new(shared)), handle)
}

/// The standard library's own source of hash seeds.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

struct Publisher {
    board: Board,
    log: Arc<Mutex<TableLog>>,
    head: watch::Sender<u64>,
    status: watch::Sender<Arc<Status>>,
    totals: Arc<Totals>,
    hints: mpsc::Sender<Hint>,
    lives: BTreeMap<GatewayId, watch::Sender<Option<Live>>>,
    /// With their pools; already logged.
    unplaced: Vec<(String, EndpointId)>,
    snapshot_wanted: bool,
    published: Timestamp,
    status_at: Timestamp,
}

impl Publisher {
    async fn run(
        mut self,
        mut view: watch::Receiver<Arc<View>>,
        mut incoming: mpsc::Receiver<Input>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        self.observe(&view.borrow_and_update().clone());
        let (mut waiting, mut burst, mut view_lives) = (true, Vec::with_capacity(BURST), true);
        loop {
            let now = clock::now();
            let due = if waiting { self.published.after(PERIOD) } else { self.idle_until(now) };
            tokio::select! {
                biased;
                stop = shutdown.wait_for(|&stop| stop) => {
                    drop(stop);
                    return;
                }
                changed = view.changed(), if view_lives => match changed {
                    Ok(()) => self.observe(&view.borrow_and_update().clone()),
                    Err(_) => view_lives = false,
                },
                count = incoming.recv_many(&mut burst, BURST), if due > now => {
                    if count == 0 {
                        return;
                    }
                    // Whoever asks for a dump may have seen a newer view than this task.
                    if view.has_changed().unwrap_or(false) {
                        self.observe(&view.borrow_and_update().clone());
                    }
                    let now = clock::now();
                    burst.drain(..).for_each(|input| self.take(input, now));
                }
                () = tokio::time::sleep(due.since(now)) => {
                    self.publish(clock::now());
                    if self.board.view_waits() {
                        self.observe(&view.borrow().clone());
                    } else {
                        waiting = false;
                        continue;
                    }
                }
            }
            waiting = true;
        }
    }

    fn idle_until(&self, now: Timestamp) -> Timestamp {
        let heartbeat = now.after(HEARTBEAT);
        let due = self.board.next_due().map_or(heartbeat, |due| due.min(heartbeat));
        due.max(self.published.after(PERIOD))
    }

    fn observe(&mut self, view: &View) {
        let unplaced = self.board.observe(view);
        for (pool, endpoint) in unplaced.iter().filter(|place| !self.unplaced.contains(place)) {
            tracing::error!(pool, ?endpoint, "endpoint not published: the pool is full or its address is not ip:port");
        }
        self.unplaced = unplaced;
    }

    fn take(&mut self, input: Input, now: Timestamp) {
        match input {
            Input::Opened { gateway, name, pools, live } => {
                tracing::info!(gateway = name, "gateway connected");
                self.lives.insert(gateway, live);
                self.board.open(gateway, name, pools, now);
            }
            Input::Report(gateway, report) => {
                for hint in self.board.report(gateway, &report, now) {
                    if self.hints.try_send(hint).is_err() {
                        tracing::debug!(?hint, "hint not passed on");
                    }
                }
            }
            Input::Closed(gateway) => {
                self.lives.remove(&gateway);
                self.board.close(gateway, now);
            }
            Input::News(pool, news) => self.board.take_news(&pool, news, now),
            Input::SnapshotWanted => self.snapshot_wanted = true,
            Input::Dump(reply) => {
                self.publish(now);
                let (epoch, version) = self.epoch_and_version();
                let segments = snapshot_segments(epoch, version, self.board.snapshot());
                // Whoever asked may be gone.
                reply.send(Dump { segments, live: self.board.live_of_all(now) }).ok();
            }
        }
    }

    fn epoch_and_version(&self) -> (u64, u64) {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        (log.epoch(), log.version())
    }

    fn publish(&mut self, now: Timestamp) {
        self.published = now;
        let deltas = self.board.take_deltas(now);
        for (pool, PrefixStatus { mode, reason, .. }) in self.board.take_switched() {
            tracing::warn!(pool, mode, reason, "prefixes are known another way from now on");
        }
        let mut news = !deltas.is_empty();
        let stale = {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            deltas.into_iter().for_each(|delta| log.append(delta));
            log.needs_snapshot()
        };
        if std::mem::take(&mut self.snapshot_wanted) && stale {
            let parts = self.board.snapshot();
            self.log.lock().unwrap_or_else(PoisonError::into_inner).set_snapshot(parts);
            news = true;
        }
        if news {
            self.head.send_modify(|head| *head += 1);
        }
        for (gateway, live) in self.board.take_lives(now) {
            if let Some(sender) = self.lives.get(&gateway) {
                sender.send_replace(Some(live));
            }
        }
        if now.since(self.status_at) >= HEARTBEAT {
            self.status_at = now;
            let (epoch, version) = self.epoch_and_version();
            let status = Status { epoch, version, traffic: self.totals.read(), ..self.board.status(now) };
            self.status.send_replace(Arc::new(status));
        }
    }
}

#[cfg(test)]
mod tests;
