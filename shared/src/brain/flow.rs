//! Requests that wait: offered here after they were read, tried against the table when their turn comes, and kept as a
//! verdict until the shell asks for it. A worker holds its own queue; what other workers and gateways do shows in the
//! bookings, and in the mirror: between two words from the control plane, the others are taken to do as this worker does.

mod admission;
#[cfg(test)]
mod at_rest;
mod attempt;
mod drain;
mod held;
mod offers;
mod saturation;
mod sessions;
mod turns;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use admission::Standing;
#[cfg(test)]
pub(crate) use at_rest::Left;
pub use turns::{Turn, Turns};

use super::{Brain, Prompt, Routed};
use crate::api::{NoEndpointReason, Reject};
use crate::clock::Timestamp;
use crate::flow::ceiling::SoftCeilings;
use crate::flow::gate::{self, Closed};
use crate::flow::{Claim, Queue, Ticket, Waiting};
use crate::identity::EndpointId;
use crate::scheduling::{Decision, Request};
use crate::table::flow::{FlowControl, Hold};
use crate::table::live::Work;
use crate::table::{EndpointState, Pool};
use attempt::Tried;
use drain::Drain;
use held::Held;
use sessions::Sessions;

/// Nobody waits longer, whatever service level a client names: hosts end a stream on which nothing moves for so long.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Queues and verdicts of all pools.
#[derive(Debug, Default)]
pub(super) struct Flows {
    pools: BTreeMap<String, PoolFlow>,
    tickets: u64,
    turns: Turns,
}

#[derive(Debug, Default)]
struct PoolFlow {
    queue: Queue<Held>,
    /// Sent by this worker since the control plane last spoke.
    sent: BTreeMap<EndpointId, Work>,
    drain: Drain,
    ceilings: SoftCeilings,
    sessions: Sessions,
    /// Has the pool no endpoint, and since when is that so?
    empty: bool,
    empty_since: Timestamp,
}

/// A request, as far as choosing and booking need it.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// The pool.
    pub pool: &'a str,
    /// Its prompt.
    pub prompt: Prompt<'a>,
    /// Size, service levels and what else decides.
    pub request: Request<'a>,
    /// What may be done to it.
    pub standing: Standing,
    /// Its session, if the pool counts these and it names one.
    pub session: Option<&'a str>,
    /// Its first token will not be seen.
    pub whole_body: bool,
}

/// A request that may have to wait.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    /// What it asks for.
    pub trial: Trial<'a>,
    /// May it wait? What is no inference request, or cannot be held by the host, never does.
    pub may_wait: bool,
    /// Of its body.
    pub body_bytes: u64,
    /// Who shares with others.
    pub tenant: &'a str,
    /// Does it name a service level for the first token?
    pub has_deadline: bool,
}

/// What became of an offer.
#[derive(Debug)]
pub enum Offered {
    /// It goes.
    Routed(Box<Routed>),
    /// It waits; `Brain::take_turn` tells when that is over.
    Waits(Ticket),
    /// It is refused.
    Refused(Reject),
    /// There is no such pool.
    NoPool,
}

impl Brain {
    /// Sees whether the pool is empty: then requests wait for as long as that may take, and when it is no more, their time
    /// begins anew.
    fn follow_regime(&mut self, name: &str, control: &FlowControl, now: Timestamp) {
        let Some(ttl) = control.no_endpoint_ttl else { return };
        let empty = self.pool(name).is_some_and(is_empty);
        let flow = self.flows.pools.entry(name.to_owned()).or_default();
        if flow.empty != empty {
            (flow.empty, flow.empty_since) = (empty, now);
            flow.queue.renew(control, |band| now.after(if empty { ttl } else { band.ttl }));
        }
    }

    /// Up to which share of the hold's limits requests of `band` go now.
    fn limit_of(&mut self, name: &str, control: &FlowControl, band: usize, now: Timestamp) -> f64 {
        let given = control.bands.get(band).map_or(1.0, |band| band.limit);
        let Hold::Saturation(detector) = control.hold else { return given };
        if !control.soft_ceilings {
            return given;
        }
        let saturation = self.saturation(name, &detector, now).unwrap_or(1.0);
        let flow = self.flows.pools.entry(name.to_owned()).or_default();
        flow.ceilings.limit(saturation, band, control.bands.len())
    }

    /// Tries whoever is next, in every pool; what comes of it is told by `turns`.
    pub fn pump(&mut self, now: Timestamp) {
        let names: Vec<String> = self.flows.pools.keys().cloned().collect();
        for name in names {
            match self.pool(&name).map(|pool| pool.settings.flow.clone()) {
                Some(Some(control)) => self.pump_pool(&name, &control, now),
                // The pool is gone, or holds nobody any more: everybody is told at once.
                Some(None) | None => self.dissolve(&name, now),
            }
        }
    }

    fn dissolve(&mut self, name: &str, now: Timestamp) {
        let Some(mut flow) = self.flows.pools.remove(name) else { return };
        let waiting = flow.queue.expired(Timestamp::from_nanos(u64::MAX)).into_iter();
        for waiting in waiting.chain(flow.sessions.into_door()) {
            let turn = match self.send(&waiting.load.trial(name), now) {
                Offered::Routed(routed) => Turn::Go(routed),
                Offered::Refused(reject) => Turn::Refused(reject),
                Offered::NoPool | Offered::Waits(_) => unknown_pool(name),
            };
            self.flows.turns.put(waiting.ticket, turn);
        }
    }

    fn pump_pool(&mut self, name: &str, control: &Arc<FlowControl>, now: Timestamp) {
        self.follow_regime(name, control, now);
        self.refuse_expired(name, control, now);
        self.open_door(name, control, now);
        let mut tried = Vec::new();
        while let Some(top) = self.queue(name).and_then(Queue::highest) {
            let owed = self.queue(name).and_then(|queue| queue.owed(top, &tried));
            let (band, limit) = match owed {
                Some(band) => (band, 1.0),
                None => (top, self.limit_of(name, control, top, now)),
            };
            if !self.serve_one(name, control, (band, limit), now) {
                if owed.is_none() {
                    return;
                }
                tried.push(band);
            }
        }
    }

    fn refuse_expired(&mut self, name: &str, control: &Arc<FlowControl>, now: Timestamp) {
        let Some(flow) = self.flows.pools.get_mut(name) else { return };
        flow.queue.align(control);
        let expired = flow.queue.expired(now);
        if expired.is_empty() {
            return;
        }
        let nobody_ready = !self.pool(name).is_some_and(any_ready);
        for waiting in expired {
            let nowhere = waiting.load.aim.is_some_and(|aim| aim.why == Closed::NoEndpoint);
            let reject = if nobody_ready || nowhere {
                Reject::NoEndpoint { reason: NoEndpointReason::WaitExpired }
            } else {
                Reject::QueueExpired { retry_after: self.retry_after(name, waiting.load.seed(), now) }
            };
            self.flows.turns.put(waiting.ticket, Turn::Refused(reject));
        }
    }

    fn queue(&self, name: &str) -> Option<&Queue<Held>> {
        self.flows.pools.get(name).map(|flow| &flow.queue)
    }

    /// Serves or refuses one request of `band`; false when those that may go next all have to wait.
    fn serve_one(
        &mut self,
        name: &str,
        control: &Arc<FlowControl>,
        (band, limit): (usize, f64),
        now: Timestamp,
    ) -> bool {
        let since = self.flows.pools.get(name).map(|flow| flow.empty_since).unwrap_or_default();
        for nth in 0..=control.skip {
            let Some(waiting) = self.queue(name).and_then(|queue| queue.nth(band, nth, control, now)) else {
                return false;
            };
            let (ticket, arrived, trial) = (waiting.ticket, waiting.arrived.max(since), waiting.load.trial(name));
            if waiting.load.aim.is_some_and(|aim| self.still_closed((&trial, aim), control, limit, now)) {
                continue;
            }
            match self.attempt(&trial, control, (limit, band), arrived, now) {
                Tried::Closed(aim) => {
                    if let Some(flow) = self.flows.pools.get_mut(name) {
                        flow.queue.change(ticket, |held| held.aim = Some(aim));
                    }
                    continue;
                }
                Tried::Refused => {
                    let reject = self.saturated(name, trial.request.seed, now);
                    self.leave(name, ticket);
                    self.flows.turns.put(ticket, Turn::Refused(reject));
                }
                Tried::Go(decision) => self.send_held(name, control, ticket, *decision, now),
            }
            return true;
        }
        false
    }

    fn send_held(
        &mut self,
        name: &str,
        control: &Arc<FlowControl>,
        ticket: Ticket,
        decision: Decision,
        now: Timestamp,
    ) {
        let Some(Waiting { claim, arrived, load, .. }) = self.leave(name, ticket) else { return };
        let routed = self.dispatch(&load.trial(name), control, (claim, Some(arrived)), decision, now);
        let turn = routed.map_or_else(|| unknown_pool(name), |routed| Turn::Go(Box::new(routed)));
        self.flows.turns.put(ticket, turn);
    }

    /// Books what was decided and charges it.
    fn dispatch(
        &mut self,
        trial: &Trial<'_>,
        control: &Arc<FlowControl>,
        (claim, waited_since): (Claim, Option<Timestamp>),
        decision: Decision,
        now: Timestamp,
    ) -> Option<Routed> {
        let (name, demand) = (trial.pool, &trial.request.demand);
        let uncached = decision.choices().next()?.uncached_tokens;
        let mut routed = self.book(name, &trial.prompt, &trial.request, trial.whole_body, (decision, now))?;
        let rates = self.live(name).map(|live| live.rates).unwrap_or_default();
        let cost = gate::pod_seconds(demand.prompt_tokens, uncached, demand.output_tokens, &rates);
        let flow = self.flows.pools.entry(name.to_owned()).or_default();
        flow.queue.align(control);
        flow.queue.charge(&claim, cost, control, now);
        flow.drain.left(now);
        let sent = flow.sent.entry(*routed.choices.first()?).or_default();
        *sent = sent.plus(Work {
            waiting: 1,
            decoding: 0,
            queued_tokens: routed.uncached_tokens,
            context_tokens: routed.context_tokens,
        });
        let session = self.session_sent(trial, control, now);
        routed.charged = Some(Charged { claim, cost, waited: waited_since.map(|since| now.since(since)), session });
        Some(routed)
    }

    /// The control plane has told everybody's bookings anew.
    pub(super) fn forget_mirror(&mut self) {
        for flow in self.flows.pools.values_mut() {
            flow.sent.clear();
        }
    }

    /// What was charged for a request of the pool called `name` turned out to cost `real` pod-seconds.
    pub(crate) fn settle(&mut self, name: &str, charged: &Charged, real: f64) {
        if let Some(flow) = self.flows.pools.get_mut(name) {
            flow.queue.correct(&charged.claim, real - charged.cost);
        }
    }

    /// Tickets whose turn has come, or that are refused; each is told once.
    pub fn turns(&mut self) -> Vec<Ticket> {
        self.flows.turns.fresh()
    }

    /// What became of a request that waited; `None` while it still does.
    pub fn take_turn(&mut self, ticket: Ticket) -> Option<Turn> {
        self.flows.turns.take(ticket)
    }

    /// A client that waited is gone.
    pub fn abandon(&mut self, name: &str, ticket: Ticket, now: Timestamp) {
        self.leave(name, ticket);
        if let Some(flow) = self.flows.pools.get_mut(name) {
            flow.sessions.leave(ticket);
        }
        if let Some(Turn::Go(routed)) = self.flows.turns.take(ticket) {
            self.ledger.release(routed.ticket);
            if let Some(charged) = &routed.charged {
                self.session_ended(name, charged, None, now);
            }
        }
    }

    /// Requests of the pool called `name` that wait in this worker.
    #[must_use]
    pub fn waiting(&self, name: &str) -> usize {
        self.flows.pools.get(name).map_or(0, |flow| flow.queue.len() + flow.sessions.waiting())
    }

    fn leave(&mut self, name: &str, ticket: Ticket) -> Option<Waiting<Held>> {
        self.flows.pools.get_mut(name)?.queue.take(ticket)
    }

    fn saturated(&self, name: &str, seed: u64, now: Timestamp) -> Reject {
        Reject::Saturated { retry_after: self.retry_after(name, seed, now) }
    }

    fn retry_after(&self, name: &str, seed: u64, now: Timestamp) -> Duration {
        let nobody = PoolFlow::default();
        let flow = self.flows.pools.get(name).unwrap_or(&nobody);
        flow.drain.retry_after(flow.queue.len(), seed, now)
    }
}

fn any_ready(pool: &Pool) -> bool {
    pool.endpoints().any(|(_, endpoint)| endpoint.state == EndpointState::Ready)
}

fn is_empty(pool: &Pool) -> bool {
    pool.endpoints().all(|(_, endpoint)| endpoint.state == EndpointState::Draining)
}

fn unknown_pool(name: &str) -> Turn {
    Turn::Refused(Reject::UnknownPool { pool: name.to_owned() })
}

/// What a request that was sent is to be settled with.
#[derive(Clone, Debug, PartialEq)]
pub struct Charged {
    /// Who was charged.
    pub claim: Claim,
    /// Pod-seconds.
    pub cost: f64,
    /// How long it waited; `None`: not at all.
    pub waited: Option<Duration>,
    /// Its session, if these are counted.
    pub session: Option<String>,
}
