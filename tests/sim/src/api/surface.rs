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
use super::prompt::{ChatOptions, Message, read};
use crate::cluster::{EngineControl, EngineState, Sleep, unix_seconds};
use crate::prometheus::{Adapters, Page, Rank, render};

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
    Chat {
        messages: Vec<Message>,
        #[serde(flatten)]
        options: ChatOptions,
    },
    Text {
        prompt: String,
    },
}

pub(super) async fn tokenize(State(state): State<EngineState>, body: Bytes) -> Response {
    let language = &state.cluster.language;
    let tokens = match serde_json::from_slice(&body) {
        Ok(TokenizeBody::Text { prompt }) => language.read_prompt(&prompt),
        Ok(TokenizeBody::Chat { messages, options }) => match read(language, &Value::Null, messages, options) {
            Ok(rendered) => rendered.tokens,
            Err(failure) => return failure.in_dialect(Dialect::Chat),
        },
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

pub(super) async fn detokenize(State(state): State<EngineState>, body: Bytes) -> Response {
    match serde_json::from_slice::<DetokenizeBody>(&body) {
        Ok(body) => Json(json!({"prompt": state.cluster.language.tokenizer.decode(&body.tokens)})).into_response(),
        Err(error) => Failure::from(error).in_dialect(Dialect::Chat),
    }
}

pub(super) async fn metrics(State(state): State<EngineState>) -> Response {
    let cluster = &state.cluster;
    let mut reports = Vec::new();
    for host in cluster.hosts(state.index) {
        let Ok(report) = cluster.driver.report(host).await else { return engine_dead(Dialect::Chat) };
        reports.push(report);
    }
    let ranks: Vec<Rank<'_>> = reports
        .iter()
        .map(|report| Rank {
            config: &report.config,
            state: &report.state,
            observed: &report.observed,
            adapters: Adapters { running: &report.running_adapters, waiting: &report.waiting_adapters },
        })
        .collect();
    let page = Page {
        model: &cluster.model,
        ranks: &ranks,
        sleep: state.control().map_or(Sleep::Awake, EngineControl::sleep),
        hash_algorithm: cluster.hash_algorithm.name(),
        most_adapters: cluster.adapters.len(),
        stamp: unix_seconds().as_secs_f64(),
    };
    match render(&page) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
