//! The table as gateways get it: one task (`drive`) owns all state, every gateway's stream reads from a shared log of
//! versioned segments at its own pace (`stream`).
//!
//! A slow gateway has no queue that could fill up: it falls behind in the log, and when the log no longer reaches back to
//! where it is, it gets a snapshot. What is live (load, bookings, rates) is never queued: the newest replaces the last.

pub mod board;
pub mod build;
pub mod diff;
pub mod drive;
pub mod foresight;
pub mod local;
pub mod log;
pub mod pool;
pub mod prefixes;
pub mod restarts;
mod scraped;
pub mod serve;
pub mod slots;
pub mod spending;
pub mod split;
pub mod status;
mod stream;
pub mod truth;

/// The service stubs; the messages are `shared::wire`.
#[expect(
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::missing_errors_doc,
    clippy::too_many_lines,
    reason = "generated code"
)]
pub mod rpc {
    tonic::include_proto!("kvasir.v1");
}
