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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with `status` and `body`; returns the request.
    async fn engine(listener: TcpListener, status: &str, body: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let read = stream.read(&mut request).await.unwrap();
        request.truncate(read);
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    }

    #[tokio::test]
    async fn an_engine_is_asked_for_its_page_and_a_missing_page_is_told() {
        let list = r#"{"0":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557","topic":"kv"}}"#;
        for (status, body) in [("200 OK", list), ("404 Not Found", "{}")] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let client = Client::new().unwrap();
            let (request, answer) =
                tokio::join!(engine(listener, status, body), ask(&client, &address, Duration::from_secs(10)));
            assert!(request.starts_with("GET /kv_event_sources HTTP/1.1\r\n"), "{request}");
            if status.starts_with("200") {
                assert_eq!(answer.unwrap().sources[0].events.to_string(), "tcp://127.0.0.1:5557");
            } else {
                assert!(matches!(answer, Err(AskError::Status(404))));
            }
        }
    }
}
