//! Seeded randomness (SplitMix64) and the distributions that traffic is made of. Streams with different seeds do not
//! overlap in practice, so every source of chance has its own.

/// A seeded stream.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// A well-mixed function of `x` (the SplitMix64 finaliser).
#[must_use]
pub const fn mixed(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Random {
    /// The stream called `purpose` of the run with `seed`.
    #[must_use]
    pub const fn new(seed: u64, purpose: u64) -> Self {
        Self(mixed(mixed(seed).wrapping_add(purpose)))
    }

    /// 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// 0..1.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        u64::try_from((u128::from(self.bits()) * u128::from(bound)) >> 64).unwrap_or(0)
    }

    /// A whole number of `least..=most`.
    pub fn between(&mut self, least: u32, most: u32) -> u32 {
        let span = u64::from(most.saturating_sub(least)) + 1;
        least + u32::try_from(self.below(span)).unwrap_or(0)
    }

    /// Exponential with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.uniform()).ln() * mean
    }

    /// About lognormal, with this mean and this sigma of the logarithm, within `least..=most`.
    pub fn lognormal(&mut self, mean: f64, sigma: f64, (least, most): (u32, u32)) -> u32 {
        let normal = (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0;
        let value = mean * (sigma * normal - sigma * sigma / 2.0).exp();
        whole(value.clamp(f64::from(least), f64::from(most)))
    }
}

/// Rounded, saturating.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
#[must_use]
pub fn whole(value: f64) -> u32 {
    value.round() as u32
}

/// Zipf's law over `0..n`.
#[derive(Clone, Debug)]
pub struct Zipf(Vec<f64>);

impl Zipf {
    /// Weight of rank r is 1 / r^exponent.
    #[must_use]
    pub fn new(n: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=n).map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        });
        Self(weights.collect())
    }

    /// A rank from 0.
    pub fn draw(&self, random: &mut Random) -> u64 {
        let at = random.uniform() * self.0.last().copied().unwrap_or(0.0);
        let rank = self.0.partition_point(|&sum| sum <= at).min(self.0.len().saturating_sub(1));
        u64::try_from(rank).unwrap_or(0)
    }
}
