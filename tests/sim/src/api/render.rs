//! `…/render` and Anthropic's `count_tokens`: what the engine would compute, without computing it. The oracle for whoever renders and tokenizes himself.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Dialect, Parsed, messages, parse};
use crate::cluster::EngineState;

/// One `GenerateRequest`, or for completions a list of them, one per prompt.
pub(super) fn rendered(state: &EngineState, dialect: Dialect, body: &[u8]) -> Response {
    let Parsed { ask, shown, .. } = match parse(state, dialect, body) {
        Ok(parsed) => parsed,
        Err(failure) => return failure.in_dialect(dialect),
    };
    let requests: Vec<Value> = ask
        .prompts
        .iter()
        .map(|tokens| {
            json!({
                "request_id": format!("render-{:016x}", state.cluster.next_id().0), "token_ids": tokens, "features": null,
                "sampling_params": {"n": ask.samples, "max_tokens": ask.max_tokens}, "model": ask.model, "stream": false,
                "cache_salt": ask.cache_salt, "priority": 0, "kv_transfer_params": null,
                "prompt_text": shown.prompt_text,
            })
        })
        .collect();
    match (dialect, requests.as_slice()) {
        (Dialect::Completions, _) => Json(requests).into_response(),
        (_, requests) => Json(requests.first()).into_response(),
    }
}

/// Anthropic's count; `max_tokens` is not asked for there.
pub(super) async fn count(State(state): State<EngineState>, body: Bytes) -> Response {
    match messages::counted(&state.cluster.language, &body) {
        Ok(tokens) => Json(json!({"input_tokens": tokens})).into_response(),
        Err(failure) => failure.in_dialect(Dialect::Messages),
    }
}
