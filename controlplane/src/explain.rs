//! Where a request would go and why: the brain that gateways run, fed with the published table and with everybody's
//! bookings as they are now. What only a gateway knows is missing: the routes of its last moments, whom it ejected.

pub mod fetch;
pub mod human;
pub mod serve;

use serde_json::Value;
use shared::api::ErrorReply;
use shared::brain::Brain;
use shared::clock::Timestamp;
use shared::lifecycle::{Plan, preview};

use prost::Message as _;

use crate::publish::drive::Dump;

/// The API that is assumed when none is named.
pub const DEFAULT_PATH: &str = "/v1/chat/completions";

/// A request that nobody has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The pool; `None`: found as gateways do, by the model.
    pub pool: Option<String>,
    /// Its path.
    pub path: String,
    /// Its headers, without pseudo-headers; names in any case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its whole body.
    pub body: Vec<u8>,
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// Nothing of this name.
    #[error("no pool named {0}")]
    NoSuchPool(String),
    /// A gateway would answer the request itself; this is that answer.
    #[error("refused with {} {}", .0.status, String::from_utf8_lossy(&.0.body))]
    Refused(ErrorReply),
    /// The published table cannot be read back, which is a bug.
    #[error("the table is not readable: {0}")]
    Table(String),
    /// Whoever knows has stopped.
    #[error("stopping")]
    Stopping,
}

/// Explains `asked` on the state in `dump`: `shared::lifecycle::Preview` as JSON.
///
/// # Errors
/// The pool is unknown, or a gateway would refuse the request.
pub fn answer(dump: Dump, asked: &Asked, now: Timestamp) -> Result<Value, ExplainError> {
    let table = |error: &dyn std::fmt::Display| ExplainError::Table(error.to_string());
    let mut brain = Brain::default();
    for segment in dump.segments {
        brain.fold(&segment.encode_to_vec(), now).map_err(|error| table(&error))?;
    }
    brain.set_live(dump.live, now).map_err(|error| table(&error))?;
    if let Some(name) = asked.pool.as_ref().filter(|name| brain.pool(name).is_none()) {
        return Err(ExplainError::NoSuchPool(name.clone()));
    }
    let plan = Plan { pool: asked.pool.clone(), ..Plan::default() };
    let mut headers: Vec<(&[u8], &[u8])> = vec![(b":method", b"POST"), (b":path", asked.path.as_bytes())];
    headers.extend(asked.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())));
    let preview = preview(&brain, &plan, &headers, &asked.body, now).map_err(ExplainError::Refused)?;
    serde_json::to_value(&preview).map_err(|error| table(&error))
}
