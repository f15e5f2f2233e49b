//! The single writer: takes `Update`s from a channel, publishes an `Arc<View>` at most every few milliseconds.
//! Readers that look at `Datastore::view` never block the writer; updates that arrive in between are folded into one view.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::apply::{Progress, State};
use super::{Update, View};

/// Updates that may wait for the writer; senders wait when it is full.
const QUEUE: usize = 4096;

/// Two views are at least this far apart: a snapshot of a large pool is not free.
const GATHER: Duration = Duration::from_millis(5);

/// The readers' and the sources' ends of the store.
#[derive(Clone, Debug)]
pub struct Datastore {
    /// The newest view.
    pub view: watch::Receiver<Arc<View>>,
    /// How far discovery and the first probes are.
    pub progress: watch::Receiver<Progress>,
    /// Where sources report.
    pub updates: mpsc::Sender<Update>,
}

/// The writer's own end.
#[derive(Debug)]
pub struct Writer {
    updates: mpsc::Receiver<Update>,
    view: watch::Sender<Arc<View>>,
    progress: watch::Sender<Progress>,
}

/// An empty store and its writer, which the runtime must run.
#[must_use]
pub fn datastore() -> (Datastore, Writer) {
    let (updates, inbox) = mpsc::channel(QUEUE);
    let (view_writer, view) = watch::channel(Arc::new(View::default()));
    let (progress_writer, progress) = watch::channel(Progress::default());
    (Datastore { view, progress, updates }, Writer { updates: inbox, view: view_writer, progress: progress_writer })
}

impl Writer {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut state = State::default();
        let mut batch = Vec::with_capacity(QUEUE);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                taken = self.updates.recv_many(&mut batch, QUEUE) => if taken == 0 { return },
            }
            for update in batch.drain(..) {
                state.apply(update);
            }
            // First: who sees a pool in the view must not find that all before it had been discovered.
            let progress = state.progress();
            self.progress.send_if_modified(|seen| std::mem::replace(seen, progress) != progress);
            self.view.send_replace(Arc::new(state.view()));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(GATHER) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datastore::PoolSpec;

    #[tokio::test]
    async fn readers_see_what_sources_report() {
        let (mut store, writer) = datastore();
        let stop = CancellationToken::new();
        let running = tokio::spawn(writer.run(stop.clone()));
        let spec = PoolSpec {
            name: "p".to_owned(),
            settings: shared::wire::PoolSettings::default(),
            bands: crate::config::bands::Bands::Fixed,
            models: None,
        };
        store.updates.send(Update::Pools(vec![spec])).await.unwrap();
        let seen = store.view.wait_for(|view| view.pools.iter().any(|pool| pool.name == "p"));
        tokio::time::timeout(Duration::from_secs(5), seen).await.unwrap().unwrap();
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap();
    }
}
