//! Whether our rendering of a model's prompts is believed: it is until the oracle finds that engines do not announce what
//! we render, and is tried again later, with longer and longer waits.
//!
//! What is doubted is the rendering of the whole pool: one engine in four that renders otherwise is enough.

use std::collections::VecDeque;
use std::time::Duration;

use shared::clock::Timestamp;

use super::oracle::Outcome;

/// Latest outcomes that count, and how many make a judgement.
const WINDOW: usize = 64;
const LEAST: usize = 16;
/// One in so many may be unconfirmed.
const TOLERATED: usize = 4;
/// First and longest time without rendering.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(7200));

/// See the module.
#[derive(Debug, Default)]
pub struct Doubt {
    /// `None`: confirmed; else where confirmation stopped.
    window: VecDeque<Option<u64>>,
    doubted: Option<Doubted>,
    /// The last wait; `None` when there was none, or when everything was well for long since.
    waited: Option<Duration>,
    confirmed: u64,
    unconfirmed: u64,
    times: u64,
}

/// Why it is not believed, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubted {
    /// Prompts that were not announced as rendered ...
    pub unconfirmed: usize,
    /// ... of so many.
    pub judged: usize,
    /// The first byte, over all of them, from which on they were not announced; a multiple of the chunk size.
    pub from_byte: u64,
    /// It is tried again at this time.
    pub until: Timestamp,
}

/// Totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Prompts that engines announced as rendered here.
    pub confirmed: u64,
    /// Prompts that they did not.
    pub unconfirmed: u64,
    /// Times that the rendering was given up.
    pub doubts: u64,
}

impl Doubt {
    /// One more sample was judged at `now`.
    pub fn observe(&mut self, outcome: Outcome, now: Timestamp) {
        if self.doubted.is_some() {
            return;
        }
        let stops = match outcome {
            Outcome::Confirmed => None,
            Outcome::Unconfirmed { from_byte } => Some(from_byte),
        };
        *(if stops.is_none() { &mut self.confirmed } else { &mut self.unconfirmed }) += 1;
        self.window.push_back(stops);
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
        let (judged, unconfirmed) = (self.window.len(), self.window.iter().flatten().count());
        let from_byte = self.window.iter().flatten().copied().min().unwrap_or(0);
        if judged >= LEAST && unconfirmed * TOLERATED > judged {
            let wait = self.waited.map_or(BACK_OFF.0, |last| (last * 2).min(BACK_OFF.1));
            self.waited = Some(wait);
            self.times += 1;
            self.window.clear();
            self.doubted = Some(Doubted { unconfirmed, judged, from_byte, until: now.after(wait) });
        } else if judged == WINDOW {
            self.waited = None;
        }
    }

    /// Tries again when it is time.
    pub fn tick(&mut self, now: Timestamp) {
        self.doubted = self.doubted.filter(|doubted| now < doubted.until);
    }

    /// The model is another one, or configured anew: it is believed at once.
    pub fn reset(&mut self) {
        (self.doubted, self.waited) = (None, None);
        self.window.clear();
    }

    /// `None`: it is believed.
    #[must_use]
    pub const fn doubted(&self) -> Option<&Doubted> {
        self.doubted.as_ref()
    }

    /// What happened so far.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        Tally { confirmed: self.confirmed, unconfirmed: self.unconfirmed, doubts: self.times }
    }
}

impl core::fmt::Display for Doubted {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "engines render prompts differently: {} of the last {} were not announced as rendered here, the earliest from \
             byte {} on; `kvasir render --compare` shows the difference",
            self.unconfirmed, self.judged, self.from_byte
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    const NO: Outcome = Outcome::Unconfirmed { from_byte: 256 };

    fn observe(doubt: &mut Doubt, outcome: Outcome, times: usize, now: Timestamp) {
        for _ in 0..times {
            doubt.observe(outcome, now);
        }
    }

    #[test]
    fn sixteen_samples_are_needed_and_a_quarter_is_tolerated() {
        let mut doubt = Doubt::default();
        observe(&mut doubt, NO, 15, at(0));
        assert_eq!(doubt.doubted(), None);
        doubt.observe(Outcome::Unconfirmed { from_byte: 128 }, at(1));
        let found = *doubt.doubted().unwrap();
        assert_eq!((found.unconfirmed, found.judged, found.from_byte, found.until), (16, 16, 128, at(601)));

        let mut doubt = Doubt::default();
        for _ in 0..100 {
            observe(&mut doubt, Outcome::Confirmed, 3, at(0));
            observe(&mut doubt, NO, 1, at(0));
        }
        assert_eq!(doubt.doubted(), None);
        observe(&mut doubt, NO, 1, at(0));
        assert_eq!(doubt.doubted().map(|found| (found.unconfirmed, found.judged)), Some((17, 64)));
        assert_eq!(doubt.tally(), Tally { confirmed: 300, unconfirmed: 101, doubts: 1 });
    }

    #[test]
    fn it_is_tried_again_after_waits_that_double_up_to_two_hours() {
        let (mut doubt, mut now) = (Doubt::default(), at(0));
        for wait in [600, 1200, 2400, 4800, 7200, 7200] {
            observe(&mut doubt, NO, 16, now);
            let until = now.after(Duration::from_secs(wait));
            doubt.tick(until);
            assert_eq!(doubt.doubted(), None, "{wait}");
            observe(&mut doubt, NO, 15, until);
            assert_eq!(doubt.doubted(), None, "the old window is forgotten");
            now = until;
        }
    }

    #[test]
    fn while_it_is_doubted_nothing_is_judged() {
        let mut doubt = Doubt::default();
        observe(&mut doubt, NO, 16, at(0));
        observe(&mut doubt, Outcome::Confirmed, 64, at(1));
        doubt.tick(at(599));
        assert!(doubt.doubted().is_some());
    }

    #[test]
    fn a_good_window_or_another_model_shortens_the_wait_again() {
        for (good, wait) in [(20, 1200), (64, 600)] {
            let mut doubt = Doubt::default();
            observe(&mut doubt, NO, 16, at(0));
            doubt.tick(at(600));
            observe(&mut doubt, Outcome::Confirmed, good, at(600));
            observe(&mut doubt, NO, 64, at(600));
            assert_eq!(doubt.doubted().map(|found| found.until), Some(at(600 + wait)), "{good}");
        }
        let mut doubt = Doubt::default();
        observe(&mut doubt, NO, 16, at(0));
        doubt.reset();
        assert_eq!(doubt.doubted(), None);
        observe(&mut doubt, NO, 16, at(5));
        assert_eq!(doubt.doubted().map(|found| found.until), Some(at(605)));
    }
}
