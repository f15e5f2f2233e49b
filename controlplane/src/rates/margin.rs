//! By how much the time per token exceeds its prediction in the slowest twentieth of responses: what flow control keeps
//! free. A stochastic quantile (Robbins and Monro, 1951): a response above the margin pushes it up, one below lets it
//! sink, so that in the long run the share above is the target. Constants: the flow study, section 8.

/// Share of responses that may exceed the margin.
const TARGET: f64 = 0.05;
const STEP: f64 = 0.02;
const START: f64 = 1.15;
const BOUNDS: (f64, f64) = (1.0, 1.4);
/// Before so many responses nothing is said of it.
const ENOUGH: u32 = 200;
/// Predictions below this, and answers shorter than this, say little of how busy an engine was.
const LEAST_SECONDS: f64 = 0.03;
const LEAST_TOKENS: u32 = 16;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margin {
    value: f64,
    samples: u32,
}

impl Default for Margin {
    fn default() -> Self {
        Self { value: START, samples: 0 }
    }
}

impl Margin {
    /// A response of `tokens` took `observed` seconds a token where `predicted` were expected.
    pub fn observe(&mut self, observed: f64, predicted: f64, tokens: u32) {
        if predicted.is_nan() || predicted <= LEAST_SECONDS || tokens < LEAST_TOKENS {
            return;
        }
        let above = if observed / predicted > self.value { 1.0 } else { 0.0 };
        self.value = (self.value + STEP * (above - TARGET)).clamp(BOUNDS.0, BOUNDS.1);
        self.samples = self.samples.saturating_add(1);
    }

    /// The margin, 1..=1.4; `None` until enough was seen.
    #[must_use]
    pub fn get(&self) -> Option<f64> {
        (self.samples >= ENOUGH).then_some(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_of_responses_is_above_it() {
        let mut margin = Margin::default();
        // Ratios spread evenly over 0.8 to 1.3: the 95 % quantile is 1.275.
        let ratios = || (0..500).map(|number| 0.8 + 0.5 * f64::from(number * 7919 % 500) / 500.0);
        for ratio in ratios().chain(ratios()).chain(ratios()).chain(ratios()) {
            margin.observe(0.04 * ratio, 0.04, 100);
        }
        let found = margin.get().unwrap();
        assert!((1.2..=1.3).contains(&found), "{found}");
    }

    #[test]
    fn it_is_unknown_at_first_and_what_says_little_does_not_count() {
        let mut margin = Margin::default();
        for _ in 0..1000 {
            margin.observe(9.0, 0.02, 100);
            margin.observe(9.0, 0.04, 15);
            margin.observe(9.0, f64::NAN, 100);
            margin.observe(9.0, 0.0, 100);
        }
        assert_eq!(margin.get(), None);
        for _ in 0..200 {
            margin.observe(9.0, 0.04, 16);
        }
        assert_eq!(margin.get(), Some(1.4));
    }
}
