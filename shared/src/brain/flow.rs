//! Requests that wait: offered here after they were read, tried against the table when their turn comes, and kept as a
//! verdict until the shell asks for it. A worker holds its own queue; what other workers and gateways do shows in the
//! bookings, and in the mirror: between two words from the control plane, the others are taken to do as this worker does.

mod turns;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use turns::{Turn, Turns};

use super::{Brain, Prompt, Routed};
use crate::api::Reject;
use crate::clock::Timestamp;
use crate::draw::Draw;
use crate::flow::gate::{self, Closed, Gate};
use crate::flow::{Claim, Queue, Ticket, Waiting};
use crate::identity::EndpointId;
use crate::scheduling::candidate::Candidate;
use crate::scheduling::subset::Subset;
use crate::scheduling::{Decision, NoCandidate, Request};
use crate::table::flow::{FlowControl, Hold};
use crate::table::live::Work;

/// What was decided for a request that waits stands this long, unless its endpoint opens before.
const DECISION_STANDS: Duration = Duration::from_millis(20);
/// Bounds of the time after which a refused request should come back, seconds.
const RETRY: (f64, f64) = (5.0, 60.0);

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
}

/// Requests that left the queue lately, a second.
#[derive(Debug, Default)]
struct Drain {
    count: f64,
    at: Timestamp,
}

impl Drain {
    const SECONDS: f64 = 10.0;

    fn left(&mut self, now: Timestamp) {
        self.count = self.faded(now) + 1.0;
        self.at = now;
    }

    fn faded(&self, now: Timestamp) -> f64 {
        self.count * libm::exp(-now.since(self.at).as_secs_f64() / Self::SECONDS)
    }

    fn per_second(&self, now: Timestamp) -> f64 {
        self.faded(now) / Self::SECONDS
    }
}

/// What is kept of a request that waits.
#[derive(Debug)]
struct Held {
    chain: Vec<u64>,
    bytes: u64,
    tokens: Option<u32>,
    rendered: bool,
    request: Request<'static>,
    subset: Option<Subset>,
    whole_body: bool,
    /// Where it would go, and why not now.
    aim: Aim,
}

#[derive(Clone, Copy, Debug)]
struct Aim {
    endpoint: Option<EndpointId>,
    uncached: f64,
    why: Closed,
    decided: Timestamp,
}

/// A request that may have to wait.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    /// The pool.
    pub pool: &'a str,
    /// Its prompt.
    pub prompt: Prompt<'a>,
    /// Size, service levels and what else decides.
    pub request: Request<'a>,
    /// Its first token will not be seen.
    pub whole_body: bool,
    /// Of its body.
    pub body_bytes: u64,
    /// Who asks.
    pub priority: i32,
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

/// What trying a request gives.
enum Tried {
    Go(Box<Decision>),
    Late,
    Closed(Aim),
}

impl Brain {
    /// Routes a request or lets it wait, as the pool's flow control has it.
    pub fn offer(&mut self, offer: &Offer<'_>, now: Timestamp) -> Offered {
        let Some(pool) = self.pool(offer.pool) else { return Offered::NoPool };
        let Some(control) = pool.settings.flow.clone().filter(|_| !self.queueless) else {
            return match self.route(offer.pool, &offer.prompt, &offer.request, offer.whole_body, now) {
                None => Offered::NoPool,
                Some(Err(none)) => Offered::Refused(none.into()),
                Some(Ok(routed)) => Offered::Routed(Box::new(routed)),
            };
        };
        let band = control.band_of(offer.priority);
        let ahead = self.flows.pools.get(offer.pool).and_then(|flow| flow.queue.highest());
        let aim = if ahead.is_none_or(|highest| highest > band) {
            let limit = control.bands.get(band).map_or(1.0, |band| band.limit);
            match self.attempt(offer, &control, (limit, band), now, now) {
                Tried::Go(decision) => {
                    let claim = Claim { band, tenant: offer.tenant.to_owned() };
                    let routed = self.dispatch((offer.pool, &control), offer, (claim, None), *decision, now);
                    return routed.map_or(Offered::NoPool, |routed| Offered::Routed(Box::new(routed)));
                }
                Tried::Late => return Offered::Refused(self.too_late(offer.pool, offer.request.seed, now)),
                Tried::Closed(aim) => Some(aim),
            }
        } else {
            None
        };
        self.wait(offer, (&control, band), aim, now)
    }

    fn wait(
        &mut self,
        offer: &Offer<'_>,
        (control, band): (&Arc<FlowControl>, usize),
        aim: Option<Aim>,
        now: Timestamp,
    ) -> Offered {
        let rates = self.live(offer.pool).map(|live| live.rates).unwrap_or_default();
        let demand = &offer.request.demand;
        let ttl = control.bands.get(band).map_or(Duration::ZERO, |row| {
            // A prompt whose prefill alone takes longer may wait longer.
            let own = demand.prompt_tokens * (rates.x + rates.y * demand.prompt_tokens / 2.0);
            let patience = Duration::try_from_secs_f64(gate::patience(demand, own)).unwrap_or(row.ttl);
            if row.deadline { row.ttl.max(patience) } else { row.ttl }
        });
        let own_deadline = Duration::try_from_secs_f64(demand.slo_ttft).ok().filter(|_| offer.has_deadline);
        let flows = &mut self.flows;
        flows.tickets += 1;
        let ticket = Ticket(flows.tickets);
        let never = Aim { endpoint: None, uncached: 0.0, why: Closed::Saturated, decided: Timestamp::ZERO };
        let held = Held {
            chain: offer.prompt.chain.to_vec(),
            bytes: offer.prompt.bytes,
            tokens: offer.prompt.tokens,
            rendered: offer.prompt.rendered,
            request: offer.request.without_subset(),
            subset: offer.request.subset.cloned(),
            whole_body: offer.whole_body,
            aim: aim.unwrap_or(never),
        };
        let waiting = Waiting {
            ticket,
            claim: Claim { band, tenant: offer.tenant.to_owned() },
            arrived: now,
            expires: now.after(ttl),
            deadline: own_deadline.map(|wait| now.after(wait)),
            bytes: offer.body_bytes,
            load: held,
        };
        let flow = flows.pools.entry(offer.pool.to_owned()).or_default();
        flow.queue.align(control);
        match flow.queue.push(waiting, control) {
            Ok(()) => Offered::Waits(ticket),
            Err((_, refused)) => {
                let retry_after = self.retry_after(offer.pool, refused.load.request.seed, now);
                Offered::Refused(Reject::Saturated { retry_after })
            }
        }
    }

    /// Tries whoever is next, in every pool; what comes of it waits in `take_turns`.
    pub fn pump(&mut self, now: Timestamp) {
        let names: Vec<String> = self.flows.pools.keys().cloned().collect();
        for name in names {
            match self.pool(&name).map(|pool| pool.settings.flow.clone()) {
                Some(Some(control)) => self.pump_pool(&name, &control, now),
                // The pool is gone, or holds nobody any more: everybody is told at once.
                gone => self.dissolve(&name, gone.is_none(), now),
            }
        }
    }

    fn dissolve(&mut self, name: &str, gone: bool, now: Timestamp) {
        let Some(mut flow) = self.flows.pools.remove(name) else { return };
        for waiting in flow.queue.expired(Timestamp::from_nanos(u64::MAX)) {
            let turn = if gone {
                Turn::Refused(Reject::UnknownPool { pool: name.to_owned() })
            } else {
                self.route_held(name, &waiting, now)
            };
            self.flows.turns.put(waiting.ticket, turn);
        }
    }

    fn route_held(&mut self, name: &str, waiting: &Waiting<Held>, now: Timestamp) -> Turn {
        let held = &waiting.load;
        match self.route(name, &held.prompt(), &held.request(), held.whole_body, now) {
            None => Turn::Refused(Reject::UnknownPool { pool: name.to_owned() }),
            Some(Err(none)) => Turn::Refused(none.into()),
            Some(Ok(routed)) => Turn::Go(Box::new(routed)),
        }
    }

    fn pump_pool(&mut self, name: &str, control: &Arc<FlowControl>, now: Timestamp) {
        let Some(flow) = self.flows.pools.get_mut(name) else { return };
        flow.queue.align(control);
        for waiting in flow.queue.expired(now) {
            let reject = if waiting.load.aim.why == Closed::NoEndpoint {
                Reject::NoEndpoint { reason: crate::api::NoEndpointReason::WaitExpired }
            } else {
                Reject::QueueExpired { retry_after: self.retry_after(name, waiting.load.request.seed, now) }
            };
            self.flows.turns.put(waiting.ticket, Turn::Refused(reject));
        }
        let mut tried = Vec::new();
        while let Some(top) = self.queue(name).and_then(Queue::highest) {
            let owed = self.queue(name).and_then(|queue| queue.owed(top, &tried));
            let limit = control.bands.get(top).map_or(1.0, |band| band.limit);
            let (band, limit) = owed.map_or((top, limit), |band| (band, 1.0));
            if !self.serve_one(name, control, (band, limit), now) {
                if owed.is_none() {
                    return;
                }
                tried.push(band);
            }
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
        for nth in 0..=control.skip {
            let Some(waiting) = self.queue(name).and_then(|queue| queue.nth(band, nth, control, now)) else {
                return false;
            };
            let (ticket, arrived) = (waiting.ticket, waiting.arrived);
            if self.still_closed(name, control, &waiting.load, limit, now) {
                continue;
            }
            let held = &waiting.load;
            let offer = held.offer(name);
            match self.attempt(&offer, control, (limit, band), arrived, now) {
                Tried::Closed(aim) => {
                    if let Some(flow) = self.flows.pools.get_mut(name) {
                        flow.queue.change(ticket, |held| held.aim = aim);
                    }
                }
                Tried::Late => {
                    let reject = self.too_late(name, held.request.seed, now);
                    let turn = Turn::Refused(reject);
                    self.leave(name, ticket);
                    self.flows.turns.put(ticket, turn);
                    return true;
                }
                Tried::Go(decision) => {
                    let Some(waiting) = self.leave(name, ticket) else { return true };
                    let (claim, held) = (waiting.claim, waiting.load);
                    let offer = held.offer(name);
                    let routed = self.dispatch((name, control), &offer, (claim, Some(arrived)), *decision, now);
                    let turn = routed.map_or_else(
                        || Turn::Refused(Reject::UnknownPool { pool: name.to_owned() }),
                        |routed| Turn::Go(Box::new(routed)),
                    );
                    self.flows.turns.put(ticket, turn);
                    return true;
                }
            }
        }
        false
    }

    /// Nothing has changed for it: the decision is fresh, and its endpoint is still closed by the books alone.
    fn still_closed(&self, name: &str, control: &FlowControl, held: &Held, limit: f64, now: Timestamp) -> bool {
        if now.since(held.aim.decided) >= DECISION_STANDS {
            return false;
        }
        match (control.hold, held.aim.endpoint) {
            (Hold::Prediction { token_budget, tpot }, Some(endpoint)) => {
                let Some(supply) = self.books(name, endpoint, now) else { return false };
                let gate = Gate { token_budget, tpot, limit, mirrored: self.mirrored(name, endpoint, now) };
                let rates = self.live(name).map(|live| live.rates).unwrap_or_default();
                gate::closed(&gate, &held.request.demand, (&supply, held.aim.uncached), &rates).is_some()
            }
            (Hold::Utilization { .. } | Hold::Concurrency { .. }, _) | (_, None) => true,
        }
    }

    fn attempt(
        &self,
        offer: &Offer<'_>,
        control: &FlowControl,
        (limit, band): (f64, usize),
        arrived: Timestamp,
        now: Timestamp,
    ) -> Tried {
        let closed = |why, endpoint, uncached| Tried::Closed(Aim { endpoint, uncached, why, decided: now });
        let decision = match self.decide(offer.pool, &offer.prompt, &offer.request, now) {
            Some(Ok(decision)) => decision,
            Some(Err(_)) | None => return closed(Closed::NoEndpoint, None, 0.0),
        };
        let Some(first) = decision.choices().next() else { return closed(Closed::NoEndpoint, None, 0.0) };
        if let Some(why) = self.closed(offer, control, (limit, now), first, &decision) {
            return closed(why, Some(first.id), first.uncached_tokens);
        }
        let demand = &offer.request.demand;
        let rates = self.live(offer.pool).map(|live| live.rates).unwrap_or_default();
        let uncached = first.uncached_tokens;
        let own = first.supply.slowness
            * (rates.t0 + uncached * (rates.x + rates.y * (demand.prompt_tokens - uncached / 2.0)));
        let expected = now.since(arrived).as_secs_f64() + first.terms.own_ttft;
        let deadline = control.bands.get(band).is_some_and(|band| band.deadline);
        if deadline && expected > gate::patience(demand, own) {
            return Tried::Late;
        }
        Tried::Go(Box::new(decision))
    }

    fn closed(
        &self,
        offer: &Offer<'_>,
        control: &FlowControl,
        (limit, now): (f64, Timestamp),
        first: &Candidate,
        decision: &Decision,
    ) -> Option<Closed> {
        let saturated = |saturation: f64| (saturation >= limit).then_some(Closed::Saturated);
        match control.hold {
            Hold::Prediction { token_budget, tpot } => {
                let gate = Gate { token_budget, tpot, limit, mirrored: self.mirrored(offer.pool, first.id, now) };
                let rates = self.live(offer.pool).map(|live| live.rates).unwrap_or_default();
                gate::closed(&gate, &offer.request.demand, (&first.supply, first.uncached_tokens), &rates)
            }
            Hold::Utilization { queue_depth, kv_share } => saturated(utilization(decision, queue_depth, kv_share)),
            Hold::Concurrency { requests, tokens } => saturated(concurrency(decision, requests, tokens)),
        }
    }

    /// Books what was decided and charges it.
    fn dispatch(
        &mut self,
        (name, control): (&str, &Arc<FlowControl>),
        offer: &Offer<'_>,
        (claim, waited_since): (Claim, Option<Timestamp>),
        decision: Decision,
        now: Timestamp,
    ) -> Option<Routed> {
        let mut routed = self.book(name, &offer.prompt, &offer.request, offer.whole_body, (decision, now))?;
        let rates = self.live(name).map(|live| live.rates).unwrap_or_default();
        let demand = &offer.request.demand;
        let uncached = routed.decision.choices().next().map_or(0.0, |first| first.uncached_tokens);
        let cost = gate::pod_seconds(demand.prompt_tokens, uncached, demand.output_tokens, &rates);
        let flow = self.flows.pools.entry(name.to_owned()).or_default();
        flow.queue.align(control);
        flow.queue.charge(&claim, cost, control, now);
        flow.drain.left(now);
        if let Some(&first) = routed.choices.first() {
            let sent = flow.sent.entry(first).or_default();
            let context = routed.decision.choices().next().map_or(0, |_| routed.context_tokens);
            let more = Work { waiting: 1, decoding: 0, queued_tokens: routed.uncached_tokens, context_tokens: context };
            *sent = sent.plus(more);
        }
        routed.charged = Some(Charged { claim, cost, waited: waited_since.map(|since| now.since(since)) });
        Some(routed)
    }

    /// What the others are taken to have sent to `endpoint` since the control plane last spoke. When it has been silent for so
    /// long that what it told of their work fades, they are taken to have there what this process has.
    fn mirrored(&self, name: &str, endpoint: EndpointId, now: Timestamp) -> Work {
        let gateways = self.live(name).map_or(1, |live| live.gateways);
        let others = gateways.saturating_sub(1);
        let sent = self.flows.pools.get(name).and_then(|flow| flow.sent.get(&endpoint)).copied().unwrap_or_default();
        let sent = sent.times(others.saturating_mul(self.workers.max(1)));
        let weight = self.weight_of_others(name, now);
        if weight >= 1.0 {
            return sent;
        }
        let alike = self.in_process(name, endpoint).times(others);
        sent.scaled(weight).plus(alike.scaled(1.0 - weight))
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
    pub fn abandon(&mut self, name: &str, ticket: Ticket) {
        self.leave(name, ticket);
        if let Some(Turn::Go(routed)) = self.flows.turns.take(ticket) {
            self.ledger.release(routed.ticket);
        }
    }

    /// Requests of the pool called `name` that wait in this worker.
    #[must_use]
    pub fn waiting(&self, name: &str) -> usize {
        self.queue(name).map_or(0, Queue::len)
    }

    fn leave(&mut self, name: &str, ticket: Ticket) -> Option<Waiting<Held>> {
        self.flows.pools.get_mut(name)?.queue.take(ticket)
    }

    fn too_late(&self, name: &str, seed: u64, now: Timestamp) -> Reject {
        Reject::Saturated { retry_after: self.retry_after(name, seed, now) }
    }

    /// Twice the time that those who wait take to leave, within bounds, and up to half more so that they do not all come
    /// back at once.
    fn retry_after(&self, name: &str, seed: u64, now: Timestamp) -> Duration {
        let Some(flow) = self.flows.pools.get(name) else { return Duration::from_secs_f64(RETRY.0) };
        let waiting = u32::try_from(flow.queue.len()).unwrap_or(u32::MAX);
        let rate = flow.drain.per_second(now).max(1e-3);
        let seconds = (2.0 * f64::from(waiting) / rate).clamp(RETRY.0, RETRY.1);
        Duration::try_from_secs_f64(seconds * (1.0 + Draw::from_seed(!seed).unit() / 2.0)).unwrap_or(Duration::MAX)
    }
}

impl Held {
    fn prompt(&self) -> Prompt<'_> {
        let Self { chain, bytes, tokens, rendered, .. } = self;
        Prompt { chain, bytes: *bytes, tokens: *tokens, rendered: *rendered }
    }

    fn request(&self) -> Request<'_> {
        Request { subset: self.subset.as_ref(), ..self.request }
    }

    fn offer<'a>(&'a self, pool: &'a str) -> Offer<'a> {
        Offer {
            pool,
            prompt: self.prompt(),
            request: self.request(),
            whole_body: self.whole_body,
            body_bytes: 0,
            priority: 0,
            tenant: "",
            has_deadline: false,
        }
    }
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
}

impl From<NoCandidate> for Reject {
    fn from(none: NoCandidate) -> Self {
        crate::lifecycle::refusal(&none)
    }
}

/// llm-d's utilization detector, over the candidates; one without a fresh scrape counts by what is booked.
fn utilization(decision: &Decision, queue_depth: f64, kv_share: f64) -> f64 {
    let of = |candidate: &Candidate| {
        let scraped = candidate.scraped;
        let waiting = scraped.map_or(candidate.supply.work.waiting, |scrape| scrape.waiting);
        (f64::from(waiting) / queue_depth).max(scraped.map_or(0.0, |scrape| scrape.kv_used) / kv_share)
    };
    let sum: f64 = decision.candidates.iter().map(of).sum();
    sum / count(decision)
}

/// llm-d's concurrency detector: in flight over the limits of all.
fn concurrency(decision: &Decision, requests: Option<f64>, tokens: Option<f64>) -> f64 {
    let works = || decision.candidates.iter().map(|candidate| candidate.supply.work);
    let in_flight: f64 = works().map(|work| f64::from(work.waiting) + f64::from(work.decoding)).sum();
    let queued: f64 = works().map(|work| to_f64(work.queued_tokens)).sum();
    let share = |sum: f64, limit: Option<f64>| limit.map_or(0.0, |limit| sum / (limit * count(decision)));
    share(in_flight, requests).max(share(queued, tokens))
}

fn count(decision: &Decision) -> f64 {
    f64::from(u32::try_from(decision.candidates.len()).unwrap_or(u32::MAX).max(1))
}

#[expect(clippy::cast_precision_loss, reason = "token counts stay far below 2^53")]
const fn to_f64(count: u64) -> f64 {
    count as f64
}
