//! Work in flight per endpoint: what this VM booked at routing, what its siblings in the same Envoy process booked, and how
//! its circuit stands. A booking is made at routing, moves at the first token and goes at the end.
//!
//! An engine is one address, so work is kept per endpoint and not per pool: two pools may share an engine.

mod shared_vector;

use core::time::Duration;
use std::collections::BTreeSet;

use crate::circuit::{Circuit, Failure, Standing, warming};
use crate::clock::Timestamp;
use crate::identity::{EndpointId, HashedMap};
use crate::table::live::Work;

pub use shared_vector::{VectorError, VmVector};

/// All bookings of one VM, and its view of the others.
#[derive(Debug, Default)]
pub struct Ledger {
    tallies: Vec<Tally>,
    numbers: HashedMap<EndpointId, u32>,
    bookings: Vec<Option<Booking>>,
    free: Vec<u32>,
    serial: u32,
    /// When which booking is due: one entry for each that waits for a time.
    due: BTreeSet<(Timestamp, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    id: EndpointId,
    own: Work,
    siblings: Work,
    circuit: Circuit,
    /// When it became new, healthy or closed again; `None`: it was there from the first.
    admitted: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Booking {
    serial: u32,
    tally: u32,
    stage: Stage,
    uncached: u64,
    context: u64,
    sent: Timestamp,
    due: Option<Due>,
    /// It tries an endpoint whose circuit is half open.
    probes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before the first token.
    Waiting,
    Decoding,
}

/// What is to happen to a booking whose first token was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Its prefill counts as done: responses that come in one piece do not show their first token.
    Prefilled(Timestamp),
    /// Its endpoint has stalled.
    Stalled(Timestamp),
}

impl Due {
    const fn at(self) -> Timestamp {
        match self {
            Self::Prefilled(at) | Self::Stalled(at) => at,
        }
    }
}

/// A booking that must be given back with `Ledger::release`.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    index: u32,
    serial: u32,
}

/// What a request books.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Tokens to prefill.
    pub uncached_tokens: u64,
    /// Prompt plus half of the expected output.
    pub context_tokens: u64,
    /// What happens at a time of its own.
    pub due: Option<Due>,
}

impl Ledger {
    /// The tally number of `id`, stable for the life of the ledger.
    pub fn number(&mut self, id: EndpointId) -> u32 {
        if let Some(&number) = self.numbers.get(&id) {
            return number;
        }
        let number = u32::try_from(self.tallies.len()).unwrap_or(u32::MAX);
        let idle = Work::default();
        self.tallies.push(Tally { id, own: idle, siblings: idle, circuit: Circuit::default(), admitted: None });
        self.numbers.insert(id, number);
        number
    }

    /// This VM's and its siblings' work under `number`.
    #[must_use]
    pub fn in_process(&self, number: u32) -> Work {
        self.tallies.get(number as usize).map_or_else(Work::default, |tally| tally.own.plus(tally.siblings))
    }

    /// How the circuit of the endpoint under `number` stands at `now`.
    #[must_use]
    pub fn standing(&self, number: u32, now: Timestamp) -> Standing {
        self.tallies.get(number as usize).map_or(Standing::Closed, |tally| tally.circuit.standing(now))
    }

    /// `id` takes requests from `now` on, as a new one or again.
    pub fn admit(&mut self, id: EndpointId, now: Timestamp) {
        self.with(id, |tally| tally.admitted = Some(now));
    }

    /// See [`warming`], for the endpoint under `number`.
    #[must_use]
    pub fn warming(&self, number: u32, window: Duration, now: Timestamp) -> f64 {
        let admitted = self.tallies.get(number as usize).and_then(|tally| tally.admitted);
        admitted.map_or(1.0, |admitted| warming(now.since(admitted), window))
    }

    /// Books a request on `id`, sent at `now`.
    pub fn book(&mut self, id: EndpointId, load: Load, now: Timestamp) -> Ticket {
        let tally = self.number(id);
        let probes = self.tallies.get_mut(tally as usize).is_some_and(|tally| tally.circuit.sent(now));
        self.serial = self.serial.wrapping_add(1);
        let booking = Booking {
            serial: self.serial,
            tally,
            stage: Stage::Waiting,
            uncached: load.uncached_tokens,
            context: load.context_tokens,
            sent: now,
            due: load.due,
            probes,
        };
        self.count(&booking, Entry::Added);
        let index = self.free.pop().unwrap_or_else(|| {
            self.bookings.push(None);
            u32::try_from(self.bookings.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.bookings.get_mut(index as usize) {
            *place = Some(booking);
        }
        self.due.extend(load.due.map(|due| (due.at(), index)));
        Ticket { index, serial: booking.serial }
    }

    /// The first token was seen: from waiting to decoding. Again is harmless.
    pub fn first_token(&mut self, ticket: &Ticket) {
        self.change(ticket, |booking| {
            booking.stage = Stage::Decoding;
            booking.due = None;
        });
    }

    /// Another endpoint served the request than the one that was booked.
    pub fn move_to(&mut self, ticket: &Ticket, id: EndpointId) {
        let tally = self.number(id);
        self.change(ticket, |booking| booking.tally = tally);
    }

    /// Gives a booking back.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is given back once")]
    pub fn release(&mut self, ticket: Ticket) {
        let Some(place) = self.bookings.get_mut(ticket.index as usize) else { return };
        if let Some(booking) = place.take_if(|booking| booking.serial == ticket.serial) {
            self.count(&booking, Entry::Removed);
            self.forget_due(&booking, ticket.index);
            self.withdraw(&booking);
            self.free.push(ticket.index);
        }
    }

    /// Does what is due by `now`; returns the requests that stalled: whose, and when they were sent.
    pub fn pass_time(&mut self, now: Timestamp) -> Vec<(EndpointId, Timestamp)> {
        let mut stalled = Vec::new();
        while let Some(&(at, index)) = self.due.first().filter(|&&(at, _)| at <= now) {
            self.due.remove(&(at, index));
            let place = self.bookings.get_mut(index as usize).and_then(Option::as_mut);
            let Some(booking) = place else { continue };
            let before = *booking;
            match booking.due.take() {
                Some(Due::Prefilled(_)) => booking.stage = Stage::Decoding,
                Some(Due::Stalled(_)) => {
                    let tally = self.tallies.get(booking.tally as usize);
                    stalled.extend(tally.map(|tally| (tally.id, before.sent)));
                }
                None => {}
            }
            let after = *booking;
            self.count(&before, Entry::Removed);
            self.count(&after, Entry::Added);
        }
        stalled
    }

    /// A request to `id`, sent at `sent`, failed. Returns the failures in a row when that opened its circuit.
    pub fn failed(&mut self, id: EndpointId, failure: Failure, sent: Timestamp, now: Timestamp) -> Option<u32> {
        self.with(id, |tally| tally.circuit.failed(failure, sent, now, id.0 ^ now.as_nanos())).flatten()
    }

    /// `id` served a request that was sent at `sent`. True when that closed its circuit.
    pub fn served(&mut self, id: EndpointId, sent: Timestamp, now: Timestamp) -> bool {
        let closed = self.with(id, |tally| tally.circuit.served(sent)) == Some(true);
        if closed {
            self.admit(id, now);
        }
        closed
    }

    /// Requests in flight from this VM.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.bookings.len() - self.free.len()
    }

    /// Every endpoint with work in this process.
    pub fn busy(&self) -> impl Iterator<Item = (EndpointId, Work)> {
        self.tallies.iter().map(|tally| (tally.id, tally.own.plus(tally.siblings))).filter(|(_, work)| !work.is_idle())
    }

    /// Times that are waited for, and bookings that wait for one.
    #[cfg(test)]
    pub(crate) fn due(&self) -> (usize, usize) {
        (self.due.len(), self.bookings.iter().flatten().filter(|booking| booking.due.is_some()).count())
    }

    fn change(&mut self, ticket: &Ticket, edit: impl FnOnce(&mut Booking)) {
        let index = ticket.index as usize;
        let Some(before) = self.bookings.get(index).copied().flatten() else { return };
        if before.serial != ticket.serial {
            return;
        }
        let mut after = before;
        edit(&mut after);
        self.count(&before, Entry::Removed);
        self.count(&after, Entry::Added);
        if after.due != before.due {
            self.forget_due(&before, ticket.index);
        }
        if after.tally != before.tally {
            self.withdraw(&before);
            after.probes = false;
        }
        if let Some(place) = self.bookings.get_mut(index) {
            *place = Some(after);
        }
    }

    fn with<R>(&mut self, id: EndpointId, work: impl FnOnce(&mut Tally) -> R) -> Option<R> {
        let number = self.number(id);
        self.tallies.get_mut(number as usize).map(work)
    }

    fn forget_due(&mut self, booking: &Booking, index: u32) {
        if let Some(due) = booking.due {
            self.due.remove(&(due.at(), index));
        }
    }

    /// The booking no longer tries its endpoint.
    fn withdraw(&mut self, booking: &Booking) {
        if let Some(tally) = self.tallies.get_mut(booking.tally as usize).filter(|_| booking.probes) {
            tally.circuit.withdrawn();
        }
    }

    fn count(&mut self, booking: &Booking, entry: Entry) {
        let Some(tally) = self.tallies.get_mut(booking.tally as usize) else { return };
        let (waiting, decoding, queued) = match booking.stage {
            Stage::Waiting => (1, 0, booking.uncached),
            Stage::Decoding => (0, 1, 0),
        };
        let delta = Work { waiting, decoding, queued_tokens: queued, context_tokens: booking.context };
        tally.own = match entry {
            Entry::Added => tally.own.plus(delta),
            Entry::Removed => tally.own.minus(delta),
        };
    }
}

enum Entry {
    Added,
    Removed,
}

#[cfg(test)]
mod tests;
