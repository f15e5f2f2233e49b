//! The simulator over real sockets: dialects, caching, metrics, faults, and the binary itself.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the rig's functions are test code too, though clippy counts only #[test] functions as such"
)]

mod binary;
mod dialects;
mod events;
mod faults;
mod language;
mod metrics;
mod rig;
mod zmtp;
