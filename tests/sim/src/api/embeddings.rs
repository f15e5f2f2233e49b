//! `/v1/embeddings`: the prompt is prefilled like any other, nothing is generated. Vectors are deterministic unit vectors of 16
//! numbers unless `dimensions` says otherwise.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::{Failure, engine_dead};
use super::prompt::Prompts;
use super::reply::{Reply, Shown, usage};
use super::{Dialect, check_length};
use crate::cluster::EngineState;
use crate::infer::{Ask, Call, Choice};

const DIMENSIONS: u32 = 16;
const MOST_DIMENSIONS: u32 = 8192;

#[derive(Deserialize)]
struct Body {
    model: String,
    input: Prompts,
    dimensions: Option<u32>,
    cache_salt: Option<String>,
}

pub(super) async fn embed(State(state): State<EngineState>, body: Bytes) -> Response {
    match answer(&state, &body).await {
        Ok(response) => response,
        Err(failure) => failure.in_dialect(Dialect::Completions),
    }
}

async fn answer(state: &EngineState, body: &[u8]) -> Result<Response, Failure> {
    let body: Body = serde_json::from_slice(body)?;
    let dimensions = body.dimensions.unwrap_or(DIMENSIONS);
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        return Err(Failure::bad(format!("dimensions: must be 1 to {MOST_DIMENSIONS}, got {dimensions}")));
    }
    let ask = Ask {
        model: body.model,
        prompts: body.input.into_tokens(&state.cluster.language),
        samples: 1,
        max_tokens: Some(0),
        cache_salt: body.cache_salt,
        ..Ask::default()
    };
    state.cluster.adapter(&ask.model)?;
    check_length(&ask, state.cluster.max_model_len)?;
    let mut call = Call::begin(state, &ask, Some(0)).await?;
    while call.next().await.is_some() {}
    if !call.is_complete() {
        return Ok(engine_dead(Dialect::Completions));
    }
    let reply = Reply::new(Dialect::Completions, &ask.model, state.cluster.next_id(), Shown::default());
    let data: Vec<Value> = call
        .choices
        .iter()
        .enumerate()
        .map(|(index, choice)| json!({"index": index, "object": "embedding", "embedding": vector(choice, dimensions)}))
        .collect();
    Ok(Json(json!({
        "id": reply.id.replace("cmpl-", "embd-"), "object": "list", "created": reply.created, "model": reply.model,
        "data": data, "usage": usage(&call),
    }))
    .into_response())
}

fn vector(choice: &Choice, dimensions: u32) -> Vec<f64> {
    let raw: Vec<f64> = (0..dimensions)
        .map(|index| u32::try_from(choice.voice.draw(index) % 2001).map_or(0.0, f64::from) - 1000.5)
        .collect();
    let norm = raw.iter().map(|value| value * value).sum::<f64>().sqrt();
    raw.into_iter().map(|value| value / norm).collect()
}
