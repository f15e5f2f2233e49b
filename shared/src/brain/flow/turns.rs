//! What became of requests that waited, until their streams ask.

use std::collections::BTreeMap;

use crate::api::Reject;
use crate::brain::Routed;
use crate::flow::Ticket;

/// What became of a request that waited.
#[derive(Debug)]
pub enum Turn {
    /// It goes, and is booked.
    Go(Box<Routed>),
    /// It does not.
    Refused(Reject),
}

/// Verdicts by ticket.
#[derive(Debug, Default)]
pub struct Turns {
    verdicts: BTreeMap<Ticket, Turn>,
    fresh: Vec<Ticket>,
}

impl Turns {
    pub(super) fn put(&mut self, ticket: Ticket, turn: Turn) {
        self.verdicts.insert(ticket, turn);
        self.fresh.push(ticket);
    }

    pub(super) fn fresh(&mut self) -> Vec<Ticket> {
        core::mem::take(&mut self.fresh)
    }

    #[cfg(test)]
    pub(super) fn verdicts(&self) -> impl Iterator<Item = &Turn> {
        self.verdicts.values()
    }

    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Turn> {
        self.verdicts.remove(&ticket)
    }
}
