//! The loop of one follower: takes what a replay brings, then what the socket brings, lets the
//! [`Sequence`] decide, and does what it says. It may wait for the consumer; the socket does not wait for it.

use std::future::pending;
use std::time::Duration;

use shared::clock::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::inbox::{Arrival, Parcel};
use super::replay::{News, Running};
use super::{Options, Stats, Update};
use crate::clock;
use crate::events::decode::{DecodeError, decode};
use crate::events::event::Batch;
use crate::events::sequence::{Numbered, Replay, ResetReason, Sequence, Settings, Step};
use crate::events::sources::Source;

/// Before a replay that follows another at once; a publisher answers only every 100 ms while it is idle.
const REPLAY_PAUSE: Duration = Duration::from_millis(50);

/// Batches held back during a replay, and their payload bytes.
const HELD: (usize, usize) = (8192, 64 << 20);

/// A batch with the time it came.
struct Read {
    batch: Result<Batch, DecodeError>,
    received: Timestamp,
}

/// Nobody listens to the updates any more.
struct Deaf;

pub(super) struct Drive {
    source: Source,
    options: Options,
    stats: watch::Sender<Stats>,
    out: mpsc::Sender<Update>,
    order: Sequence<Read>,
    steps: Vec<Step<Read>>,
    replay: Option<Running>,
    /// Drops of the inbox that have been seen to.
    dropped: u64,
}

impl Drive {
    pub(super) fn new(
        source: Source,
        options: Options,
        stats: watch::Sender<Stats>,
        out: mpsc::Sender<Update>,
    ) -> Self {
        let order = Sequence::new(Settings {
            replay: if source.replay.is_some() { Replay::Available } else { Replay::Absent },
            patience: options.patience,
            held: HELD.0,
            held_bytes: HELD.1,
        });
        Self { source, options, stats, out, order, steps: Vec::new(), replay: None, dropped: 0 }
    }

    pub(super) async fn run(mut self, mut arrivals: mpsc::Receiver<Arrival>, stop: CancellationToken) {
        loop {
            let work = async {
                tokio::select! {
                    biased;
                    news = next_news(&mut self.replay) => self.replayed(news),
                    () = sleep_until(self.order.deadline()) => self.order.tick(clock::now(), &mut self.steps),
                    Some(arrival) = arrivals.recv() => {
                        self.arrived(arrival).await?;
                        if arrivals.is_empty() {
                            self.look_for_drops();
                        }
                    }
                }
                self.obey().await
            };
            tokio::select! {
                () = stop.cancelled() => return,
                done = work => if let Err(Deaf) = done { return },
            }
        }
    }

    fn replayed(&mut self, news: Option<News>) {
        let now = clock::now();
        match news {
            Some(News::Batch(parcel)) => return self.order.replayed(numbered(parcel), now, &mut self.steps),
            Some(News::Ended) => self.order.replay_ended(now, &mut self.steps),
            Some(News::Failed(error)) => {
                debug!(source = %self.source.events, %error, "replay failed");
                self.order.replay_failed(now, &mut self.steps);
            }
            None => self.order.replay_failed(now, &mut self.steps),
        }
        self.replay = None;
    }

    async fn arrived(&mut self, arrival: Arrival) -> Result<(), Deaf> {
        match arrival {
            Arrival::Connected => {
                self.order.connected(clock::now(), &mut self.steps);
                self.tell(Update::Connected).await
            }
            Arrival::Batch(parcel) => {
                let received = parcel.received;
                self.order.live(numbered(parcel), received, &mut self.steps);
                Ok(())
            }
            Arrival::Disconnected(why) => self.tell(Update::Disconnected(why)).await,
        }
    }

    /// Drops at the end of a burst leave no gap that a later batch would show soon.
    fn look_for_drops(&mut self) {
        let dropped = self.stats.borrow().dropped;
        if dropped > self.dropped {
            self.dropped = dropped;
            self.order.connected(clock::now(), &mut self.steps);
        }
    }

    async fn obey(&mut self) -> Result<(), Deaf> {
        for step in core::mem::take(&mut self.steps) {
            match step {
                Step::Apply(read) => {
                    let update = self.apply(read);
                    self.tell(update).await?;
                }
                Step::AskReplay(from) => self.ask(from),
                Step::Reset(reason) => {
                    warn!(source = %self.source.events, rank = self.source.rank, reason = reason.as_str(), "events reset");
                    self.tell(Update::Reset(reason)).await?;
                }
                Step::Gap { missing, detected_after } => self.tell(Update::Gap { missing, detected_after }).await?,
                Step::Synced(coverage) => self.tell(Update::Synced(coverage)).await?,
            }
        }
        let (order, coverage) = (self.order.counters(), self.order.coverage());
        self.stats.send_modify(|stats| {
            stats.order = order;
            stats.coverage = coverage;
        });
        Ok(())
    }

    fn ask(&mut self, from: u64) {
        debug!(source = %self.source.events, from, "replay asked for");
        let pause = if self.replay.is_some() { REPLAY_PAUSE } else { Duration::ZERO };
        let address = self.source.replay.clone();
        self.replay = address.map(|address| Running::start(address, from, pause, self.options.pace));
    }

    fn apply(&self, read: Read) -> Update {
        match read.batch {
            Ok(batch) => {
                self.stats.send_modify(|stats| {
                    stats.skipped += u64::from(batch.skipped);
                    stats.latest = Some(read.received);
                });
                Update::Batch { batch, received: read.received }
            }
            Err(error) => {
                warn!(source = %self.source.events, rank = self.source.rank, %error, "events unreadable");
                self.stats.send_modify(|stats| stats.unreadable += 1);
                Update::Reset(ResetReason::Unreadable)
            }
        }
    }

    async fn tell(&self, update: Update) -> Result<(), Deaf> {
        self.out.send(update).await.map_err(|_| Deaf)
    }
}

async fn next_news(replay: &mut Option<Running>) -> Option<News> {
    match replay {
        Some(running) => running.next().await,
        None => pending().await,
    }
}

async fn sleep_until(deadline: Option<Timestamp>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(clock::now())).await,
        None => pending().await,
    }
}

/// Its time marks a batch; one that cannot be read has the mark 0.
fn numbered(parcel: Parcel) -> Numbered<Read> {
    let Parcel { published, received, .. } = parcel;
    let batch = decode(&published.payload);
    let mark = batch.as_ref().map_or(0, |batch| batch.at.to_bits());
    Numbered { seq: published.seq, mark, bytes: published.payload.len(), content: Read { batch, received } }
}
