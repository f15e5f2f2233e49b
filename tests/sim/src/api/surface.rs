//! The routes that compute nothing: models, version, tokenizer, metrics.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Dialect;
use super::failure::{Failure, engine_dead};
use super::prompt::Message;
use crate::cluster::{EngineState, unix_seconds};
use crate::prometheus::{Adapters, Page, render};
use crate::text;

pub(super) async fn models(State(state): State<EngineState>) -> Json<Value> {
    let created = unix_seconds().as_secs();
    let cluster = &state.cluster;
    let card = |id: &str, parent: Option<&str>, length: Option<u32>| {
        json!({
            "id": id, "object": "model", "created": created, "owned_by": "vllm", "root": id, "parent": parent,
            "max_model_len": length, "permission": [],
        })
    };
    let base = card(&cluster.model, None, Some(cluster.max_model_len));
    let adapters = cluster.adapters.iter().map(|adapter| card(adapter, Some(&cluster.model), None));
    let data: Vec<Value> = std::iter::once(base).chain(adapters).collect();
    Json(json!({"object": "list", "data": data}))
}

pub(super) async fn version() -> Json<Value> {
    Json(json!({"version": concat!(env!("CARGO_PKG_VERSION"), "+vllm-sim")}))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenizeBody {
    Chat { messages: Vec<Message> },
    Text { prompt: String },
}

pub(super) async fn tokenize(State(state): State<EngineState>, body: Bytes) -> Response {
    let tokens = match serde_json::from_slice(&body) {
        Ok(TokenizeBody::Text { prompt }) => text::tokenize(&prompt),
        Ok(TokenizeBody::Chat { messages }) => {
            text::tokenize_chat(&messages.into_iter().map(Message::into_turn).collect::<Vec<_>>())
        }
        Err(error) => return Failure::from(error).in_dialect(Dialect::Chat),
    };
    Json(json!({
        "count": tokens.len(), "max_model_len": state.cluster.max_model_len, "tokens": tokens, "token_strs": null,
    }))
    .into_response()
}

#[derive(Deserialize)]
struct DetokenizeBody {
    tokens: Vec<u32>,
}

pub(super) async fn detokenize(body: Bytes) -> Response {
    match serde_json::from_slice::<DetokenizeBody>(&body) {
        Ok(body) => Json(json!({"prompt": text::detokenize(&body.tokens)})).into_response(),
        Err(error) => Failure::from(error).in_dialect(Dialect::Chat),
    }
}

pub(super) async fn metrics(State(state): State<EngineState>) -> Response {
    let Ok(report) = state.cluster.driver.report(state.index).await else { return engine_dead(Dialect::Chat) };
    let page = Page {
        model: &state.cluster.model,
        config: &report.config,
        state: &report.state,
        observed: &report.observed,
        adapters: Adapters {
            max: state.cluster.adapters.len(),
            running: &report.running_adapters,
            waiting: &report.waiting_adapters,
            stamp: unix_seconds().as_secs_f64(),
        },
    };
    match render(&page) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
