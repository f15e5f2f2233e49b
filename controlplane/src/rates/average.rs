//! An exponentially weighted mean inside bounds.

/// Moves by `gain` of the difference with every sample; never leaves its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Average {
    value: f64,
    gain: f64,
    least: f64,
    most: f64,
}

impl Average {
    /// Starts at `start`. Samples outside `least..=most` count as the nearest bound.
    #[must_use]
    pub const fn new(start: f64, gain: f64, least: f64, most: f64) -> Self {
        Self { value: start, gain, least, most }
    }

    /// Takes a sample; what is not a number is ignored.
    pub fn observe(&mut self, sample: f64) {
        if !sample.is_nan() {
            self.value += self.gain * (sample.clamp(self.least, self.most) - self.value);
        }
    }

    /// The mean so far.
    #[must_use]
    pub const fn get(&self) -> f64 {
        self.value
    }
}
