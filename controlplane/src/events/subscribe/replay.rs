//! Asks a replay endpoint for batches of the past: one connection per question, because the endpoint answers in the order
//! asked and an obsolete answer may be thousands of batches long.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::inbox::{Parcel, Room};
use crate::clock;
use crate::events::frames::{self, Answer};
use crate::events::sources::Address;
use crate::events::stream::{Link, LinkError, Pace};
use crate::events::zmtp::Role;

/// Answers that may wait for the follower; the socket waits with them.
const WAITING: usize = 256;

/// What a replay brings, in order; the last is `Ended` or `Failed`.
#[derive(Debug)]
pub(super) enum News {
    Batch(Parcel),
    Ended,
    Failed(LinkError),
}

/// A replay that runs; dropping it ends it.
#[derive(Debug)]
pub(super) struct Running {
    news: mpsc::Receiver<News>,
    _task: AbortOnDropHandle<()>,
}

impl Running {
    /// Asks for all batches from `from`, after `pause`.
    pub(super) fn start(address: Address, from: u64, pause: Duration, pace: Pace) -> Self {
        let (sender, news) = mpsc::channel(WAITING);
        let task = tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let last = match ask(&address, from, pace, &sender).await {
                Ok(()) => News::Ended,
                Err(error) => News::Failed(error),
            };
            // Nobody waits for it any more: then it does not matter.
            let _obsolete = sender.send(last).await;
        });
        Self { news, _task: AbortOnDropHandle::new(task) }
    }

    /// The next news. `None` after the last.
    pub(super) async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }
}

async fn ask(address: &Address, from: u64, pace: Pace, news: &mpsc::Sender<News>) -> Result<(), LinkError> {
    let mut link = Link::dial(address, Role::Dealer, pace).await?;
    let room = Room::new();
    let request = frames::request(from);
    let [empty, seq] = &request;
    link.send(&[empty, seq]).await?;
    loop {
        match frames::answer(&link.receive().await?) {
            Some(Answer::End) => return Ok(()),
            Some(Answer::Batch(published)) => {
                let Some(parcel) = room.put(published, clock::now()).await else { return Ok(()) };
                if news.send(News::Batch(parcel)).await.is_err() {
                    return Ok(());
                }
            }
            // Unreadable answers leave a hole, which is asked for again.
            None => {}
        }
    }
}
