//! How fast requests leave a queue, and from that, when a refused one should come back.

use core::time::Duration;

use crate::clock::Timestamp;
use crate::draw::Draw;

/// Bounds of the time after which a refused request should come back, seconds.
const RETRY: (f64, f64) = (5.0, 60.0);
/// Requests that left so long ago count for 1/e.
const SECONDS: f64 = 10.0;

/// Requests that left lately.
#[derive(Debug, Default)]
pub(super) struct Drain {
    count: f64,
    at: Timestamp,
}

impl Drain {
    pub(super) fn left(&mut self, now: Timestamp) {
        self.count = self.faded(now) + 1.0;
        self.at = now;
    }

    fn faded(&self, now: Timestamp) -> f64 {
        self.count * libm::exp(-now.since(self.at).as_secs_f64() / SECONDS)
    }

    /// Twice the time that `waiting` requests take to leave, within bounds, and up to half more by `seed`, so that those who
    /// are refused together do not come back together.
    pub(super) fn retry_after(&self, waiting: usize, seed: u64, now: Timestamp) -> Duration {
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let per_second = (self.faded(now) / SECONDS).max(1e-3);
        let seconds = (2.0 * f64::from(waiting) / per_second).clamp(RETRY.0, RETRY.1);
        Duration::try_from_secs_f64(seconds * (1.0 + Draw::from_seed(!seed).unit() / 2.0)).unwrap_or(Duration::MAX)
    }
}
