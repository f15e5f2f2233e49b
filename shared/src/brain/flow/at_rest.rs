//! What is left in the queues: for tests that nothing is.

use super::turns::Turn;
use crate::brain::Brain;

/// Over all pools.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) waiting: usize,
    pub(crate) bytes: u64,
    /// Requests that were told to go and have not asked yet.
    pub(crate) sent: usize,
    /// The same, refused.
    pub(crate) refused: usize,
}

impl Brain {
    pub(crate) fn left_in_queues(&self) -> Left {
        let queues = || self.flows.pools.values().map(|flow| &flow.queue);
        let go = |turn: &&Turn| matches!(turn, Turn::Go(_));
        let sent = self.flows.turns.verdicts().filter(go).count();
        Left {
            waiting: queues().map(super::Queue::len).sum(),
            bytes: queues().map(super::Queue::bytes).sum(),
            sent,
            refused: self.flows.turns.verdicts().count() - sent,
        }
    }
}
