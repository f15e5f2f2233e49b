//! Every answer that is ours and not an engine's: status, headers and body are decided here and nowhere else, in the
//! caller's dialect.
//!
//! 429 means capacity exists but is contended, 503 that there is none now; the reason header follows llm-d's names.

use std::time::Duration;

use serde::Serialize;

use crate::api::{BodyError, Dialect};
use crate::budget::Over;

/// Names, in llm-d's words, why a request did not reach an engine.
pub const DROPPED_REASON_HEADER: &str = "x-llm-d-request-dropped-reason";

/// Names from requests are cut to this many characters in messages.
const MAX_NAME_CHARS: usize = 256;

/// Why a request is answered here.
#[derive(Clone, Debug, PartialEq)]
pub enum Reject {
    /// The body cannot be read or lacks something.
    BadBody(BodyError),
    /// No pool serves this model.
    UnknownModel {
        /// As the request named it.
        model: String,
    },
    /// The body exceeds the configured limit.
    BodyTooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The body must not reach an engine as it is (a key that none may see, another model's name), and the host did not
    /// let it be changed.
    BodyNotEdited,
    /// No routing table has arrived yet.
    NoTable,
    /// The route names a pool that no table describes.
    UnknownPool {
        /// As the route names it.
        pool: String,
    },
    /// The pool has no endpoint for this request.
    NoEndpoint {
        /// Why not.
        reason: NoEndpointReason,
    },
    /// Policy sheds this request because the pool is saturated.
    Saturated {
        /// When it makes sense to come back; rounded up to seconds, at least one.
        retry_after: Duration,
    },
    /// The request's time in the queue ran out.
    QueueExpired {
        /// When it makes sense to come back; rounded up to seconds, at least one.
        retry_after: Duration,
    },
    /// The tenant has spent what it may in a minute.
    OverBudget(Over),
    /// The gateway is going away.
    ShuttingDown,
}

/// Why a pool has no endpoint for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEndpointReason {
    /// The pool has none.
    EmptyPool,
    /// All are unhealthy, draining or ejected.
    NoneReady,
    /// None serves the model.
    AllFiltered,
    /// The filters of the pool's scheduling profile left none.
    Excluded,
    /// The pool stayed empty for as long as the request may wait.
    WaitExpired,
}

/// A complete answer; `headers` lack `content-length`, which the host writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply {
    /// HTTP status.
    pub status: u16,
    /// Lower-case names; the first is `content-type`.
    pub headers: Vec<(&'static str, String)>,
    /// JSON; empty for gRPC.
    pub body: Vec<u8>,
}

/// The parts of an answer that depend on the reject alone.
struct Verdict {
    status: u16,
    code: &'static str,
    message: String,
    param: Option<String>,
    dropped: Option<&'static str>,
    retry_after: Option<Duration>,
    limited: Option<Over>,
}

impl Verdict {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None, dropped: None, retry_after: None, limited: None }
    }

    fn dropped(self, reason: &'static str) -> Self {
        Self { dropped: Some(reason), ..self }
    }
}

/// The HTTP status of a refusal, whatever the dialect makes of it.
#[must_use]
pub fn status(reject: &Reject) -> u16 {
    judge(reject).status
}

/// The answer to a client that speaks `dialect`.
#[must_use]
pub fn reply(dialect: Dialect, reject: &Reject) -> ErrorReply {
    let verdict = judge(reject);
    let mut headers = match dialect {
        Dialect::OpenAi | Dialect::Anthropic => vec![("content-type", "application/json".to_owned())],
        Dialect::Grpc => vec![
            ("content-type", "application/grpc".to_owned()),
            ("grpc-status", grpc_status(verdict.status).to_string()),
            ("grpc-message", percent_encoded(&verdict.message)),
        ],
    };
    if let Some(wait) = verdict.retry_after {
        headers.push(("retry-after", seconds(wait).to_string()));
    }
    if let Some(Over { what, limit, wait }) = verdict.limited {
        let (limited, remaining, reset) = what.headers();
        headers.extend([
            (limited, limit.to_string()),
            (remaining, "0".to_owned()),
            (reset, format!("{}s", seconds(wait))),
        ]);
    }
    if let Some(reason) = verdict.dropped {
        headers.push((DROPPED_REASON_HEADER, reason.to_owned()));
    }
    // gRPC says everything in its own status; HTTP's is that an answer came.
    let status = if dialect == Dialect::Grpc { 200 } else { verdict.status };
    ErrorReply { status, headers, body: body(dialect, &verdict) }
}

/// The status code of gRPC for one of ours.
const fn grpc_status(status: u16) -> u8 {
    const INVALID_ARGUMENT: u8 = 3;
    const NOT_FOUND: u8 = 5;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    match status {
        404 => NOT_FOUND,
        413 | 429 => RESOURCE_EXHAUSTED,
        503 => UNAVAILABLE,
        500.. => INTERNAL,
        _ => INVALID_ARGUMENT,
    }
}

/// As `grpc-message` carries text: printable ASCII but `%` stands for itself.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// Rounded up, at least one.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn judge(reject: &Reject) -> Verdict {
    match reject {
        Reject::BadBody(error) => Verdict {
            param: (!error.path.is_empty()).then(|| error.path.clone()),
            ..Verdict::new(400, "invalid_body", error.to_string())
        },
        Reject::UnknownModel { model } => Verdict {
            param: Some("model".to_owned()),
            ..Verdict::new(404, "model_not_found", format!("the model `{}` does not exist", shortened(model)))
        },
        Reject::BodyTooLarge { limit_bytes } => {
            Verdict::new(413, "request_too_large", format!("the request body exceeds the limit of {limit_bytes} bytes"))
        }
        Reject::BodyNotEdited => {
            Verdict::new(500, "body_not_edited", "the gateway could not change the request's body as it must")
        }
        Reject::NoTable => Verdict::new(503, "no_routing_table", "the gateway has not received its routing table yet"),
        Reject::UnknownPool { pool } => Verdict::new(
            503,
            "unknown_pool",
            format!("the gateway has no routing table for the pool `{}`", shortened(pool)),
        ),
        // llm-d's status for it: others might have been served.
        Reject::NoEndpoint { reason: NoEndpointReason::Excluded } => {
            Verdict::new(429, "no_endpoint", no_endpoint_message(NoEndpointReason::Excluded))
                .dropped("rejected-no-endpoints")
        }
        Reject::NoEndpoint { reason } => {
            Verdict::new(503, "no_endpoint", no_endpoint_message(*reason)).dropped("rejected-no-endpoints")
        }
        Reject::Saturated { retry_after } => Verdict {
            retry_after: Some(*retry_after),
            ..Verdict::new(429, "rate_limit_exceeded", "all endpoints are saturated").dropped("rejected-saturated")
        },
        Reject::QueueExpired { retry_after } => Verdict {
            retry_after: Some(*retry_after),
            ..Verdict::new(429, "rate_limit_exceeded", "the request timed out in the queue")
                .dropped("rejected-ttl-expired")
        },
        Reject::OverBudget(over) => Verdict {
            retry_after: Some(over.wait),
            limited: Some(*over),
            ..Verdict::new(429, "rate_limit_exceeded", over_budget_message(over))
        },
        Reject::ShuttingDown => {
            Verdict::new(503, "shutting_down", "the gateway is shutting down").dropped("rejected-shutting-down")
        }
    }
}

fn over_budget_message(over: &Over) -> String {
    format!("the limit of {} {} per minute is reached", over.limit, over.what.name())
}

const fn no_endpoint_message(reason: NoEndpointReason) -> &'static str {
    match reason {
        NoEndpointReason::EmptyPool => "no endpoint is available: the pool is empty",
        NoEndpointReason::NoneReady => "no endpoint is available: none of the pool is ready",
        NoEndpointReason::AllFiltered => "no endpoint is available: none of the pool fits this request",
        NoEndpointReason::Excluded => "no endpoint is available: the scheduling profile's filters left none",
        NoEndpointReason::WaitExpired => "no endpoint became available while the request waited in the queue",
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(MAX_NAME_CHARS).collect()
}

#[derive(Serialize)]
struct OpenAiEnvelope<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'static str,
}

#[derive(Serialize)]
struct AnthropicEnvelope<'a> {
    r#type: &'static str,
    error: AnthropicError<'a>,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    r#type: &'static str,
    message: &'a str,
}

fn body(dialect: Dialect, verdict: &Verdict) -> Vec<u8> {
    let message = verdict.message.as_str();
    let written = match dialect {
        Dialect::Grpc => return Vec::new(),
        Dialect::OpenAi => {
            let r#type = match verdict.status {
                429 => "rate_limit_error",
                500.. => "server_error",
                _ => "invalid_request_error",
            };
            let (param, code) = (verdict.param.as_deref(), verdict.code);
            serde_json::to_vec(&OpenAiEnvelope { error: OpenAiError { message, r#type, param, code } })
        }
        Dialect::Anthropic => {
            let r#type = match verdict.status {
                404 => "not_found_error",
                413 => "request_too_large",
                429 => "rate_limit_error",
                500.. => "api_error",
                _ => "invalid_request_error",
            };
            serde_json::to_vec(&AnthropicEnvelope { r#type: "error", error: AnthropicError { r#type, message } })
        }
    };
    // Strings and constants always serialise; an empty body is still a correct answer to the status.
    written.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Problem, ValueKind};

    fn text(reply: &ErrorReply) -> &str {
        str::from_utf8(&reply.body).expect("UTF-8")
    }

    #[test]
    fn each_dialect_gets_its_own_error_json() {
        let wrong = Problem::WrongType { expected: "a string", found: ValueKind::Number };
        let reject = Reject::BadBody(BodyError { offset: 9, path: "model".to_owned(), problem: wrong });
        let openai = reply(Dialect::OpenAi, &reject);
        assert_eq!((openai.status, &openai.headers), (400, &vec![("content-type", "application/json".to_owned())]));
        assert_eq!(
            text(&openai),
            r#"{"error":{"message":"model must be a string, got a number, at byte 9","type":"invalid_request_error","param":"model","code":"invalid_body"}}"#
        );
        assert_eq!(
            text(&reply(Dialect::Anthropic, &reject)),
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"model must be a string, got a number, at byte 9"}}"#
        );
    }

    #[test]
    fn status_reason_and_retry_follow_the_reject() {
        let wait = Duration::from_millis(1500);
        let no_endpoint = Reject::NoEndpoint { reason: NoEndpointReason::NoneReady };
        for (reject, status, reason, retry) in [
            (Reject::UnknownModel { model: "m".to_owned() }, 404, None, None),
            (Reject::BodyTooLarge { limit_bytes: 5 }, 413, None, None),
            (Reject::BodyNotEdited, 500, None, None),
            (Reject::Saturated { retry_after: wait }, 429, Some("rejected-saturated"), Some("2")),
            (Reject::QueueExpired { retry_after: Duration::ZERO }, 429, Some("rejected-ttl-expired"), Some("1")),
            (Reject::NoTable, 503, None, None),
            (Reject::UnknownPool { pool: "p".to_owned() }, 503, None, None),
            (no_endpoint, 503, Some("rejected-no-endpoints"), None),
            (Reject::ShuttingDown, 503, Some("rejected-shutting-down"), None),
        ] {
            for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
                let reply = reply(dialect, &reject);
                let header =
                    |wanted: &str| reply.headers.iter().find(|(name, _)| *name == wanted).map(|(_, v)| v.as_str());
                assert_eq!(reply.status, status);
                assert_eq!(header(DROPPED_REASON_HEADER), reason);
                assert_eq!(header("retry-after"), retry);
                let tree: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
                assert!(tree["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
            }
        }
    }

    #[test]
    fn grpc_clients_get_a_status_in_headers_alone() {
        let wait = Duration::from_secs(1);
        for (reject, code) in [
            (Reject::UnknownModel { model: "é%\n".to_owned() }, "5"),
            (Reject::BodyTooLarge { limit_bytes: 5 }, "8"),
            (Reject::Saturated { retry_after: wait }, "8"),
            (Reject::BodyNotEdited, "13"),
            (Reject::NoTable, "14"),
            (Reject::BadBody(BodyError { offset: 0, path: String::new(), problem: Problem::Empty }), "3"),
        ] {
            let reply = reply(Dialect::Grpc, &reject);
            assert_eq!((reply.status, reply.body.len()), (200, 0));
            assert_eq!(reply.headers[0], ("content-type", "application/grpc".to_owned()));
            assert_eq!(reply.headers[1], ("grpc-status", code.to_owned()));
            assert_ne!(status(&reject), 200);
        }
        let message = &reply(Dialect::Grpc, &Reject::UnknownModel { model: "é%\n".to_owned() }).headers[2];
        assert_eq!(*message, ("grpc-message", "the model `%C3%A9%25%0A` does not exist".to_owned()));
    }

    #[test]
    fn a_hostile_model_name_is_cut_and_escaped() {
        let reply = reply(Dialect::OpenAi, &Reject::UnknownModel { model: "\"\u{1}é".repeat(100_000) });
        assert!(reply.body.len() < 4096);
        assert!(serde_json::from_slice::<serde_json::Value>(&reply.body).is_ok());
    }
}
