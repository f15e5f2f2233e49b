//! A request that was read: it goes, it waits for its turn or for its session's, or it is refused.

use core::time::Duration;
use std::sync::Arc;

use super::attempt::Tried;
use super::held::{Aim, Held};
use super::{LONGEST_WAIT, Offer, Offered, Trial};
use crate::api::{NoEndpointReason, Reject};
use crate::brain::Brain;
use crate::clock::Timestamp;
use crate::flow::gate::{self, Closed};
use crate::flow::{Claim, Queue, Ticket, Waiting};
use crate::table::flow::FlowControl;

impl Brain {
    /// Routes a request or lets it wait, as the pool's flow control has it.
    pub fn offer(&mut self, offer: &Offer<'_>, now: Timestamp) -> Offered {
        let trial = &offer.trial;
        let Some(pool) = self.pool(trial.pool) else { return Offered::NoPool };
        let control = pool.settings.flow.clone().filter(|_| offer.may_wait);
        if offer.may_wait && self.sheds(trial, now) {
            return Offered::Refused(self.saturated(trial.pool, trial.request.seed, now));
        }
        let Some(control) = control else { return self.send(trial, now) };
        let band = control.band_of(trial.standing.priority);
        let limit = self.limit_of(trial.pool, &control, band, now);
        if self.queueless {
            return self.send_or_shed(trial, &control, (limit, band), now);
        }
        self.follow_regime(trial.pool, &control, now);
        let claim = Claim { band, tenant: offer.tenant.to_owned() };
        if self.stops_at_the_door(trial, &control, now) {
            return self.wait_for_its_session(offer, &control, claim, now);
        }
        let ahead = self.queue(trial.pool).and_then(Queue::highest);
        if ahead.is_some_and(|highest| highest <= band) {
            return self.wait(offer, &control, (claim, None), now);
        }
        match self.attempt(trial, &control, (limit, band), now, now) {
            Tried::Go(decision) => {
                let routed = self.dispatch(trial, &control, (claim, None), *decision, now);
                routed.map_or(Offered::NoPool, |routed| Offered::Routed(Box::new(routed)))
            }
            Tried::Refused => Offered::Refused(self.saturated(trial.pool, trial.request.seed, now)),
            Tried::Closed(aim) => self.wait(offer, &control, (claim, Some(aim)), now),
        }
    }

    /// Nobody can wait here: what is sheddable and would have to is refused.
    fn send_or_shed(
        &mut self,
        trial: &Trial<'_>,
        control: &FlowControl,
        (limit, band): (f64, usize),
        now: Timestamp,
    ) -> Offered {
        if trial.standing.is_sheddable() {
            match self.attempt(trial, control, (limit, band), now, now) {
                Tried::Closed(Aim { why: Closed::NoEndpoint, .. }) | Tried::Go(_) => {}
                Tried::Refused | Tried::Closed(_) => {
                    return Offered::Refused(self.saturated(trial.pool, trial.request.seed, now));
                }
            }
        }
        self.send(trial, now)
    }

    /// Without flow control.
    pub(super) fn send(&mut self, trial: &Trial<'_>, now: Timestamp) -> Offered {
        let name = trial.pool;
        let decision = match self.decide(name, &trial.prompt, &trial.request, now) {
            None => return Offered::NoPool,
            Some(Err(none)) => return Offered::Refused((&none).into()),
            Some(Ok(decision)) => decision,
        };
        if self.denies(trial, &decision, now) {
            return Offered::Refused(self.saturated(name, trial.request.seed, now));
        }
        let routed = self.book(name, &trial.prompt, &trial.request, trial.whole_body, (decision, now));
        routed.map_or(Offered::NoPool, |routed| Offered::Routed(Box::new(routed)))
    }

    fn wait(
        &mut self,
        offer: &Offer<'_>,
        control: &Arc<FlowControl>,
        (claim, aim): (Claim, Option<Aim>),
        now: Timestamp,
    ) -> Offered {
        let trial = &offer.trial;
        let ttl = self.time_to_wait(trial, control, claim.band);
        let waiting = self.place(offer, (claim, aim), ttl, now);
        let ticket = waiting.ticket;
        let flow = self.flows.pools.entry(trial.pool.to_owned()).or_default();
        flow.queue.align(control);
        match flow.queue.push(waiting, control) {
            Ok(()) => Offered::Waits(ticket),
            Err(_) if flow.empty => Offered::Refused(Reject::NoEndpoint { reason: NoEndpointReason::EmptyPool }),
            Err(_) => Offered::Refused(self.saturated(trial.pool, trial.request.seed, now)),
        }
    }

    fn wait_for_its_session(
        &mut self,
        offer: &Offer<'_>,
        control: &FlowControl,
        claim: Claim,
        now: Timestamp,
    ) -> Offered {
        let ttl = control.sessions.as_ref().map(|cap| cap.ttl).unwrap_or_default();
        let full = control.limits.requests.is_some_and(|most| self.waiting(offer.trial.pool) >= most);
        if full {
            return Offered::Refused(self.saturated(offer.trial.pool, offer.trial.request.seed, now));
        }
        let waiting = self.place(offer, (claim, None), ttl, now);
        let ticket = waiting.ticket;
        self.wait_at_the_door(waiting, offer.trial.pool);
        Offered::Waits(ticket)
    }

    /// The next place in a queue.
    fn place(
        &mut self,
        offer: &Offer<'_>,
        (claim, aim): (Claim, Option<Aim>),
        ttl: Duration,
        now: Timestamp,
    ) -> Waiting<Held> {
        let trial = &offer.trial;
        let own_deadline = Duration::try_from_secs_f64(trial.request.demand.slo_ttft).ok();
        self.flows.tickets += 1;
        Waiting {
            ticket: Ticket(self.flows.tickets),
            claim,
            arrived: now,
            expires: now.after(ttl),
            deadline: own_deadline.filter(|_| offer.has_deadline).map(|wait| now.after(wait)),
            bytes: offer.body_bytes,
            load: Held::new(trial, aim),
        }
    }

    pub(super) fn time_to_wait(&self, trial: &Trial<'_>, control: &FlowControl, band: usize) -> Duration {
        let empty = self.flows.pools.get(trial.pool).is_some_and(|flow| flow.empty);
        if let Some(ttl) = control.no_endpoint_ttl.filter(|_| empty) {
            return ttl;
        }
        let Some(band) = control.bands.get(band) else { return Duration::ZERO };
        if let Some(cap) = control.sessions.as_ref().filter(|_| self.lives(trial)) {
            return band.ttl.max(cap.ttl);
        }
        if !band.deadline {
            return band.ttl;
        }
        let rates = self.live(trial.pool).map(|live| live.rates).unwrap_or_default();
        let demand = &trial.request.demand;
        // A prompt whose prefill alone takes longer may wait longer.
        let own = demand.prompt_tokens * (rates.x + rates.y * demand.prompt_tokens / 2.0);
        let patience = Duration::try_from_secs_f64(gate::patience(demand, own)).unwrap_or(LONGEST_WAIT);
        band.ttl.max(patience.min(LONGEST_WAIT))
    }
}
