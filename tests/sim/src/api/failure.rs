//! Errors in the caller's dialect, as vLLM words them.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Dialect;

/// What kind of error it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    BadRequest,
    NotFound,
    Unavailable,
    Internal,
}

/// A request that is answered with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) problem: Problem,
    pub(super) param: Option<&'static str>,
    pub(super) message: String,
}

impl Failure {
    /// A 400.
    pub(super) fn bad(message: String) -> Self {
        Self { problem: Problem::BadRequest, param: None, message }
    }

    /// A 503.
    pub(super) fn unavailable(message: String) -> Self {
        Self { problem: Problem::Unavailable, param: None, message }
    }

    pub(super) fn in_dialect(self, dialect: Dialect) -> Response {
        let (status, openai, anthropic) = match self.problem {
            Problem::BadRequest => (StatusCode::BAD_REQUEST, "BadRequestError", "invalid_request_error"),
            Problem::NotFound => (StatusCode::NOT_FOUND, "NotFoundError", "not_found_error"),
            Problem::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableError", "overloaded_error"),
            Problem::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "api_error"),
        };
        let body = match dialect {
            Dialect::Messages => json!({"type": "error", "error": {"type": anthropic, "message": self.message}}),
            Dialect::Chat | Dialect::Completions | Dialect::Responses | Dialect::Tokens => json!({"error": {
                "message": self.message, "type": openai, "param": self.param, "code": status.as_u16(),
            }}),
            Dialect::Sglang => json!({"error": {"message": self.message}}),
        };
        (status, Json(body)).into_response()
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::bad(format!("[{{'type': 'json_invalid', 'loc': ('body',), 'msg': 'JSON decode error: {error}'}}]"))
    }
}

/// The answer of an engine that lost the request.
pub(super) fn engine_dead(dialect: Dialect) -> Response {
    let message = "EngineCore encountered an issue.".to_owned();
    Failure { problem: Problem::Internal, param: None, message }.in_dialect(dialect)
}

/// The answer of an injected error, in the dialect of `path`.
pub(crate) fn fault_response(path: &str, status: u16) -> Response {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = if path == "/v1/messages" {
        json!({"type": "error", "error": {"type": "api_error", "message": "injected fault"}})
    } else {
        json!({"error": {"message": "injected fault", "type": "InternalServerError", "param": null, "code": status}})
    };
    (code, Json(body)).into_response()
}
