//! Limits of bands that fall as the pool fills: llm-d's soft-reflective-ceiling-policy. The band of rank `i` among `n` is free
//! up to `1 - i * saturation / (n - 1)`; beyond that it is let through on one call of `round(s / (1 - s))`, so that the lowest
//! band never stops before the pool is full. The first band stops at 1 only.

/// See the module: remembers how often a band beyond its ceiling was asked about.
#[derive(Clone, Copy, Debug, Default)]
pub struct SoftCeilings {
    calls: u64,
}

impl SoftCeilings {
    /// The limit of a band for one call: 1 while it may go, else 0. `rank` 0 is the highest of `bands`.
    pub fn limit(&mut self, saturation: f64, rank: usize, bands: usize) -> f64 {
        if rank == 0 || saturation < reflective(saturation, rank, bands) {
            return 1.0;
        }
        if saturation >= 1.0 {
            return 0.0;
        }
        self.calls = self.calls.wrapping_add(1);
        if self.calls.is_multiple_of(period(saturation)) { 1.0 } else { 0.0 }
    }
}

/// Up to which saturation the band of `rank` among `bands` is free.
fn reflective(saturation: f64, rank: usize, bands: usize) -> f64 {
    let figure = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    1.0 - figure(rank) * saturation / figure(bands.saturating_sub(1).max(1))
}

/// Of how many calls one goes through at `saturation`, below 1.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates at both ends")]
fn period(saturation: f64) -> u64 {
    libm::round(saturation / (1.0 - saturation + 1e-9)).max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_fall_with_rank_and_saturation() {
        let table = [(0.0, [1.0, 1.0, 1.0]), (0.4, [1.0, 0.8, 0.6]), (0.8, [1.0, 0.6, 0.2]), (1.0, [1.0, 0.5, 0.0])];
        for (saturation, expected) in table {
            for (rank, ceiling) in expected.into_iter().enumerate() {
                let got = reflective(saturation, rank, 3);
                assert!((got - ceiling).abs() < 1e-12, "{saturation} {rank}: {got}");
            }
        }
    }

    #[test]
    fn one_call_of_each_period_goes_through() {
        let table = [(0.5, 1), (0.6, 1), (0.65, 2), (0.75, 3), (0.8, 4), (0.9, 9), (0.99, 99)];
        for (saturation, expected) in table {
            let mut ceilings = SoftCeilings::default();
            let open: f64 = (0..expected * 5).map(|_| ceilings.limit(saturation, 1, 2)).sum();
            assert!((open - 5.0).abs() < 1e-12, "{saturation}: {open} of {}", expected * 5);
        }
    }

    #[test]
    fn a_full_pool_stops_all_and_the_first_band_only_then() {
        let mut ceilings = SoftCeilings::default();
        for (saturation, limits) in [(0.99, [1.0, 0.0, 0.0]), (1.0, [1.0, 0.0, 0.0]), (3.0, [1.0, 0.0, 0.0])] {
            let got: Vec<f64> = (0..3).map(|rank| ceilings.limit(saturation, rank, 3)).collect();
            assert_eq!(got, limits, "{saturation}");
        }
        assert_eq!(ceilings.limit(0.3, 0, 1).to_bits(), 1.0_f64.to_bits(), "alone");
    }
}
