//! Asks an engine where it publishes its events. An engine without that page (older vLLM, SGLang) answers 404, which is
//! an answer: its ports must come from the configuration.

use std::time::Duration;

use super::sources::{Advertised, SourcesError, advertised};
use crate::scrape::fetch::{Client, FetchError};

/// The page of vLLM's server.
const PATH: &str = "/kv_event_sources";

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The engine does not have the page, or refuses it.
    #[error("engine answered {0}")]
    Status(u16),
    /// The engine answered something else.
    #[error(transparent)]
    Answer(#[from] SourcesError),
}

/// Asks the engine whose HTTP server is `address` (`host:port`).
///
/// # Errors
/// When it does not say in time, or nothing of use.
pub async fn ask(client: &Client, address: &str, timeout: Duration) -> Result<Advertised, AskError> {
    let answer = client.get(address, PATH, timeout).await?;
    if answer.status != 200 {
        return Err(AskError::Status(answer.status));
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(advertised(&answer.body, host)?)
}
