//! vLLM's HTTP surface (and SGLang's `/generate`) on one engine's port: routes, and the road every inference call takes whatever its dialect.
//!
//! Answers are written by the dialect modules; what they agree on is a [`Reply`] (the constant part of an answer) and the
//! call's counters.

mod chat;
mod completions;
mod development;
mod embeddings;
mod failure;
mod messages;
mod prompt;
mod render;
mod reply;
mod responses;
mod sglang;
mod stream;
mod surface;
mod tokens;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

pub(crate) use self::failure::fault_response;
use self::failure::{Failure, Problem};
use self::reply::{Reply, Shown};
use self::stream::Narration;
use crate::cluster::{EngineState, Sleep};
use crate::infer::{Ask, Call};

/// Largest request body.
const BODY_LIMIT: usize = 256 * 1024 * 1024;

/// Most answers of one request, over all prompts.
const MOST_ANSWERS: usize = 4096;

/// The API a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Chat,
    Completions,
    Responses,
    Messages,
    /// Token ids in, token ids out.
    Tokens,
    Sglang,
}

/// What a stream's client wants to know about usage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum UsageReport {
    /// Nothing.
    #[default]
    Never,
    /// A last chunk with the usage.
    AtEnd,
    /// The usage so far in every chunk as well.
    Continuous,
}

/// How the answer comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    Whole,
    Streamed(UsageReport),
}

/// A parsed request.
pub(crate) struct Parsed {
    pub(crate) ask: Ask,
    pub(crate) delivery: Delivery,
    pub(crate) shown: Shown,
}

/// All routes of one engine but the simulator's own.
pub(crate) fn router(state: EngineState) -> Router {
    Router::new()
        .route("/v1/chat/completions", inference(Dialect::Chat))
        .route("/v1/completions", inference(Dialect::Completions))
        .route("/v1/responses", inference(Dialect::Responses))
        .route("/v1/messages", inference(Dialect::Messages))
        .route("/inference/v1/generate", inference(Dialect::Tokens))
        .route("/generate", inference(Dialect::Sglang))
        .route("/v1/messages/count_tokens", post(render::count))
        .route("/v1/chat/completions/render", rendering(Dialect::Chat))
        .route("/v1/completions/render", rendering(Dialect::Completions))
        .route("/v1/messages/render", rendering(Dialect::Messages))
        .route("/v1/embeddings", post(embeddings::embed))
        .route("/v1/models", get(surface::models))
        .route("/health", get(async || StatusCode::OK))
        .route("/version", get(surface::version))
        .route("/tokenize", post(surface::tokenize))
        .route("/detokenize", post(surface::detokenize))
        .route("/metrics", get(surface::metrics))
        .merge(development::router())
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(state)
}

fn inference(dialect: Dialect) -> MethodRouter<EngineState> {
    post(async move |State(state): State<EngineState>, headers: HeaderMap, body: Bytes| {
        infer(state, dialect, &headers, body).await
    })
}

fn rendering(dialect: Dialect) -> MethodRouter<EngineState> {
    post(async move |State(state): State<EngineState>, body: Bytes| render::rendered(&state, dialect, &body))
}

async fn infer(state: EngineState, dialect: Dialect, headers: &HeaderMap, body: Bytes) -> Response {
    let begun = begin(&state, dialect, headers, &body).await;
    match begun {
        Ok((reply, call, Delivery::Streamed(usage))) => stream_response(Narration::new(reply, call, usage)),
        Ok((reply, mut call, Delivery::Whole)) => {
            while call.next().await.is_some() {}
            if !call.is_complete() {
                return failure::engine_dead(dialect);
            }
            let text = match dialect {
                Dialect::Chat => chat::whole(&reply, &call),
                Dialect::Completions => completions::whole(&reply, &call),
                Dialect::Responses => responses::whole(&reply, &call),
                Dialect::Messages => messages::whole(&reply, &call),
                Dialect::Tokens => tokens::whole(&reply, &call),
                Dialect::Sglang => sglang::whole(&reply, &call),
            };
            ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
        }
        Err(failure) => failure.in_dialect(dialect),
    }
}

fn parse(state: &EngineState, dialect: Dialect, body: &[u8]) -> Result<Parsed, Failure> {
    let language = &state.cluster.language;
    match dialect {
        Dialect::Chat => chat::parse(language, body),
        Dialect::Completions => completions::parse(language, body),
        Dialect::Responses => responses::parse(language, body),
        Dialect::Messages => messages::parse(language, body),
        Dialect::Tokens => tokens::parse(body),
        Dialect::Sglang => sglang::parse(language, body),
    }
}

async fn begin(
    state: &EngineState,
    dialect: Dialect,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(Reply, Call, Delivery), Failure> {
    let Parsed { mut ask, delivery, shown } = parse(state, dialect, body)?;
    if state.control().is_some_and(|control| control.sleep() != Sleep::Awake) {
        return Err(Failure::unavailable("The engine is sleeping.".to_owned()));
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    ask.rank = header("x-data-parallel-rank").and_then(|rank| rank.parse().ok());
    ask.session_id = ask.session_id.or_else(|| header("x-session-id").map(str::to_owned));
    if ask.model.is_empty() && matches!(dialect, Dialect::Tokens | Dialect::Sglang) {
        ask.model.clone_from(&state.cluster.model);
    }
    state.cluster.adapter(&ask.model)?;
    check_length(&ask, state.cluster.max_model_len)?;
    let call = Call::begin(state, &ask, None).await?;
    Ok((Reply::new(dialect, &ask.model, state.cluster.next_id(), shown), call, delivery))
}

/// vLLM's check against `max_model_len`, in its words.
fn check_length(ask: &Ask, limit: u32) -> Result<(), Failure> {
    for prompt in &ask.prompts {
        let tokens = u64::try_from(prompt.len()).unwrap_or(u64::MAX);
        let output = u64::from(ask.max_tokens.unwrap_or(1));
        if tokens + output > u64::from(limit) {
            return Err(Failure::bad(format!(
                "This model's maximum context length is {limit} tokens. However, you requested {} tokens ({tokens} in the \
                 messages, {output} in the completion). Please reduce the length of the messages or completion.",
                tokens + output
            )));
        }
        if prompt.is_empty() {
            return Err(Failure::bad("The prompt must not be empty.".to_owned()));
        }
    }
    match ask.prompts.len().saturating_mul(ask.samples) {
        0 => Err(Failure::bad("There must be at least one prompt and n must be at least 1.".to_owned())),
        1..=MOST_ANSWERS => Ok(()),
        more => Err(Failure::bad(format!("A request may ask for {MOST_ANSWERS} answers at most, got {more}."))),
    }
}

fn stream_response(narration: Narration) -> Response {
    let mut response = Response::new(Body::from_stream(narration));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    response
}

impl From<crate::infer::CallError> for Failure {
    fn from(error: crate::infer::CallError) -> Self {
        use crate::engine::SubmitError;
        use crate::infer::CallError;
        let message = error.to_string();
        match error {
            CallError::UnknownModel(_) => Self { problem: Problem::NotFound, param: Some("model"), message },
            CallError::Refused(SubmitError::TooLong { .. } | SubmitError::EmptyPrompt) => Self::bad(message),
            CallError::Refused(SubmitError::DuplicateId(_)) | CallError::Stopped(_) => {
                Self { problem: Problem::Internal, param: None, message }
            }
        }
    }
}
