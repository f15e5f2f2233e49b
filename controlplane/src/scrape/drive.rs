//! Keeps one watch per listed endpoint of a pool: starts what is new, ends what has left. A changed label or metrics
//! address restarts the watch of that endpoint only.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::identity::EndpointId;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Hint;
use super::poll::{Context, Probe};
use crate::datastore::Discovered;

/// Hints that may wait for one watch; more say nothing new and are dropped.
const HINTS: usize = 4;

struct Running {
    endpoint: Discovered,
    task: AbortHandle,
    hints: mpsc::Sender<Hint>,
}

/// Runs until `stop`; all watches end with it.
pub async fn watch_endpoints(
    context: Context,
    mut targets: watch::Receiver<Arc<Vec<Discovered>>>,
    hints: broadcast::Sender<Hint>,
    stop: CancellationToken,
) {
    let mut inbox = hints.subscribe();
    let mut tasks = JoinSet::new();
    let mut running: BTreeMap<EndpointId, Running> = BTreeMap::new();
    reconcile(&context, &mut running, &mut tasks, &targets.borrow_and_update());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = targets.changed() => match changed {
                Ok(()) => reconcile(&context, &mut running, &mut tasks, &targets.borrow_and_update()),
                Err(_) => return,
            },
            // Hints that were missed are lost: the next ones say the same. `hints` keeps the channel open.
            Ok(hint) = inbox.recv() => {
                if let Some(watch) = running.get(&hint.endpoint()) {
                    // A full queue holds the same news already.
                    let _dropped = watch.hints.try_send(hint);
                }
            },
            Some(_ended) = tasks.join_next() => {}
        }
    }
}

fn reconcile(
    context: &Context,
    running: &mut BTreeMap<EndpointId, Running>,
    tasks: &mut JoinSet<()>,
    listed: &[Discovered],
) {
    running.retain(|_, watch| {
        let stays = listed.iter().any(|next| same_watch(next, &watch.endpoint));
        if !stays {
            watch.task.abort();
        }
        stays
    });
    for endpoint in listed {
        running.entry(EndpointId::of(&endpoint.address)).or_insert_with(|| {
            let (hints, inbox) = mpsc::channel(HINTS);
            let task = tasks.spawn(Probe::new(context.clone(), endpoint.clone()).run(inbox));
            Running { endpoint: endpoint.clone(), task, hints }
        });
    }
}

/// Would a watch over `a` do just what the one over `b` does?
fn same_watch(a: &Discovered, b: &Discovered) -> bool {
    a.address == b.address && a.metrics == b.metrics && a.labels == b.labels
}
