//! What the engines say about themselves: load from `/metrics`, names from `/v1/models`, and whether they are up.
//! Pure files read texts and decide; `fetch.rs`, `poll.rs` and `drive.rs` move the bytes.

pub mod attributes;
pub mod drive;
pub mod engine;
pub mod exposition;
pub mod fetch;
pub mod models;
pub mod pace;
pub mod poll;

use shared::identity::EndpointId;

/// What gateways saw of an endpoint, so that it is looked at before its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Requests to it failed: probe at once.
    Failed {
        /// Which one.
        endpoint: EndpointId,
        /// How many requests.
        count: u32,
    },
    /// It just got work: scrape at the busy interval.
    Busy {
        /// Which one.
        endpoint: EndpointId,
    },
}

impl Hint {
    /// Whom it is about.
    #[must_use]
    pub const fn endpoint(self) -> EndpointId {
        match self {
            Self::Failed { endpoint, .. } | Self::Busy { endpoint } => endpoint,
        }
    }
}
