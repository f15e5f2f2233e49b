//! The control plane's clock: nanoseconds since the Unix epoch that never step back. It is read from the wall clock
//! once, at the first call, and advanced by the monotonic clock from then on: differences are exact, the absolute value
//! drifts from a wall clock that is set later.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use shared::clock::Timestamp;

/// Now. Shell files call this and pass the value on.
#[must_use]
pub fn now() -> Timestamp {
    static ORIGIN: OnceLock<(Instant, Duration)> = OnceLock::new();
    let (started, epoch) = ORIGIN.get_or_init(|| {
        (Instant::now(), SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO))
    });
    let nanos = epoch.saturating_add(started.elapsed()).as_nanos();
    Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
