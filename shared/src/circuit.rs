//! An endpoint's circuit, as one worker knows it: closed while the endpoint answers, open for a while once it failed, then
//! half open: one request may try. Success closes it, failure opens it for longer.
//!
//! What was sent before the circuit opened says nothing afterwards: an engine that dies fails all its requests at the same
//! moment, and one that answers old requests need not take new ones.

use core::time::Duration;

use crate::clock::Timestamp;
use crate::draw::Draw;

/// First opening; doubles with each further one up to `LONGEST_OPENING`. Each is up to a quarter shorter, by chance: workers
/// that met the same failure must not all try again at once.
pub const SHORTEST_OPENING: Duration = Duration::from_secs(1);
/// See `SHORTEST_OPENING`.
pub const LONGEST_OPENING: Duration = Duration::from_secs(30);
/// A request that tries and hears nothing for so long holds up nobody else who would try.
pub const PROBE_TURN: Duration = Duration::from_secs(5);
/// Failures in a row that open the circuit: one bad answer may be the request's fault.
pub const LIMIT: u32 = 3;
/// How much slower than it is an endpoint counts at the beginning of its slow start.
pub const COLD_SLOWNESS: f64 = 4.0;

/// How an endpoint failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection, or cut before the first byte; it is gone or going. Opens at once.
    Refused,
    /// It answered that it is broken (5xx).
    Broken,
    /// The first token did not come in time.
    Stalled,
}

/// What choosing must know of a circuit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Requests go there.
    #[default]
    Closed,
    /// Closed here, open at another gateway: it is for the others to try.
    Failing,
    /// Requests go there only when there is nothing better.
    Open,
    /// The next request may try.
    HalfOpen,
    /// A request tries; others go there only when there is nothing better.
    Probed,
}

impl Standing {
    /// The name in explanations; `None` for a closed one.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Closed => None,
            Self::Failing => Some("failing"),
            Self::Open => Some("open"),
            Self::HalfOpen | Self::Probed => Some("half-open"),
        }
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Circuit {
    /// In a row.
    failures: u32,
    /// In a row.
    openings: u32,
    opening: Option<Opening>,
    /// When it last opened: what was sent earlier no longer counts.
    opened: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Opening {
    until: Timestamp,
    /// When the request that tries was sent.
    probe: Option<Timestamp>,
}

impl Circuit {
    /// Where it stands at `now`.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        match self.opening {
            None => Standing::Closed,
            Some(opening) if now < opening.until => Standing::Open,
            Some(opening) if opening.is_probed(now) => Standing::Probed,
            Some(_) => Standing::HalfOpen,
        }
    }

    /// A request goes there. True when it is the one that tries: `withdrawn` tells its end.
    pub fn sent(&mut self, now: Timestamp) -> bool {
        match &mut self.opening {
            Some(opening) if now >= opening.until && !opening.is_probed(now) => {
                opening.probe = Some(now);
                true
            }
            Some(_) | None => false,
        }
    }

    /// The request that tried is over, whatever came of it.
    pub const fn withdrawn(&mut self) {
        if let Some(opening) = &mut self.opening {
            opening.probe = None;
        }
    }

    /// A request sent at `sent` failed. Returns the failures in a row when that opened the circuit; `seed` decides for how
    /// long.
    pub fn failed(&mut self, failure: Failure, sent: Timestamp, now: Timestamp, seed: u64) -> Option<u32> {
        if sent < self.opened || self.opening.is_some_and(|opening| now < opening.until) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        if self.opening.is_none() && failure != Failure::Refused && self.failures < LIMIT {
            return None;
        }
        let longest = SHORTEST_OPENING.saturating_mul(1 << self.openings.min(5)).min(LONGEST_OPENING);
        let wait = longest.mul_f64(1.0 - Draw::from_seed(seed).unit() / 4.0);
        self.openings = self.openings.saturating_add(1);
        self.opening = Some(Opening { until: now.after(wait), probe: None });
        self.opened = now;
        Some(self.failures)
    }

    /// A request sent at `sent` was served. True when that closed the circuit.
    pub fn served(&mut self, sent: Timestamp) -> bool {
        if sent < self.opened {
            return false;
        }
        let before = core::mem::replace(self, Self { opened: self.opened, ..Self::default() });
        before.opening.is_some()
    }
}

impl Opening {
    fn is_probed(&self, now: Timestamp) -> bool {
        self.probe.is_some_and(|since| now.since(since) < PROBE_TURN)
    }
}

/// What an endpoint's slowness is multiplied with, `age` after it was admitted: `COLD_SLOWNESS` at first, falling in a
/// straight line to 1 at the end of `window`. Its cost in seconds is so many times higher, and its share of requests lower.
#[must_use]
pub fn warming(age: Duration, window: Duration) -> f64 {
    if age >= window {
        return 1.0;
    }
    COLD_SLOWNESS + (1.0 - COLD_SLOWNESS) * (age.as_secs_f64() / window.as_secs_f64())
}

#[cfg(test)]
mod tests;
