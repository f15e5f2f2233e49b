//! HTTP for people, probes and Prometheus. Why a request goes where it goes is answered by whoever implements `Inspect`;
//! without one that route says 503.

pub mod inspect;
pub mod serve;

use std::pin::Pin;

use serde_json::Value;

/// An answer that may have to ask the task that owns the tables.
pub type Explained<'a> = Pin<Box<dyn Future<Output = Result<Value, InspectError>> + Send + 'a>>;

/// Explains decisions.
pub trait Inspect: Send + Sync + 'static {
    /// Where a request with this body would go, and why.
    fn explain<'a>(&'a self, pool: Option<&'a str>, path: &'a str, body: &'a [u8]) -> Explained<'a>;
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Nothing of this name.
    #[error("no pool named {0}")]
    NoSuchPool(String),
    /// Whoever knows has stopped.
    #[error("stopping")]
    Stopping,
    /// The body is not a request that can be routed; the text says what and where.
    #[error("{0}")]
    BadRequest(String),
}
