//! The time to the first token, fitted to what gateways saw: least squares of the relative error, discounted, anchored at a
//! prior, no coefficient below zero. A single sweep of coordinate descent a sample keeps up: the next sample starts from there.
//!
//! Relative, because times span three decades and a service level is missed by a factor, not by a millisecond.

use shared::wire::{FirstToken, FirstTokenModel};

/// base, tokens ahead, attention, context, overflow, reloaded.
const FIGURES: usize = 6;
type Row = [f64; FIGURES];

/// Figures are divided by these, which makes coefficients comparable.
const SCALE: Row = [1.0, 4e3, 8e6, 2e5, 0.1, 4e3];
/// Seconds per scaled figure of a 32B model on two H100; a batch and a full cache are not known to matter.
const PRIOR: Row = [0.03, 0.26, 0.016, 0.0, 0.0, 0.024];
/// Samples' worth of the prior, of a request that takes a second.
const ANCHOR: f64 = 10.0;
/// Weight that a sample keeps when the next one arrives: 500 samples count.
const KEEP: f64 = 0.998;
/// Times below this are as good as this.
const SHORTEST: f64 = 0.01;
/// Before so many samples nothing is said.
const ENOUGH: u32 = 50;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct FirstTokenFit {
    /// Sums of products of figures.
    gram: [Row; FIGURES],
    /// Sums of figures times seconds.
    moments: Row,
    coefficients: Row,
    samples: u32,
}

impl Default for FirstTokenFit {
    fn default() -> Self {
        Self { gram: [[0.0; FIGURES]; FIGURES], moments: [0.0; FIGURES], coefficients: PRIOR, samples: 0 }
    }
}

impl FirstTokenFit {
    /// `seconds` were seen, as if the endpoint were as fast as its fleet.
    pub fn observe(&mut self, sample: &FirstToken, seconds: f64) {
        let row = scaled(sample);
        if !row.iter().chain([&seconds]).all(|figure| figure.is_finite() && *figure >= 0.0) {
            return;
        }
        let weight = seconds.max(SHORTEST).powi(-2);
        for ((sums, moment), figure) in self.gram.iter_mut().zip(&mut self.moments).zip(row) {
            for (sum, other) in sums.iter_mut().zip(row) {
                *sum = *sum * KEEP + weight * figure * other;
            }
            *moment = *moment * KEEP + weight * figure * seconds;
        }
        self.samples = self.samples.saturating_add(1);
        self.descend();
    }

    fn descend(&mut self) {
        for (at, ((sums, moment), prior)) in self.gram.iter().zip(self.moments).zip(PRIOR).enumerate() {
            let explained: f64 = sums.iter().zip(self.coefficients).map(|(sum, coefficient)| sum * coefficient).sum();
            let (Some(own), Some(coefficient)) = (sums.get(at), self.coefficients.get_mut(at)) else { continue };
            let others = explained - own * *coefficient;
            *coefficient = ((moment + ANCHOR * prior - others) / (own + ANCHOR)).max(0.0);
        }
    }

    /// The fit; `None` until enough was seen.
    #[must_use]
    pub fn model(&self) -> Option<FirstTokenModel> {
        let mut per = self.coefficients;
        per.iter_mut().zip(SCALE).for_each(|(coefficient, scale)| *coefficient /= scale);
        let [base, tokens_ahead, attention, context, overflow, reloaded] = per;
        let model = FirstTokenModel { base, tokens_ahead, attention, context, overflow, reloaded };
        (self.samples >= ENOUGH).then_some(model)
    }
}

fn scaled(sample: &FirstToken) -> Row {
    let context = super::real(sample.context_tokens);
    let (ahead, reloaded) = (super::real(sample.tokens_ahead), super::real(sample.reloaded_tokens));
    let mut row = [1.0, ahead, sample.attention, context, sample.overflow, reloaded];
    row.iter_mut().zip(SCALE).for_each(|(figure, scale)| *figure /= scale);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A different workload than the prior's, with a little of everything.
    fn sample(number: u64) -> (FirstToken, f64) {
        let part = |salt: u64| u32::try_from((number * salt) % 1009).map(|part| f64::from(part) / 1009.0).unwrap();
        let (ahead, attention) = (8000.0 * part(7), 1e7 * part(11));
        let (context, overflow) = (3e5 * part(13), (part(17) - 0.9).max(0.0));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
        let whole = |value: f64| value as u64;
        let told = FirstToken {
            tokens_ahead: whole(ahead),
            attention,
            context_tokens: whole(context),
            overflow,
            ..FirstToken::default()
        };
        (told, 0.01 + 2e-5 * ahead + 1e-9 * attention + 1e-7 * context + 2.0 * overflow)
    }

    fn predicted(model: &FirstTokenModel, sample: &FirstToken) -> f64 {
        let row = [
            (model.tokens_ahead, super::super::real(sample.tokens_ahead)),
            (model.attention, sample.attention),
            (model.context, super::super::real(sample.context_tokens)),
            (model.overflow, sample.overflow),
        ];
        row.iter().map(|(per, figure)| per * figure).sum::<f64>() + model.base
    }

    fn median_error(fit: &FirstTokenFit, from: u64) -> f64 {
        let model = fit.model().unwrap();
        let error = |number| {
            let (told, seconds) = sample(number);
            (predicted(&model, &told) / seconds - 1.0).abs()
        };
        let mut errors: Vec<f64> = (from..from + 200).map(error).collect();
        errors.sort_by(f64::total_cmp);
        errors[100]
    }

    #[test]
    fn after_500_samples_half_the_predictions_are_within_a_twentieth() {
        let mut fit = FirstTokenFit::default();
        for number in 0..500 {
            let (told, seconds) = sample(number);
            fit.observe(&told, seconds);
        }
        let error = median_error(&fit, 500);
        assert!(error < 0.05, "{error} {:?}", fit.model());
    }

    #[test]
    fn engines_that_change_are_followed() {
        let mut fit = FirstTokenFit::default();
        for number in 0..3000 {
            let (told, seconds) = sample(number);
            fit.observe(&told, seconds * if number < 1000 { 5.0 } else { 1.0 });
        }
        let error = median_error(&fit, 3000);
        assert!(error < 0.05, "{error}");
    }

    #[test]
    fn nothing_is_negative_and_nothing_absurd_sticks() {
        let mut fit = FirstTokenFit::default();
        assert_eq!(fit.model(), None);
        for number in 0..200 {
            // The more context, the faster.
            let told = FirstToken { tokens_ahead: 100, context_tokens: number * 1000, ..FirstToken::default() };
            fit.observe(&told, 1.0 / (1.0 + super::super::real(number)));
            fit.observe(&FirstToken { attention: f64::NAN, ..told }, 1.0);
            fit.observe(&told, f64::INFINITY);
            fit.observe(&told, -1.0);
        }
        let FirstTokenModel { base, tokens_ahead, attention, context, overflow, reloaded } = fit.model().unwrap();
        for coefficient in [base, tokens_ahead, attention, context, overflow, reloaded] {
            assert!(coefficient.is_finite() && coefficient >= 0.0, "{fit:?}");
        }
    }
}
