//! How long to wait until the next scrape, pure: at the busy interval while there is work or news, then doubling up to
//! the idle interval. A pool of idle pods must cost next to nothing.

use std::time::Duration;

use crate::config::Scrape;

/// What the last scrape, or a gateway, told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It has work, got some, or changed.
    Busy,
    /// Nothing runs, nothing changed; or nothing is known.
    Quiet,
}

/// The interval after the present one.
#[must_use]
pub fn next(current: Duration, activity: Activity, scrape: &Scrape) -> Duration {
    match activity {
        Activity::Busy => scrape.busy,
        Activity::Quiet => current.saturating_mul(2).clamp(scrape.busy, scrape.idle),
    }
}

/// When the first probe of an endpoint is due, so that the probes of a pool spread over one interval: 0..=`spread`, by
/// the hash of its address.
#[must_use]
pub fn stagger(id: u64, spread: Duration) -> Duration {
    let share = u32::try_from(id >> 40).unwrap_or(0);
    spread.mul_f64(f64::from(share) / f64::from(1_u32 << 24))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scrape(busy: u64, idle: u64) -> Scrape {
        Scrape {
            busy: Duration::from_millis(busy),
            idle: Duration::from_millis(idle),
            timeout: Duration::from_secs(1),
            path: "/metrics".to_owned(),
            port: None,
        }
    }

    #[test]
    fn quiet_endpoints_back_off_to_the_idle_interval_and_work_brings_them_back() {
        let scrape = scrape(50, 1000);
        let mut wait = scrape.busy;
        let mut seen = Vec::new();
        for _ in 0..6 {
            wait = next(wait, Activity::Quiet, &scrape);
            seen.push(wait.as_millis());
        }
        assert_eq!(seen, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(next(wait, Activity::Busy, &scrape), Duration::from_millis(50));
    }

    proptest! {
        #[test]
        fn the_interval_stays_within_its_bounds(busy in 5_u64..1000, more in 0_u64..60_000, current in 0_u64..200_000) {
            let scrape = scrape(busy, busy + more);
            for activity in [Activity::Busy, Activity::Quiet] {
                let wait = next(Duration::from_millis(current), activity, &scrape);
                prop_assert!(wait >= scrape.busy && wait <= scrape.idle);
            }
        }

        #[test]
        fn first_probes_fall_into_the_spread(id: u64) {
            prop_assert!(stagger(id, Duration::from_millis(100)) <= Duration::from_millis(100));
        }
    }
}
