//! Follows one rank's stream for good: connects, reconnects, asks for replays, and hands on what a
//! [`Sequence`](super::sequence::Sequence) decides.
//!
//! The socket is read whatever the consumer does. When the consumer lags, batches are dropped before they are counted, so
//! that the loss shows as a gap; after they are counted they wait. Every `Reset` comes before the batches that count anew.

use std::time::{Duration, Instant};

use shared::clock::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::backoff::Backoff;
use super::event::Batch;
use super::frames;
use super::sequence::{Counters, Coverage, ResetReason};
use super::sources::Source;
use super::stream::{Link, LinkError, Pace};
use super::zmtp::Role;
use crate::clock;

mod drive;
pub(super) mod inbox;
mod replay;

use drive::Drive;
use inbox::{Arrival, Inbox, inbox};

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
    /// Everything known of this rank is void. Count what follows as partial until `Synced` says otherwise.
    Reset(ResetReason),
    /// The stream is in order, and known from its beginning or not.
    Synced(Coverage),
    /// The connection is over or, once more, cannot be made, for this reason. What is known may still be true.
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
        // The inbox stays until the end: without it a queue that is empty would look closed.
        let Self { source, options, inbox: _inbox, arrivals, stats } = self;
        Drive::new(source, options, stats, out).run(arrivals, stop).await;
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
                inbox.connected().await;
                let since = Instant::now();
                let error = read(&mut link, source, inbox).await;
                // A peer that accepts and then breaks the connection is no success.
                if since.elapsed() >= most {
                    backoff.succeeded();
                }
                error
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

#[cfg(test)]
pub(super) mod tests;
