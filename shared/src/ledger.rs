//! Work in flight per endpoint: what this VM booked at routing, what its siblings in the same Envoy process booked, and
//! which endpoints refused lately. A booking is made at routing, moves at the first token and goes at the end.
//!
//! An engine is one address, so work is kept per endpoint and not per pool: two pools may share an engine.

mod shared_vector;

use core::time::Duration;

use crate::clock::Timestamp;
use crate::identity::{EndpointId, HashedMap};
use crate::table::live::Work;

pub use shared_vector::{VectorError, VmVector};

/// First ejection of an endpoint that refused; doubles with every further refusal up to `LONGEST_EJECTION`.
const SHORTEST_EJECTION: Duration = Duration::from_millis(500);
const LONGEST_EJECTION: Duration = Duration::from_secs(30);

/// All bookings of one VM, and its view of the others.
#[derive(Debug, Default)]
pub struct Ledger {
    tallies: Vec<Tally>,
    numbers: HashedMap<EndpointId, u32>,
    bookings: Vec<Option<Booking>>,
    free: Vec<u32>,
    serial: u32,
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    id: EndpointId,
    own: Work,
    siblings: Work,
    refusals: u32,
    ejected_until: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Booking {
    serial: u32,
    tally: u32,
    stage: Stage,
    uncached: u64,
    context: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before the first token; taken as past at the time given, because whole-body responses do not show theirs.
    Waiting {
        until: Option<Timestamp>,
    },
    Decoding,
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
    /// When its prefill counts as done although no token was seen: for responses that come in one piece.
    pub prefilled_by: Option<Timestamp>,
}

impl Ledger {
    /// The tally number of `id`, stable for the life of the ledger.
    pub fn number(&mut self, id: EndpointId) -> u32 {
        if let Some(&number) = self.numbers.get(&id) {
            return number;
        }
        let number = u32::try_from(self.tallies.len()).unwrap_or(u32::MAX);
        let idle = Work::default();
        self.tallies.push(Tally { id, own: idle, siblings: idle, refusals: 0, ejected_until: None });
        self.numbers.insert(id, number);
        number
    }

    /// This VM's and its siblings' work under `number`.
    #[must_use]
    pub fn in_process(&self, number: u32) -> Work {
        self.tallies.get(number as usize).map_or_else(Work::default, |tally| tally.own.plus(tally.siblings))
    }

    /// Is the endpoint under `number` ejected at `now`?
    #[must_use]
    pub fn is_ejected(&self, number: u32, now: Timestamp) -> bool {
        self.tallies.get(number as usize).and_then(|tally| tally.ejected_until).is_some_and(|until| now < until)
    }

    /// Books a request on `id`.
    pub fn book(&mut self, id: EndpointId, load: Load) -> Ticket {
        let tally = self.number(id);
        self.serial = self.serial.wrapping_add(1);
        let booking = Booking {
            serial: self.serial,
            tally,
            stage: Stage::Waiting { until: load.prefilled_by },
            uncached: load.uncached_tokens,
            context: load.context_tokens,
        };
        self.count(&booking, Entry::Added);
        let index = self.free.pop().unwrap_or_else(|| {
            self.bookings.push(None);
            u32::try_from(self.bookings.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.bookings.get_mut(index as usize) {
            *place = Some(booking);
        }
        Ticket { index, serial: booking.serial }
    }

    /// The first token was seen: from waiting to decoding. Again is harmless.
    pub fn first_token(&mut self, ticket: &Ticket) {
        self.change(ticket, |booking| booking.stage = Stage::Decoding);
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
            self.free.push(ticket.index);
        }
    }

    /// Moves whole-body requests whose prefill is due by `now` on to decoding.
    pub fn pass_time(&mut self, now: Timestamp) {
        let due = |booking: &Booking| matches!(booking.stage, Stage::Waiting { until: Some(until) } if until <= now);
        for index in 0..self.bookings.len() {
            let Some(mut booking) = self.bookings.get(index).copied().flatten().filter(due) else { continue };
            self.count(&booking, Entry::Removed);
            booking.stage = Stage::Decoding;
            self.count(&booking, Entry::Added);
            if let Some(place) = self.bookings.get_mut(index) {
                *place = Some(booking);
            }
        }
    }

    /// `id` refused a request: it is ejected for a while, longer each time. Refusals while it is ejected count once with the
    /// first: an engine that dies fails all its requests at the same moment.
    pub fn refused(&mut self, id: EndpointId, now: Timestamp) {
        let number = self.number(id);
        let again = self.is_ejected(number, now);
        if let Some(tally) = self.tallies.get_mut(number as usize).filter(|_| !again) {
            let wait = SHORTEST_EJECTION.saturating_mul(1 << tally.refusals.min(6)).min(LONGEST_EJECTION);
            tally.refusals = tally.refusals.saturating_add(1);
            tally.ejected_until = Some(now.after(wait));
        }
    }

    /// `id` answered: its refusals are forgotten.
    pub fn answered(&mut self, id: EndpointId) {
        let number = self.number(id);
        if let Some(tally) = self.tallies.get_mut(number as usize) {
            tally.refusals = 0;
            tally.ejected_until = None;
        }
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
        if let Some(place) = self.bookings.get_mut(index) {
            *place = Some(after);
        }
    }

    fn count(&mut self, booking: &Booking, entry: Entry) {
        let Some(tally) = self.tallies.get_mut(booking.tally as usize) else { return };
        let (waiting, decoding, queued) = match booking.stage {
            Stage::Waiting { .. } => (1, 0, booking.uncached),
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
