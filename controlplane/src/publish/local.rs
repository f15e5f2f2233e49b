//! A gateway in this process: the same segments and live messages as over the network, without encoding them, and the
//! same reports back. Whoever has one must keep taking what it is told, or it falls behind like a slow gateway.

use std::collections::VecDeque;
use std::sync::Arc;

use shared::wire::{Live, Report, Segment};
use tokio::sync::watch;

use super::log::Next;
use super::stream::{Input, Shared};
use crate::bookings::ledger::GatewayId;

/// Where gateways of this process sign on; clones are the same.
#[derive(Clone)]
pub struct LocalDesk {
    shared: Shared,
}

/// What a gateway is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The next part of the table.
    Segment(Arc<Segment>),
    /// The newest load, bookings and rates.
    Live(Live),
}

/// A gateway that signed on; it signs off when it is dropped.
pub struct LocalGateway {
    shared: Shared,
    gateway: GatewayId,
    head: watch::Receiver<u64>,
    lives: watch::Receiver<Option<Live>>,
    /// The version reached once `pending` is taken.
    at: Option<u64>,
    pending: VecDeque<Arc<Segment>>,
}

impl LocalDesk {
    pub(super) const fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// Signs on under `name`, which no other gateway should have; `None` when the publishing task has ended.
    pub async fn open(&self, name: &str) -> Option<LocalGateway> {
        let shared = self.shared.clone();
        let gateway = shared.number();
        let (live, lives) = watch::channel(None);
        let opened = Input::Opened { gateway, name: name.to_owned(), pools: Vec::new(), live };
        shared.inputs.send(opened).await.ok()?;
        let head = shared.head.clone();
        Some(LocalGateway { shared, gateway, head, lives, at: None, pending: VecDeque::new() })
    }
}

impl LocalGateway {
    /// What comes next, from a snapshot on; `None` when the publishing task has ended, or another gateway took the name.
    /// Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            self.head.mark_unchanged();
            if self.lives.has_changed().ok()?
                && let Some(live) = self.lives.borrow_and_update().clone()
            {
                return Some(Told::Live(live));
            }
            if let Some(segment) = self.pending.pop_front() {
                return Some(Told::Segment(segment));
            }
            match self.shared.next(self.at) {
                Next::Segments(segments, reached) => {
                    self.pending.extend(segments);
                    self.at = Some(reached);
                    continue;
                }
                Next::NeedsSnapshot => self.shared.inputs.send(Input::SnapshotWanted).await.ok()?,
                Next::UpToDate => {}
            }
            tokio::select! {
                changed = self.head.changed() => changed.ok()?,
                changed = self.lives.changed() => { changed.ok()?; self.lives.mark_changed(); }
            }
        }
    }

    /// A segment was refused: the next one begins a snapshot.
    pub fn start_over(&mut self) {
        self.pending.clear();
        self.at = None;
    }

    /// Tells what happened here; false when the publishing task has ended.
    pub async fn report(&self, report: Report) -> bool {
        self.shared.inputs.send(Input::Report(self.gateway, report)).await.is_ok()
    }
}

impl Drop for LocalGateway {
    fn drop(&mut self) {
        // When there is no room, the silence of this gateway is noticed instead.
        self.shared.inputs.try_send(Input::Closed(self.gateway)).ok();
    }
}
