//! Between the socket, which must never wait, and the follower, which may: a queue bounded in number and in bytes. What
//! does not fit is dropped and counted; the numbers of the stream then show a gap, and a replay heals it.

use std::sync::Arc;

use shared::clock::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::Stats;
use crate::events::frames::Published;

/// Batches that may wait.
const WAITING: usize = 4096;

/// Payload bytes of those.
const WAITING_BYTES: u32 = 64 << 20;

/// What the connection brings, in order.
#[derive(Debug)]
pub(in crate::events) enum Arrival {
    Connected,
    Batch(Parcel),
    Disconnected(String),
}

/// A batch on its way; it holds its share of the queue's bytes until it is dropped.
#[derive(Debug)]
pub(in crate::events) struct Parcel {
    pub(in crate::events) published: Published,
    pub(in crate::events) received: Timestamp,
    _room: OwnedSemaphorePermit,
}

/// The socket's end.
#[derive(Clone, Debug)]
pub(in crate::events) struct Inbox {
    sender: mpsc::Sender<Arrival>,
    room: Room,
    stats: watch::Sender<Stats>,
}

/// Bytes that may wait.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Semaphore>);

impl Room {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(usize::try_from(WAITING_BYTES).unwrap_or(usize::MAX >> 3))))
    }

    /// A message larger than all the room takes all of it.
    fn share(published: &Published) -> u32 {
        u32::try_from(published.payload.len()).unwrap_or(u32::MAX).min(WAITING_BYTES)
    }

    fn try_put(&self, published: Published, received: Timestamp) -> Option<Parcel> {
        let room = Arc::clone(&self.0).try_acquire_many_owned(Self::share(&published)).ok()?;
        Some(Parcel { published, received, _room: room })
    }

    /// Waits for room.
    pub(super) async fn put(&self, published: Published, received: Timestamp) -> Option<Parcel> {
        let room = Arc::clone(&self.0).acquire_many_owned(Self::share(&published)).await.ok()?;
        Some(Parcel { published, received, _room: room })
    }
}

/// A queue and its two ends.
pub(super) fn inbox(stats: watch::Sender<Stats>) -> (Inbox, mpsc::Receiver<Arrival>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Inbox { sender, room: Room::new(), stats }, receiver)
}

impl Inbox {
    /// A batch, or nothing when the follower lags.
    pub(in crate::events) fn offer(&self, published: Published, received: Timestamp) {
        let bytes = u64::try_from(published.payload.len()).unwrap_or(u64::MAX);
        let parcel = self.room.try_put(published, received);
        let taken = parcel.is_some_and(|parcel| self.sender.try_send(Arrival::Batch(parcel)).is_ok());
        self.stats.send_modify(|stats| {
            stats.messages += 1;
            stats.bytes += bytes;
            stats.dropped += u64::from(!taken);
        });
    }

    /// A message that is no batch came.
    pub(in crate::events) fn refuse(&self) {
        self.stats.send_modify(|stats| stats.foreign += 1);
    }

    /// The connection stands. Such news are never dropped.
    pub(in crate::events) async fn connected(&self) {
        self.stats.send_modify(|stats| {
            stats.connected = true;
            stats.connects += 1;
        });
        // A follower that has ended needs no news.
        let _ended = self.sender.send(Arrival::Connected).await;
    }

    /// The connection is over, or could not be made.
    pub(in crate::events) async fn disconnected(&self, why: String) {
        self.stats.send_modify(|stats| stats.connected = false);
        // As above.
        let _ended = self.sender.send(Arrival::Disconnected(why)).await;
    }
}
