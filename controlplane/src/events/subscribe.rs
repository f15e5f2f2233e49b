//! Follows one rank's stream for good: connects, reconnects, asks for replays, and hands on what a [`Sequence`] decides.
//!
//! The socket is read whatever the consumer does. When the consumer lags, batches are dropped before they are counted, so
//! that the loss shows as a gap; after they are counted they wait. Every `Reset` comes before the batches that count anew.

use std::future::pending;
use std::time::Duration;

use shared::clock::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::decode::decode;
use super::event::Batch;
use super::frames::{self, Published};
use super::sequence::{Counters, Coverage, Numbered, Replay, ResetReason, Sequence, Settings, Step};
use super::sources::Source;
use super::stream::{Link, LinkError, Pace};
use super::zmtp::Role;
use crate::clock;

pub(super) mod inbox;
mod replay;

use inbox::{Arrival, Inbox, inbox};
use replay::{News, Running};

/// Between replays that follow each other; a publisher answers only every 100 ms while it is idle.
const REPLAY_PAUSE: Duration = Duration::from_millis(50);

/// What happens to one rank's stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// The connection stands.
    Connected,
    /// The next batch.
    Batch {
        /// What it tells.
        batch: Batch,
        /// When it came off the socket.
        received: Timestamp,
    },
    /// Batches were found missing; a replay may still bring them.
    Gap {
        /// How many.
        missing: u64,
        /// Since the last good batch.
        detected_after: Duration,
    },
    /// Everything known of this rank is void.
    Reset(ResetReason),
    /// The stream is in order, and known from its beginning or not.
    Synced(Coverage),
    /// The connection is over or cannot be made, for this reason. What is known may still be true.
    Disconnected(String),
}

/// How to follow.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of connections.
    pub pace: Pace,
    /// Silence during a replay after which it counts as failed.
    pub patience: Duration,
    /// First and longest wait between attempts to connect.
    pub retry: (Duration, Duration),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pace: Pace::default(),
            patience: Duration::from_secs(5),
            retry: (Duration::from_millis(100), Duration::from_secs(10)),
        }
    }
}

/// Totals and the present, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Does the connection stand?
    pub connected: bool,
    /// Connections made.
    pub connects: u64,
    /// Live batches received.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Of those batches, dropped because the consumer lagged.
    pub dropped: u64,
    /// Messages that are no batches of this topic.
    pub foreign: u64,
    /// Batches that nobody could read.
    pub unreadable: u64,
    /// Events that were skipped in readable batches.
    pub skipped: u64,
    /// Of the order of the stream.
    pub order: Counters,
    /// Is the state known from the beginning?
    pub coverage: Coverage,
    /// When the latest batch that was applied came off its socket.
    pub latest: Option<Timestamp>,
}

/// One rank's stream, before it is followed.
#[derive(Debug)]
pub struct Follower {
    source: Source,
    options: Options,
    inbox: Inbox,
    arrivals: mpsc::Receiver<Arrival>,
    stats: watch::Sender<Stats>,
}

/// A batch with the time it came.
struct Read {
    batch: Result<Batch, super::decode::DecodeError>,
    received: Timestamp,
}

impl Follower {
    /// For `source`.
    #[must_use]
    pub fn new(source: Source, options: Options) -> Self {
        let stats = watch::Sender::new(Stats::default());
        let (inbox, arrivals) = inbox(stats.clone());
        Self { source, options, inbox, arrivals, stats }
    }

    /// What is going on, now and later.
    #[must_use]
    pub fn stats(&self) -> watch::Receiver<Stats> {
        self.stats.subscribe()
    }

    /// Where a [`super::serve::Gate`] puts the batches of a publisher that dials us.
    pub(super) fn inbox(&self) -> Inbox {
        self.inbox.clone()
    }

    /// Dials the publisher and follows it until `stop`, or until nobody listens to `out`.
    pub async fn dial(self, out: mpsc::Sender<Update>, stop: CancellationToken) {
        let (source, options, inbox) = (self.source.clone(), self.options, self.inbox.clone());
        tokio::select! {
            () = dial(&source, options, &inbox) => {}
            () = self.follow(out, stop) => {}
        }
    }

    /// Follows a publisher that a [`super::serve::Gate`] hears, until `stop`, or until nobody listens to `out`.
    pub async fn follow(self, out: mpsc::Sender<Update>, stop: CancellationToken) {
        let Self { source, options, inbox: _inbox, mut arrivals, stats } = self;
        let mut order = Sequence::new(Settings {
            replay: if source.replay.is_some() { Replay::Available } else { Replay::Absent },
            patience: options.patience,
            held: 8192,
            held_bytes: 64 << 20,
        });
        let mut replay: Option<Running> = None;
        let mut steps = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                news = next_news(&mut replay) => {
                    if !matches!(news, Some(News::Batch(_))) {
                        replay = None;
                    }
                    replayed(&mut order, news, &mut steps);
                }
                () = sleep_until(order.deadline()) => order.tick(clock::now(), &mut steps),
                Some(arrival) = arrivals.recv() => {
                    if let Some(update) = arrived(&mut order, arrival, &mut steps)
                        && out.send(update).await.is_err() {
                        return;
                    }
                }
            }
            for step in steps.drain(..) {
                let update = match step {
                    Step::AskReplay(from) => {
                        let pause = if replay.is_some() { REPLAY_PAUSE } else { Duration::ZERO };
                        debug!(source = %source.events, from, "replay asked for");
                        replay =
                            source.replay.clone().map(|address| Running::start(address, from, pause, options.pace));
                        continue;
                    }
                    Step::Apply(read) => apply(read, &source, &stats),
                    Step::Reset(reason) => {
                        warn!(source = %source.events, rank = source.rank, reason = reason.as_str(), "events reset");
                        Update::Reset(reason)
                    }
                    Step::Gap { missing, detected_after } => Update::Gap { missing, detected_after },
                    Step::Synced(coverage) => Update::Synced(coverage),
                };
                if out.send(update).await.is_err() {
                    return;
                }
            }
            stats.send_modify(|stats| {
                stats.order = order.counters();
                stats.coverage = order.coverage();
            });
        }
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

fn replayed(order: &mut Sequence<Read>, news: Option<News>, steps: &mut Vec<Step<Read>>) {
    match news {
        Some(News::Batch(parcel)) => order.replayed(numbered(parcel.published, parcel.received), clock::now(), steps),
        Some(News::Ended) => order.replay_ended(clock::now(), steps),
        Some(News::Failed(error)) => {
            debug!(%error, "replay failed");
            order.replay_failed(clock::now(), steps);
        }
        None => order.replay_failed(clock::now(), steps),
    }
}

fn arrived(order: &mut Sequence<Read>, arrival: Arrival, steps: &mut Vec<Step<Read>>) -> Option<Update> {
    match arrival {
        Arrival::Connected => {
            order.connected(clock::now(), steps);
            Some(Update::Connected)
        }
        Arrival::Batch(parcel) => {
            order.live(numbered(parcel.published, parcel.received), parcel.received, steps);
            None
        }
        Arrival::Disconnected(why) => Some(Update::Disconnected(why)),
    }
}

/// Its time marks a batch; one that cannot be read has the mark 0.
fn numbered(published: Published, received: Timestamp) -> Numbered<Read> {
    let batch = decode(&published.payload);
    let mark = batch.as_ref().map_or(0, |batch| batch.at.to_bits());
    Numbered { seq: published.seq, mark, bytes: published.payload.len(), content: Read { batch, received } }
}

fn apply(read: Read, source: &Source, stats: &watch::Sender<Stats>) -> Update {
    match read.batch {
        Ok(batch) => {
            stats.send_modify(|stats| {
                stats.skipped += u64::from(batch.skipped);
                stats.latest = Some(read.received);
            });
            Update::Batch { batch, received: read.received }
        }
        Err(error) => {
            warn!(source = %source.events, rank = source.rank, %error, "unreadable events");
            stats.send_modify(|stats| stats.unreadable += 1);
            Update::Reset(ResetReason::Unreadable)
        }
    }
}

/// Connects and reads, for ever.
async fn dial(source: &Source, options: Options, inbox: &Inbox) {
    let (least, most) = options.retry;
    let mut backoff = Backoff::new(least, most);
    loop {
        let error = match subscribe(source, options.pace).await {
            Ok(mut link) => {
                info!(source = %source.events, rank = source.rank, "events followed");
                backoff.succeeded();
                inbox.connected().await;
                read(&mut link, source, inbox).await
            }
            Err(error) => error,
        };
        debug!(source = %source.events, rank = source.rank, %error, "events interrupted");
        inbox.disconnected(error.to_string()).await;
        tokio::time::sleep(backoff.wait(chance())).await;
    }
}

async fn subscribe(source: &Source, pace: Pace) -> Result<Link, LinkError> {
    let mut link = Link::dial(&source.events, Role::Sub, pace).await?;
    link.subscribe(&source.topic).await?;
    Ok(link)
}

async fn read(link: &mut Link, source: &Source, inbox: &Inbox) -> LinkError {
    loop {
        match link.receive().await {
            Ok(parts) => match frames::published(&parts, source.topic.as_bytes()) {
                Some(published) => inbox.offer(published, clock::now()),
                None => inbox.refuse(),
            },
            Err(error) => return error,
        }
    }
}

/// The standard library seeds each of these anew.
fn chance() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    let bits = RandomState::new().hash_one(0_u8);
    u32::try_from(bits >> 32).unwrap_or(0)
}
