//! What gateways predicted of prompts' cached tokens, against what the engines then said; exact and learned apart.
//!
//! A wrong route is not a wrong number: it is a prompt that went where the most was believed to be, found less there than
//! another pod was believed to hold, and could have been routed better.

use std::collections::VecDeque;

use serde::Serialize;
use shared::wire::Completion;

/// Upper ends of the histograms' buckets, tokens.
pub const BUCKETS: [u32; 8] = [0, 16, 64, 256, 1024, 4096, 16_384, 65_536];
/// Latest predictions behind mean and percentile.
const RECENT: usize = 512;

/// How a prediction was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// From what the engine's events told.
    Exact,
    /// From routes.
    Learned,
}

/// Errors in one direction. Predictions that erred in the other count as 0 here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// By bucket; the last is beyond all of `BUCKETS`.
    pub counts: [u64; BUCKETS.len() + 1],
    /// Tokens.
    pub sum: u64,
}

/// Of one mode, totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Predicted beyond cached.
    pub over: Errors,
    /// Cached beyond predicted.
    pub under: Errors,
    /// Predictions that were judged.
    pub predictions: u64,
    /// Of these, wrong routes.
    pub wrong_routes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Truth {
    exact: Judged,
    learned: Judged,
    recent: VecDeque<Error>,
}

/// Of one prediction, tokens.
#[derive(Clone, Copy, Debug)]
struct Error {
    over: u32,
    under: u32,
    wrong_route: bool,
}

/// For people: totals, and the latest predictions. Tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TruthStatus {
    /// Predictions that were judged, ever.
    pub judged: u64,
    /// Of these, wrong routes.
    pub wrong_routes: u64,
    /// The same by mode, with histograms.
    #[serde(skip)]
    pub modes: [(&'static str, Judged); 2],
    /// The latest.
    pub recent: RecentStatus,
}

/// The latest predictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RecentStatus {
    /// So many.
    pub judged: usize,
    /// Of these, wrong routes.
    pub wrong_routes: usize,
    /// Predicted beyond cached, on average ...
    pub over_mean: f64,
    /// ... and 99 % below or at.
    pub over_p99: u32,
    /// Cached beyond predicted, on average ...
    pub under_mean: f64,
    /// ... and 99 % below or at.
    pub under_p99: u32,
}

impl Errors {
    fn observe(&mut self, tokens: u32) {
        let bucket = BUCKETS.iter().position(|&end| tokens <= end).unwrap_or(BUCKETS.len());
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += u64::from(tokens);
    }
}

impl Truth {
    /// One response. What says nothing of the prediction is left out.
    pub fn observe(&mut self, completion: &Completion, mode: Mode, block_tokens: u32) {
        let Some(elsewhere) = completion.predicted_elsewhere_tokens else { return };
        let prompt = completion.prompt_tokens;
        if prompt == 0 || !completion.has_cached_tokens {
            return;
        }
        let (cached, elsewhere) = (completion.cached_tokens.min(prompt), elsewhere.min(prompt));
        let predicted = completion.predicted_cached_tokens.min(prompt);
        let wrong_route = predicted >= elsewhere && elsewhere > cached.saturating_add(block_tokens);
        let (over, under) = (predicted.saturating_sub(cached), cached.saturating_sub(predicted));
        let judged = match mode {
            Mode::Exact => &mut self.exact,
            Mode::Learned => &mut self.learned,
        };
        judged.over.observe(over);
        judged.under.observe(under);
        judged.predictions += 1;
        judged.wrong_routes += u64::from(wrong_route);
        self.recent.push_back(Error { over, under, wrong_route });
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// As it stands.
    #[must_use]
    pub fn status(&self) -> TruthStatus {
        let (over_mean, over_p99) = mean_and_p99(self.recent.iter().map(|error| error.over));
        let (under_mean, under_p99) = mean_and_p99(self.recent.iter().map(|error| error.under));
        let recent = RecentStatus {
            judged: self.recent.len(),
            wrong_routes: self.recent.iter().filter(|error| error.wrong_route).count(),
            over_mean,
            over_p99,
            under_mean,
            under_p99,
        };
        TruthStatus {
            judged: self.exact.predictions + self.learned.predictions,
            wrong_routes: self.exact.wrong_routes + self.learned.wrong_routes,
            modes: [("exact", self.exact), ("learned", self.learned)],
            recent,
        }
    }
}

fn mean_and_p99(tokens: impl Iterator<Item = u32>) -> (f64, u32) {
    let mut sorted: Vec<u32> = tokens.collect();
    sorted.sort_unstable();
    let count = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
    let mean = sorted.iter().copied().map(f64::from).sum::<f64>() / f64::from(count.max(1));
    let rank = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    (mean, sorted.get(rank).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(predicted: u32, elsewhere: u32, cached: u32) -> Completion {
        Completion {
            prompt_tokens: 1000,
            has_cached_tokens: true,
            cached_tokens: cached,
            predicted_cached_tokens: predicted,
            predicted_elsewhere_tokens: Some(elsewhere),
            ..Completion::default()
        }
    }

    fn observed(completions: &[Completion]) -> TruthStatus {
        let mut truth = Truth::default();
        completions.iter().for_each(|completion| truth.observe(completion, Mode::Exact, 16));
        truth.status()
    }

    #[test]
    fn a_route_is_wrong_when_somebody_else_was_believed_to_hold_a_block_more_than_was_found() {
        for (predicted, elsewhere, cached, wrong) in [
            (320, 320, 0, 1),
            (320, 320, 303, 1),
            (320, 320, 304, 0),
            // Chosen for other reasons than its prefix.
            (160, 320, 160, 0),
            (160, 320, 0, 0),
            (320, 0, 0, 0),
        ] {
            let told = observed(&[completion(predicted, elsewhere, cached)]);
            assert_eq!((told.wrong_routes, told.judged), (wrong, 1), "{predicted} {elsewhere} {cached}");
        }
    }

    #[test]
    fn errors_are_counted_by_size_in_both_directions() {
        let told = observed(&[completion(320, 0, 304), completion(0, 0, 5), completion(64, 0, 64)]);
        let [(_, exact), (_, learned)] = told.modes;
        assert_eq!(exact.over.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((exact.over.sum, exact.under.sum), (16, 5));
        assert_eq!(exact.under.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(learned, Judged::default());
        assert_eq!((told.recent.over_p99, told.recent.under_p99), (16, 5));
    }

    #[test]
    fn more_than_the_prompt_is_never_believed_and_silence_is_not_judged() {
        let told = observed(&[completion(5000, 5000, 1000)]);
        assert_eq!((told.modes[0].1.over.sum, told.wrong_routes), (0, 0));
        let silent = [
            Completion { predicted_elsewhere_tokens: None, ..completion(320, 0, 0) },
            Completion { has_cached_tokens: false, ..completion(320, 320, 0) },
            Completion { prompt_tokens: 0, ..completion(320, 320, 0) },
        ];
        assert_eq!(observed(&silent).judged, 0);
    }

    #[test]
    fn the_recent_ones_are_the_last_512() {
        let mut truth = Truth::default();
        for _ in 0..600 {
            truth.observe(&completion(900, 900, 0), Mode::Learned, 16);
        }
        for over in 0..512 {
            truth.observe(&completion(over, 0, 0), Mode::Learned, 16);
        }
        let told = truth.status();
        assert_eq!((told.recent.judged, told.recent.wrong_routes, told.recent.over_p99), (512, 0, 506));
        assert!((told.recent.over_mean - 255.5).abs() < 1e-9);
        assert_eq!((told.judged, told.wrong_routes), (1112, 600));
    }
}
