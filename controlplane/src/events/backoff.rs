//! How long to wait before the next attempt to connect, pure: doubling, with a random share taken off so that followers
//! of many engines do not come back at once.

use std::time::Duration;

/// The waits between attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// From `least`, doubling up to `most`.
    #[must_use]
    pub const fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, next: least }
    }

    /// An attempt succeeded: the next wait is a short one again.
    pub const fn succeeded(&mut self) {
        self.next = self.least;
    }

    /// The wait before the next attempt, between half and all of its length by `chance`, any number.
    pub fn wait(&mut self, chance: u32) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.most);
        whole.mul_f64(0.5 + f64::from(chance) / f64::from(u32::MAX) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_short_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<u128> = (0..5).map(|_| backoff.wait(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000]);
        backoff.succeeded();
        assert_eq!(backoff.wait(0), Duration::from_millis(50));
    }
}
