//! Asks a running control plane over its HTTP API.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::Asked;

/// A large table takes a moment to explain.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Why a running control plane gave no explanation.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It answered that there is none.
    #[error("HTTP {status}: {body}")]
    Refused {
        /// Its status.
        status: u16,
        /// Its words.
        body: String,
    },
    /// What answers there is not a control plane, or it broke off.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
}

/// The explanation by the control plane at `http`; `None` when nobody listens there.
///
/// # Errors
/// When it refuses, or is no control plane.
pub async fn explanation(http: SocketAddr, asked: &Asked) -> Result<Option<Value>, FetchError> {
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build()?;
    let pool = asked.pool.as_deref().map(|pool| ("pool", pool));
    let query = pool.into_iter().chain([("path", asked.path.as_str())]);
    let mut url = match reqwest::Url::parse(&format!("http://{http}/api/v1/explain")) {
        Ok(url) => url,
        // An address always makes a URL.
        Err(_) => return Ok(None),
    };
    url.query_pairs_mut().extend_pairs(query);
    let mut request = client.post(url).body(asked.body.clone());
    for (name, value) in &asked.headers {
        request = request.header(name, value.as_slice());
    }
    let response = match request.send().await {
        Err(error) if error.is_connect() => return Ok(None),
        answered => answered?,
    };
    let status = response.status().as_u16();
    if status != 200 {
        return Err(FetchError::Refused { status, body: response.text().await? });
    }
    Ok(Some(response.json().await?))
}
