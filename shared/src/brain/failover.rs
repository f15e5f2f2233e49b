//! What requests say of the endpoints that they went to: failures open circuits, answers close them, and the control plane
//! hears of both. An engine is one address: a stall is told in every pool that waits for first tokens there.

use super::{Brain, Observation};
use crate::circuit::Failure;
use crate::clock::Timestamp;
use crate::identity::EndpointId;

/// What became of an endpoint, for statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turned {
    /// A first token did not come in time.
    Stalled {
        /// The pool that waits no longer.
        pool: String,
    },
    /// Its circuit opened.
    Opened {
        /// The pool whose request failed.
        pool: String,
    },
    /// Its circuit closed.
    Closed {
        /// The pool whose request was served.
        pool: String,
    },
}

impl Brain {
    /// Does what is due by `now`.
    pub fn pass_time(&mut self, now: Timestamp) -> Vec<Turned> {
        let mut turned = Vec::new();
        for (endpoint, sent) in self.ledger.pass_time(now) {
            let opened = self.ledger.failed(endpoint, Failure::Stalled, sent, now);
            for pool in self.impatient(endpoint) {
                turned.push(Turned::Stalled { pool: pool.clone() });
                turned.extend(opened.map(|count| self.opened(&pool, endpoint, count)));
            }
        }
        turned
    }

    /// A request of the pool called `name`, sent to `endpoint` at `sent`, failed.
    pub(crate) fn failed(
        &mut self,
        name: &str,
        endpoint: EndpointId,
        failure: Failure,
        (sent, now): (Timestamp, Timestamp),
    ) -> Option<Turned> {
        let count = self.ledger.failed(endpoint, failure, sent, now)?;
        Some(self.opened(name, endpoint, count))
    }

    /// `endpoint` served a request of the pool called `name` that was sent at `sent`.
    pub(crate) fn served(
        &mut self,
        name: &str,
        endpoint: EndpointId,
        (sent, now): (Timestamp, Timestamp),
    ) -> Option<Turned> {
        let closed = self.ledger.served(endpoint, sent, now);
        closed.then(|| Turned::Closed { pool: name.to_owned() })
    }

    fn opened(&mut self, name: &str, endpoint: EndpointId, count: u32) -> Turned {
        self.outbox.observe(name, Observation::Opened(endpoint, count));
        Turned::Opened { pool: name.to_owned() }
    }

    /// The pools that wait for first tokens of `endpoint`.
    fn impatient(&self, endpoint: EndpointId) -> Vec<String> {
        let waits = |name: &str| self.pool(name).is_some_and(|pool| pool.settings.first_token_timeout.is_some());
        let named = self.slots.iter().filter(|(name, slots)| slots.holds(endpoint) && waits(name));
        named.map(|(name, _)| name.clone()).collect()
    }
}
