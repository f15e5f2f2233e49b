//! The most that was booked on an endpoint at any moment of a short window. Reports lag behind routing and scrapes lag
//! behind engines: only what exceeds *every* booked total of the window is certainly somebody else's.

use std::collections::VecDeque;
use std::time::Duration;

use shared::clock::Timestamp;

use super::load::Load;

/// Totals over time, as change points; the last one before the kept span still tells what held at its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    points: VecDeque<(Timestamp, u64, u64)>,
}

impl History {
    /// From `at` on, `total` is booked. Times do not decrease. Forgets what ended more than `keep` before `at`.
    pub fn record(&mut self, at: Timestamp, total: Load, keep: Duration) {
        let (waiting, in_flight) = (total.waiting, total.in_flight());
        if self.points.back().is_some_and(|&(_, w, f)| (w, f) == (waiting, in_flight)) {
            return;
        }
        self.points.push_back((at, waiting, in_flight));
        while self.points.get(1).is_some_and(|&(next, ..)| at.since(next) > keep) {
            self.points.pop_front();
        }
    }

    /// Least P+D that held at any time of `from..=until`; zero when that reaches back before the first record.
    #[must_use]
    pub fn trough(&self, from: Timestamp, until: Timestamp) -> u64 {
        if self.points.front().is_none_or(|&(first, ..)| first > from) {
            return 0;
        }
        let ends = self.points.iter().skip(1).map(|&(at, ..)| Some(at)).chain([None]);
        let held = self
            .points
            .iter()
            .zip(ends)
            .filter(|&(&(start, ..), end)| start <= until && end.is_none_or(|end| end >= from));
        held.map(|(&(_, _, in_flight), _)| in_flight).min().unwrap_or(0)
    }

    /// Greatest (P, P+D) that held at any time of `from..=until`; zero before the first record.
    #[must_use]
    pub fn peak(&self, from: Timestamp, until: Timestamp) -> (u64, u64) {
        let mut peak = (0, 0);
        let ends = self.points.iter().skip(1).map(|&(at, ..)| Some(at)).chain([None]);
        for (&(start, waiting, in_flight), end) in self.points.iter().zip(ends) {
            if start <= until && end.is_none_or(|end| end >= from) {
                peak = (peak.0.max(waiting), peak.1.max(in_flight));
            }
        }
        peak
    }
}
