//! What one stream has been through, as totals since it was first followed. `lost` is what never came; `missed` also
//! counts what a replay brought later.

use std::time::Duration;

/// Totals, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Batches applied.
    pub applied: u64,
    /// Of those, from a replay.
    pub replayed: u64,
    /// Batches that came twice.
    pub duplicates: u64,
    /// Times that batches were found missing.
    pub gaps: u64,
    /// Batches found missing.
    pub missed: u64,
    /// Of those, never recovered.
    pub lost: u64,
    /// Replays asked for.
    pub replays: u64,
    /// Replays that broke off, timed out or could not be asked for.
    pub replays_failed: u64,
    /// Times that the state was void.
    pub resets: u64,
    /// Live batches dropped because too many were held back during a replay.
    pub overflowed: u64,
    /// At the latest gap, from the last good batch to the detection.
    pub last_detection: Duration,
}
