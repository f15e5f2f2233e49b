//! Requests per second, smoothed over a few seconds. It is published in steps, so that an idle pool falls silent.

use std::time::Duration;

use shared::clock::Timestamp;

/// Time constant of the smoothing.
const SMOOTHING: Duration = Duration::from_secs(5);
/// Changes below this fraction are not worth telling.
const STEP: f64 = 0.1;

/// Arrivals of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Arrivals {
    rate: f64,
    told: f64,
    at: Timestamp,
}

impl Arrivals {
    /// `count` requests arrived.
    pub fn observe(&mut self, count: u32, now: Timestamp) {
        self.decay(now);
        self.rate += f64::from(count) / SMOOTHING.as_secs_f64();
    }

    fn decay(&mut self, now: Timestamp) {
        self.rate *= (-now.since(self.at).as_secs_f64() / SMOOTHING.as_secs_f64()).exp();
        self.at = now;
    }

    /// Arrivals per second, changed only when it moved by a tenth; zero below one in a hundred seconds.
    pub fn per_second(&mut self, now: Timestamp) -> f64 {
        self.decay(now);
        if self.rate < 0.01 {
            self.told = 0.0;
        } else if (self.rate - self.told).abs() > STEP * self.told {
            self.told = self.rate;
        }
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_shows_its_rate_and_silence_shows_zero() {
        let mut arrivals = Arrivals::default();
        for i in 0..2000u32 {
            arrivals.observe(1, Timestamp::from_secs_f64(f64::from(i) * 0.02));
        }
        let rate = arrivals.per_second(Timestamp::from_secs_f64(40.0));
        assert!((rate / 50.0 - 1.0).abs() < 0.11, "{rate}");
        assert!(arrivals.per_second(Timestamp::from_secs_f64(140.0)) < 1e-9);
    }
}
