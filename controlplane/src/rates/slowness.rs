//! How much slower one endpoint decodes than its fleet: observed over predicted time per output token, discounted.

/// Weight that a sample keeps when the next one arrives.
const KEEP: f64 = 0.98;
/// Samples' worth of "as predicted" at the start, so that the first answers do not steer; it fades like samples do.
const START: f64 = 10.0;
/// Ratios in here count as 1: noise must not steer.
const DEAD_BAND: (f64, f64) = (0.8, 1.25);
const BOUNDS: (f64, f64) = (0.25, 4.0);

/// One endpoint's factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowness {
    observed: f64,
    predicted: f64,
}

impl Default for Slowness {
    fn default() -> Self {
        // Seconds per token of a typical step; only its weight against samples matters.
        Self { observed: START * 0.02, predicted: START * 0.02 }
    }
}

impl Slowness {
    /// One completion's seconds per output token, and what the fleet's fit says for its context.
    pub fn observe(&mut self, observed: f64, predicted: f64) {
        if observed.is_finite() && observed > 0.0 && predicted.is_finite() && predicted > 0.0 {
            self.observed = self.observed * KEEP + observed;
            self.predicted = self.predicted * KEEP + predicted;
        }
    }

    /// Observed over predicted, as it is.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.observed / self.predicted
    }

    /// Against what is typical of the fleet: 0.25..=4; 1 inside the dead band. While the fleet's fit is still on its way
    /// from the prior to the truth, all pods are off by the same ratio, and that must not look like a difference.
    #[must_use]
    pub fn factor(&self, typical: f64) -> f64 {
        let ratio = self.ratio() / typical;
        if (DEAD_BAND.0..=DEAD_BAND.1).contains(&ratio) { 1.0 } else { ratio.clamp(BOUNDS.0, BOUNDS.1) }
    }
}

/// The median of `ratios`, 1 of none.
pub fn typical(ratios: impl Iterator<Item = f64>) -> f64 {
    let mut ratios: Vec<f64> = ratios.collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let middle = |at: usize| ratios.get(at).copied();
    match ratios.len() {
        0 => 1.0,
        count if count % 2 == 1 => middle(count / 2).unwrap_or(1.0),
        count => middle(count / 2 - 1).zip(middle(count / 2)).map_or(1.0, |(low, high)| f64::midpoint(low, high)),
    }
}
