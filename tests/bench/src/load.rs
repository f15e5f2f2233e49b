//! What a closed loop measured, and its summary.

pub(crate) mod drive;

use crate::estimate::percentile;
use std::time::Duration;

/// Everything a run of the loop saw.
#[derive(Debug, Default)]
pub(crate) struct LoadLog {
    /// One per request, in no order.
    pub(crate) latencies: Vec<Duration>,
    /// Chunks of all responses.
    pub(crate) chunks: u64,
    pub(crate) elapsed: Duration,
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) requests: f64,
    pub(crate) rps: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
}

impl LoadLog {
    pub(crate) fn absorb(&mut self, other: LoadLog) {
        self.latencies.extend(other.latencies);
        self.chunks += other.chunks;
        self.elapsed = self.elapsed.max(other.elapsed);
    }

    pub(crate) fn summary(&self) -> Summary {
        let mut sorted: Vec<f64> = self.latencies.iter().map(|latency| latency.as_secs_f64() * 1e6).collect();
        sorted.sort_by(f64::total_cmp);
        let requests = sorted.len() as f64;
        Summary {
            requests,
            rps: requests / self.elapsed.as_secs_f64(),
            p50: percentile(&sorted, 0.5),
            p90: percentile(&sorted, 0.9),
            p99: percentile(&sorted, 0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_ran_side_by_side_add_up() {
        let log = |millis: u64| LoadLog {
            latencies: vec![Duration::from_micros(100); 50],
            chunks: 10,
            elapsed: Duration::from_millis(millis),
        };
        let mut both = log(480);
        both.absorb(log(500));
        let summary = both.summary();
        assert_eq!((both.chunks, both.elapsed), (20, Duration::from_millis(500)));
        assert!((summary.rps - 200.0).abs() < 1e-9 && (summary.p50 - 100.0).abs() < 1e-9, "{summary:?}");
    }
}
