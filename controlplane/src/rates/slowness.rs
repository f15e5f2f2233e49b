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

    /// 0.25..=4; 1 inside the dead band.
    #[must_use]
    pub fn factor(&self) -> f64 {
        let ratio = self.observed / self.predicted;
        if (DEAD_BAND.0..=DEAD_BAND.1).contains(&ratio) { 1.0 } else { ratio.clamp(BOUNDS.0, BOUNDS.1) }
    }
}
