//! The cap on live sessions: when the contexts of those that live fill the caches, new ones wait before everything else, in the
//! order in which they came. Later turns of a live session never wait here: a worker knows those that it has seen by their name,
//! and any other by its prompt, which the caches hold already. What a session is worth is its last context; a worker counts
//! the sessions it sees, against its share of the caches. (The flow study, sections 6 and 8.)

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::held::Held;
use super::{Charged, Trial, Turn};
use crate::api::Reject;
use crate::brain::Brain;
use crate::clock::Timestamp;
use crate::flow::{Ticket, Waiting};
use crate::table::EndpointState;
use crate::table::flow::{FlowControl, SessionCap};

/// A request of whose prompt the caches hold so much brings no new context: its session lives, whoever saw it so far. What
/// sessions share from their first turn on has to be less.
const HELD: f64 = 0.5;
/// Workers at most that know a session which wanders over many: those at which it had its turns in an idle time. An agent has
/// about three.
const WITNESSES: u32 = 3;

/// Of one pool.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    live: BTreeMap<String, Session>,
    /// Of all that live, as far as they count here, tokens.
    contexts: f64,
    /// Nobody's life ends before.
    earliest: Timestamp,
    door: VecDeque<Waiting<Held>>,
}

#[derive(Debug)]
struct Session {
    context: f64,
    /// How much of that counts here: others count a session that wanders, too.
    share: f64,
    in_flight: u32,
    until: Timestamp,
}

impl Sessions {
    pub(super) fn waiting(&self) -> usize {
        self.door.len()
    }

    /// Takes out a request that waits to begin.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waiting<Held>> {
        let place = self.door.iter().position(|waiting| waiting.ticket == ticket)?;
        self.door.remove(place)
    }

    pub(super) fn into_door(self) -> impl Iterator<Item = Waiting<Held>> {
        self.door.into_iter()
    }

    /// May it go on to where everybody waits?
    fn lets_in(&self, name: &str, capacity: Option<f64>) -> bool {
        if self.live.is_empty() || self.live.contains_key(name) {
            return true;
        }
        let mean = self.contexts / f64::from(u32::try_from(self.live.len()).unwrap_or(u32::MAX));
        capacity.is_none_or(|capacity| self.contexts + mean <= capacity)
    }

    /// It lives, with a context of at least `context`; `share` of it counts here, unless it is known.
    fn touch(&mut self, name: &str, (context, share): (f64, f64), (idle, now): (Duration, Timestamp)) {
        let until = now.after(idle);
        let begun = Session { context: 0.0, share, in_flight: 0, until };
        let session = self.live.entry(name.to_owned()).or_insert(begun);
        self.contexts += session.share * (context - session.context).max(0.0);
        session.context = session.context.max(context);
        session.until = session.until.max(until);
    }

    fn ended(&mut self, name: &str, context: Option<f64>, (idle, now): (Duration, Timestamp)) {
        let Some(session) = self.live.get_mut(name) else { return };
        session.in_flight = session.in_flight.saturating_sub(1);
        session.until = now.after(idle);
        if let Some(context) = context {
            self.contexts += session.share * (context - session.context);
            session.context = context;
        }
        self.earliest = self.earliest.min(session.until);
    }

    fn forget_idle(&mut self, now: Timestamp) {
        if now < self.earliest {
            return;
        }
        self.live.retain(|_, session| session.in_flight > 0 || session.until > now);
        self.contexts = self.live.values().map(|session| session.share * session.context).sum();
        let next = self.live.values().map(|session| session.until).filter(|&until| until > now).min();
        self.earliest = next.unwrap_or(now);
    }
}

impl Brain {
    /// Must the request wait because its session does not live yet? If not, the session lives from now on.
    pub(super) fn stops_at_the_door(&mut self, trial: &Trial<'_>, control: &FlowControl, now: Timestamp) -> bool {
        let (Some(cap), Some(session)) = (&control.sessions, trial.session) else { return false };
        let (own, capacity) = (context_of(trial), self.session_room(trial.pool, cap, now));
        let sessions = &mut self.flows.pools.entry(trial.pool.to_owned()).or_default().sessions;
        sessions.forget_idle(now);
        let first_in_line = sessions.door.is_empty() || sessions.live.contains_key(session);
        let lets_in = first_in_line && sessions.lets_in(session, capacity);
        let known = sessions.live.contains_key(session);
        let wanders = !known && self.brings_nothing_new(trial, now);
        if !lets_in && !wanders {
            return true;
        }
        let share = if wanders { 1.0 / f64::from(self.counters(trial.pool).min(WITNESSES)) } else { 1.0 };
        let sessions = &mut self.flows.pools.entry(trial.pool.to_owned()).or_default().sessions;
        sessions.touch(session, (own, share), (cap.idle, now));
        false
    }

    /// Does its session live, as far as is known here? Then it is late rather than refused.
    pub(super) fn lives(&self, trial: &Trial<'_>) -> bool {
        let sessions = self.flows.pools.get(trial.pool).map(|flow| &flow.sessions);
        trial.session.zip(sessions).is_some_and(|(name, sessions)| sessions.live.contains_key(name))
    }

    /// Is most of its prompt held somewhere?
    fn brings_nothing_new(&self, trial: &Trial<'_>, now: Timestamp) -> bool {
        self.held_tokens(trial.pool, &trial.prompt, now) >= HELD * trial.request.demand.prompt_tokens
    }

    /// Lets it wait there.
    pub(super) fn wait_at_the_door(&mut self, waiting: Waiting<Held>, name: &str) {
        self.flows.pools.entry(name.to_owned()).or_default().sessions.door.push_back(waiting);
    }

    /// Lets sessions begin as far as there is room, and refuses those that waited too long.
    pub(super) fn open_door(&mut self, name: &str, control: &Arc<FlowControl>, now: Timestamp) {
        let Some(cap) = &control.sessions else { return };
        let room = self.session_room(name, cap, now);
        loop {
            let Some(sessions) = self.flows.pools.get_mut(name).map(|flow| &mut flow.sessions) else { return };
            sessions.forget_idle(now);
            let Some(first) = self.flows.pools.get(name).and_then(|flow| flow.sessions.door.front()) else { return };
            let trial = first.load.trial(name);
            let (session, own) = (trial.session.unwrap_or_default().to_owned(), context_of(&trial));
            let expired = first.expires <= now;
            // The caches may have been told of its prompt only after it came.
            let goes = !expired && self.flows.pools.get(name).is_some_and(|flow| flow.sessions.lets_in(&session, room))
                || self.brings_nothing_new(&trial, now);
            if !goes && !expired {
                return;
            }
            let Some(flow) = self.flows.pools.get_mut(name) else { return };
            let Some(mut waiting) = flow.sessions.door.pop_front() else { return };
            let (ticket, seed) = (waiting.ticket, waiting.load.seed());
            if !goes {
                let retry_after = self.retry_after(name, seed, now);
                self.flows.turns.put(ticket, Turn::Refused(Reject::QueueExpired { retry_after }));
                continue;
            }
            flow.sessions.touch(&session, (own, 1.0), (cap.idle, now));
            let ttl = self.time_to_wait(&waiting.load.trial(name), control, waiting.claim.band);
            (waiting.arrived, waiting.expires) = (now, now.after(ttl));
            let Some(flow) = self.flows.pools.get_mut(name) else { return };
            flow.queue.align(control);
            if flow.queue.push(waiting, control).is_err() {
                let reject = self.saturated(name, seed, now);
                self.flows.turns.put(ticket, Turn::Refused(reject));
            }
        }
    }

    /// A request of its session was sent.
    pub(super) fn session_sent(&mut self, trial: &Trial<'_>, control: &FlowControl, now: Timestamp) -> Option<String> {
        let (cap, session) = (control.sessions.as_ref()?, trial.session?);
        let sessions = &mut self.flows.pools.entry(trial.pool.to_owned()).or_default().sessions;
        sessions.touch(session, (context_of(trial), 1.0), (cap.idle, now));
        sessions.live.get_mut(session)?.in_flight += 1;
        Some(session.to_owned())
    }

    /// A request of the pool called `name` that was charged is over; `context`: of its session, as far as it is known.
    pub(crate) fn session_ended(&mut self, name: &str, charged: &Charged, context: Option<f64>, now: Timestamp) {
        let Some(session) = &charged.session else { return };
        let control = self.pool(name).and_then(|pool| pool.settings.flow.clone());
        let idle = control.and_then(|control| control.sessions.as_ref().map(|cap| cap.idle)).unwrap_or_default();
        if let Some(flow) = self.flows.pools.get_mut(name) {
            flow.sessions.ended(session, context, (idle, now));
        }
    }

    /// Requests of sessions in flight.
    #[cfg(test)]
    pub(crate) fn session_requests(&self, name: &str) -> u32 {
        let sessions = self.flows.pools.get(name).map(|flow| &flow.sessions);
        sessions.map_or(0, |sessions| sessions.live.values().map(|session| session.in_flight).sum())
    }

    /// What live sessions of this worker may fill, tokens; `None`: no engine says what it holds.
    fn session_room(&self, name: &str, cap: &SessionCap, now: Timestamp) -> Option<f64> {
        let scraped = self.sights(name, now).filter(|(endpoint, ..)| endpoint.state != EndpointState::Draining);
        let all: u64 = scraped.filter_map(|(_, _, scraped)| scraped?.0.kv_capacity).sum();
        let counters = f64::from(self.counters(name));
        (all > 0).then(|| cap.capacity_share * super::attempt::to_f64(all) / counters)
    }

    /// Workers that count sessions.
    fn counters(&self, name: &str) -> u32 {
        let gateways = self.live(name).map_or(1, |live| live.gateways.max(1));
        gateways.saturating_mul(self.workers.max(1))
    }
}

/// Prompt and answer, tokens.
fn context_of(trial: &Trial<'_>) -> f64 {
    trial.request.demand.prompt_tokens + trial.request.demand.output_tokens
}
