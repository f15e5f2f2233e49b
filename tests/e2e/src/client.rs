//! A client of the gateway, and its answers. Cloned clients share connections; `fresh` ones do not.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::prompts::chat;

/// No request of these tests takes this long.
const TIMEOUT: Duration = Duration::from_secs(60);
const CHAT: &str = "/v1/chat/completions";

/// Which HTTP the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// A client of one gateway.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    gateway: String,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Client {
    /// Of the gateway at `ip:port`.
    ///
    /// # Panics
    /// When there is no client to be had.
    #[must_use]
    pub fn new(gateway: &str, version: Version) -> Self {
        let builder = reqwest::Client::builder().no_proxy().timeout(TIMEOUT);
        let builder = match version {
            Version::Http1 => builder.http1_only(),
            Version::Http2 => builder.http2_prior_knowledge(),
        };
        Self { http: builder.build().unwrap(), gateway: gateway.to_owned() }
    }

    /// A request to `path` of the gateway.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.gateway))
    }

    /// A POST of these bytes, explanation asked for.
    pub fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        let request = self.request(reqwest::Method::POST, path).header("content-type", "application/json");
        request.header("x-kvasir-explain", "1").body(body)
    }

    /// A chat, headers and all; the body is still to come.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn open_chat(&self, body: &Value) -> reqwest::Response {
        self.post(CHAT, body.to_string()).send().await.unwrap()
    }

    /// A chat's whole answer.
    pub async fn send_chat(&self, body: &Value) -> Answer {
        answer(self.post(CHAT, body.to_string())).await
    }

    /// A chat of `prompt` with four tokens' answer.
    pub async fn ask(&self, prompt: &str) -> Answer {
        self.send_chat(&chat(prompt, 4)).await
    }

    /// The whole answer to a GET.
    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(reqwest::Method::GET, path).header("x-kvasir-explain", "1")).await
    }
}

/// Sends and reads to the end.
///
/// # Panics
/// When there is no whole answer.
pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    try_answer(request).await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
}

/// Sends and reads to the end.
///
/// # Errors
/// When there is no whole answer.
pub async fn try_answer(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer { status, headers, body: response.bytes().await? })
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header's text, empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The engine that answered, by its own word.
    #[must_use]
    pub fn engine(&self) -> &str {
        self.header("x-sim-engine")
    }

    /// Why the gateway chose as it did.
    ///
    /// # Panics
    /// When the gateway did not say.
    #[must_use]
    pub fn decision(&self) -> Value {
        serde_json::from_str(self.header("x-kvasir-decision")).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// One candidate of the decision.
    #[must_use]
    pub fn candidate(&self, endpoint: &str) -> Option<Value> {
        let decision = self.decision();
        decision["candidates"].as_array()?.iter().find(|row| row["endpoint"] == endpoint).cloned()
    }

    /// The whole or the last event of a stream that has a usage.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn usage(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        if !self.header("content-type").starts_with("text/event-stream") {
            return self.json()["usage"].clone();
        }
        let events = text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok());
        let mut usages = events.map(|event: Value| event["usage"].clone()).filter(Value::is_object);
        usages.next_back().unwrap_or_else(|| panic!("no usage: {text}"))
    }

    /// The share of the prompt that the engine found in its cache, by its own word.
    ///
    /// # Panics
    /// When the engine did not say.
    #[must_use]
    pub fn cached_share(&self) -> f64 {
        let usage = self.usage();
        let cached = usage["prompt_tokens_details"]["cached_tokens"].as_f64().expect("cached_tokens");
        cached / usage["prompt_tokens"].as_f64().expect("prompt_tokens")
    }
}
