//! How far predicted latencies were from those that gateways saw: relative errors, time to the first token and time per token
//! apart.

use std::collections::VecDeque;

use serde::Serialize;
use shared::wire::{Completion, FirstToken};

/// Upper ends of the histograms' buckets: |predicted - seen| / seen.
pub const BUCKETS: [f64; 8] = [0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0];
/// Latest predictions behind the median.
const RECENT: usize = 512;

/// Errors of one kind, totals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errors {
    /// By bucket; the last is beyond all of `BUCKETS`.
    pub counts: [u64; BUCKETS.len() + 1],
    /// Of all errors.
    pub sum: f64,
    recent: VecDeque<f64>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Foresight {
    ttft: Errors,
    tpot: Errors,
}

/// For people: the median relative error of the latest predictions, and the totals.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ForesightStatus {
    /// Of the time to the first token; absent before anything was predicted.
    pub ttft_median_error: Option<f64>,
    /// Of the time per token.
    pub tpot_median_error: Option<f64>,
    /// Both with their names in metrics.
    #[serde(skip)]
    pub kinds: [(&'static str, Counts); 2],
}

/// Totals of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// By bucket, as in `Errors`.
    pub buckets: [u64; BUCKETS.len() + 1],
    /// Of all errors.
    pub sum: f64,
}

impl Errors {
    fn observe(&mut self, predicted: f64, seen: f64) {
        let error = (predicted - seen).abs() / seen;
        if !error.is_finite() || predicted <= 0.0 || seen <= 0.0 {
            return;
        }
        let bucket = BUCKETS.iter().position(|&end| error <= end).unwrap_or(BUCKETS.len());
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += error;
        self.recent.push_back(error);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    fn median(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.recent.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    const fn totals(&self) -> Counts {
        Counts { buckets: self.counts, sum: self.sum }
    }
}

impl Foresight {
    /// A first token.
    pub fn first_token(&mut self, sample: &FirstToken) {
        self.ttft.observe(sample.predicted_ttft_seconds, sample.ttft_seconds);
    }

    /// A response that ended well.
    pub fn completion(&mut self, sample: &Completion) {
        self.tpot.observe(sample.predicted_tpot_seconds, sample.tpot_seconds);
    }

    /// As it stands.
    #[must_use]
    pub fn status(&self) -> ForesightStatus {
        ForesightStatus {
            ttft_median_error: self.ttft.median(),
            tpot_median_error: self.tpot.median(),
            kinds: [("ttft", self.ttft.totals()), ("tpot", self.tpot.totals())],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_to_what_was_seen_and_silence_is_no_error() {
        let mut foresight = Foresight::default();
        for (predicted, seen) in [(0.12, 0.1), (0.3, 0.1), (1.0, 0.1), (0.0, 0.1), (0.1, 0.0), (f64::NAN, 0.1)] {
            foresight.first_token(&FirstToken {
                predicted_ttft_seconds: predicted,
                ttft_seconds: seen,
                ..FirstToken::default()
            });
        }
        let told = foresight.status();
        let [(_, ttft), (_, tpot)] = told.kinds;
        assert_eq!(ttft.buckets, [0, 0, 1, 0, 0, 0, 1, 0, 1]);
        assert!((ttft.sum - (0.2 + 2.0 + 9.0)).abs() < 1e-9 && (told.ttft_median_error.unwrap() - 2.0).abs() < 1e-9);
        assert_eq!((tpot, told.tpot_median_error), (Counts::default(), None));
        foresight.completion(&Completion { predicted_tpot_seconds: 0.02, tpot_seconds: 0.02, ..Completion::default() });
        assert_eq!(foresight.status().kinds[1].1.buckets[0], 1);
    }
}
