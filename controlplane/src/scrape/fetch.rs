//! One HTTP GET with a deadline and a size limit, over connections that are kept alive. Proxies of the environment are
//! not used: engines are addressed by IP.

use std::time::Duration;

/// Larger answers are refused; a real engine's metrics are well below 1 MiB.
const MAX_BYTES: usize = 8 << 20;

/// The HTTP client of all probes.
#[derive(Clone, Debug)]
pub struct Client(reqwest::Client);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Whole body.
    pub body: Vec<u8>,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection.
    #[error("cannot connect")]
    Connect,
    /// No complete answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection broke, or what came is not HTTP.
    #[error("connection broke")]
    Broken,
    /// The body is larger than any engine's.
    #[error("answer larger than {MAX_BYTES} bytes")]
    TooLarge,
}

impl FetchError {
    /// Did the endpoint stay silent? An oversized answer is an answer.
    #[must_use]
    pub const fn is_silence(&self) -> bool {
        match self {
            Self::Connect | Self::Timeout(_) | Self::Broken => true,
            Self::TooLarge => false,
        }
    }

    /// A closed set of names for metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout(_) => "timeout",
            Self::Broken => "broken",
            Self::TooLarge => "too_large",
        }
    }
}

impl Client {
    /// A client for any number of endpoints.
    ///
    /// # Errors
    /// When the HTTP stack cannot start.
    pub fn new() -> Result<Self, reqwest::Error> {
        reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(90))
            .tcp_nodelay(true)
            .build()
            .map(Self)
    }

    /// GETs `http://{host}{path}`.
    ///
    /// # Errors
    /// When no complete answer came in time.
    pub async fn get(&self, host: &str, path: &str, timeout: Duration) -> Result<Answer, FetchError> {
        let exchange = self.exchange(host, path);
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(FetchError::Timeout(timeout)))
    }

    async fn exchange(&self, host: &str, path: &str) -> Result<Answer, FetchError> {
        let sent = self.0.get(format!("http://{host}{path}")).send().await;
        let mut response =
            sent.map_err(|error| if error.is_connect() { FetchError::Connect } else { FetchError::Broken })?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| FetchError::Broken)? {
            if body.len().saturating_add(chunk.len()) > MAX_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }
}
