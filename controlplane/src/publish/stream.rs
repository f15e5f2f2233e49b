//! One gateway's stream: reports go up to the task, segments and live messages come down at the gateway's own pace.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use shared::wire::{FromGateway, Live, Report, Segment, Subscribe, ToGateway, from_gateway, to_gateway};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

use super::board::wants;
use super::drive::Dump;
use super::log::{Next, TableLog};
use super::status::Traffic;
use crate::bookings::ledger::GatewayId;
use crate::exact::News;

/// A stream must begin with its subscription within this.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(5);
/// A gateway whose acknowledgements stopped for this long is taken for dead: Envoy keeps the stream of a crashed VM open.
const DEAF_AFTER: Duration = Duration::from_secs(30);
/// Pause before another snapshot for a gateway that refused one: it may refuse again.
const RESNAPSHOT_PAUSE: Duration = Duration::from_millis(250);
/// Longest name of a gateway, bytes.
const LONGEST_NAME: usize = 256;

/// What streams tell the task.
pub(super) enum Input {
    Opened {
        gateway: GatewayId,
        name: String,
        pools: Vec<String>,
        live: watch::Sender<Option<Live>>,
    },
    Report(GatewayId, Report),
    Closed(GatewayId),
    SnapshotWanted,
    /// Of the exact residency of the pool named.
    News(String, News),
    /// The whole table for somebody in this process.
    Dump(oneshot::Sender<Dump>),
}

/// Totals over all streams.
#[derive(Default)]
pub(super) struct Totals {
    segments: AtomicU64,
    segment_bytes: AtomicU64,
    lives: AtomicU64,
    resnapshots: AtomicU64,
    refused: AtomicU64,
}

impl Totals {
    pub(super) fn read(&self) -> Traffic {
        Traffic {
            segments: self.segments.load(Ordering::Relaxed),
            segment_bytes: self.segment_bytes.load(Ordering::Relaxed),
            lives: self.lives.load(Ordering::Relaxed),
            resnapshots: self.resnapshots.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// What streams share with the task. The lock is held to copy a few pointers, never across an await.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) log: Arc<Mutex<TableLog>>,
    /// Counts changes of the log.
    pub(super) head: watch::Receiver<u64>,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) totals: Arc<Totals>,
    /// Owns the streams' tasks.
    pub(super) streams: TaskTracker,
    pub(super) gateways: Arc<AtomicU64>,
}

impl Shared {
    /// The number of another gateway.
    pub(super) fn number(&self) -> GatewayId {
        GatewayId(self.gateways.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn next(&self, version: Option<u64>) -> Next {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).next(version)
    }

    fn epoch(&self) -> u64 {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).epoch()
    }

    fn resume(&self, subscribe: &Subscribe) -> Option<u64> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.resume(subscribe.have_epoch, subscribe.have_version)
    }
}

pub(super) type Out = mpsc::Sender<Result<ToGateway, Status>>;

/// What the gateway acknowledged so far.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Acked {
    version: u64,
    refusals: u64,
}

/// Serves one stream to its end.
pub(super) async fn converse(shared: Shared, gateway: GatewayId, mut up: Streaming<FromGateway>, out: Out) {
    let subscribe = match subscription(&mut up).await {
        Ok(subscribe) => subscribe,
        Err(status) => {
            // The gateway may be gone: then nobody wants to know.
            out.send(Err(status)).await.ok();
            return;
        }
    };
    let (live, lives) = watch::channel(None);
    let start = shared.resume(&subscribe);
    let (acks, acked) = watch::channel(Acked { version: start.unwrap_or(0), refusals: 0 });
    let opened = Input::Opened { gateway, name: subscribe.gateway.clone(), pools: subscribe.pools.clone(), live };
    if shared.inputs.send(opened).await.is_err() {
        return;
    }
    let down = Downlink { shared: shared.clone(), pools: subscribe.pools, at: start, lives, acked, out: out.clone() };
    let end = tokio::select! {
        end = uplink(&shared, gateway, up, acks) => end,
        end = down.run() => end,
        () = out.closed() => None,
    };
    if let Some(status) = end {
        tracing::info!(gateway = subscribe.gateway, error = %status, "gateway stream ended");
        out.try_send(Err(status)).ok();
    }
    // Fails only when the task is gone, and its state with it.
    shared.inputs.send(Input::Closed(gateway)).await.ok();
}

async fn subscription(up: &mut Streaming<FromGateway>) -> Result<Subscribe, Status> {
    let first = timeout(SUBSCRIBE_WITHIN, up.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no subscription"))??;
    match first.and_then(|message| message.kind) {
        Some(from_gateway::Kind::Subscribe(s)) if s.gateway.is_empty() || s.gateway.len() > LONGEST_NAME => {
            Err(Status::invalid_argument("gateway: must be 1 to 256 bytes"))
        }
        Some(from_gateway::Kind::Subscribe(subscribe)) => Ok(subscribe),
        Some(from_gateway::Kind::Ack(_) | from_gateway::Kind::Report(_)) | None => {
            Err(Status::failed_precondition("the first message must be a subscription"))
        }
    }
}

async fn uplink(
    shared: &Shared,
    gateway: GatewayId,
    mut up: Streaming<FromGateway>,
    acks: watch::Sender<Acked>,
) -> Option<Status> {
    let epoch = shared.epoch();
    loop {
        let message = tokio::select! {
            message = up.message() => message,
            () = shared.inputs.closed() => return Some(Status::unavailable("shutting down")),
        };
        match message {
            Ok(Some(FromGateway { kind: Some(from_gateway::Kind::Report(report)) })) => {
                if shared.inputs.send(Input::Report(gateway, report)).await.is_err() {
                    return Some(Status::unavailable("shutting down"));
                }
            }
            Ok(Some(FromGateway { kind: Some(from_gateway::Kind::Ack(ack)) })) => {
                if !ack.error.is_empty() {
                    shared.totals.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(?gateway, table_version = ack.version, error = ack.error, "table segment refused");
                }
                acks.send_modify(|acked| {
                    acked.version = if ack.epoch == epoch { ack.version } else { 0 };
                    acked.refusals += u64::from(!ack.error.is_empty());
                });
            }
            Ok(Some(FromGateway { kind: Some(from_gateway::Kind::Subscribe(_)) })) => {
                return Some(Status::failed_precondition("subscribed already"));
            }
            Ok(Some(FromGateway { kind: None })) => {}
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

struct Downlink {
    shared: Shared,
    pools: Vec<String>,
    /// The version that the gateway will have when it took all that was sent.
    at: Option<u64>,
    lives: watch::Receiver<Option<Live>>,
    acked: watch::Receiver<Acked>,
    out: Out,
}

impl Downlink {
    async fn run(mut self) -> Option<Status> {
        let mut head = self.shared.head.clone();
        let (mut seen, mut heard, mut had_table) = (Acked::default(), Instant::now(), self.at.is_some());
        loop {
            head.mark_unchanged();
            let acked = *self.acked.borrow_and_update();
            let before = std::mem::replace(&mut seen, acked);
            if acked != before || self.at.is_none_or(|at| acked.version >= at) {
                heard = Instant::now();
            } else if heard.elapsed() > DEAF_AFTER {
                return Some(Status::deadline_exceeded("no acknowledgement"));
            }
            if acked.refusals != before.refusals {
                self.at = None;
                tokio::time::sleep(RESNAPSHOT_PAUSE).await;
                // What was under way when it refused was refused too: one snapshot answers all of that.
                seen = *self.acked.borrow_and_update();
            }
            if self.lives.has_changed().unwrap_or(false) {
                let live = self.lives.borrow_and_update().clone();
                self.send_live(live).await?;
            }
            match self.shared.next(self.at) {
                Next::Segments(segments, reached) => {
                    let snapshot = segments.first().is_some_and(|s| s.parts != 0);
                    self.shared.totals.resnapshots.fetch_add(u64::from(snapshot && had_table), Ordering::Relaxed);
                    had_table = true;
                    for segment in segments {
                        self.send_segment(&segment).await?;
                    }
                    self.at = Some(reached);
                    continue;
                }
                Next::NeedsSnapshot => self.shared.inputs.send(Input::SnapshotWanted).await.ok()?,
                Next::UpToDate => {}
            }
            tokio::select! {
                changed = head.changed() => changed.ok()?,
                changed = self.lives.changed() => { changed.ok()?; self.lives.mark_changed(); }
                changed = self.acked.changed() => changed.ok()?,
            }
        }
    }

    /// `None` when the stream is gone.
    async fn send_segment(&mut self, segment: &Segment) -> Option<()> {
        // The lives of a long snapshot's time are not kept waiting for its end.
        if self.lives.has_changed().unwrap_or(false) {
            let live = self.lives.borrow_and_update().clone();
            self.send_live(live).await?;
        }
        let pools = segment.pools.iter().filter(|pool| wants(&self.pools, &pool.name)).cloned().collect();
        let Segment { epoch, version, part, parts, .. } = *segment;
        let segment = Segment { epoch, version, part, parts, pools };
        let totals = &self.shared.totals;
        totals.segments.fetch_add(1, Ordering::Relaxed);
        totals.segment_bytes.fetch_add(u64::try_from(segment.encoded_len()).unwrap_or(0), Ordering::Relaxed);
        self.out.send(Ok(ToGateway { kind: Some(to_gateway::Kind::Segment(segment)) })).await.ok()
    }

    async fn send_live(&self, live: Option<Live>) -> Option<()> {
        let Some(live) = live else { return Some(()) };
        self.shared.totals.lives.fetch_add(1, Ordering::Relaxed);
        self.out.send(Ok(ToGateway { kind: Some(to_gateway::Kind::Live(live)) })).await.ok()
    }
}
