//! The simulator's own HTTP surface: look at engines, inject faults, take them off.
//!
//! The same three operations exist on each engine's port (`/sim/…`) and, for engines that refuse connections, on the admin
//! port (`/engines/{i}/…`).

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::cluster::{ClusterState, Door, EngineState, InjectError, parse_fault};

/// `/sim/state`, `/sim/fault`, `/sim/reset` of one engine.
pub(crate) fn engine_router(state: EngineState) -> Router {
    Router::new()
        .route("/sim/state", get(async |State(state): State<EngineState>| look(&state.cluster, state.index).await))
        .route(
            "/sim/fault",
            post(async |State(state): State<EngineState>, body: String| inject(&state.cluster, state.index, &body)),
        )
        .route("/sim/reset", post(async |State(state): State<EngineState>| reset(&state.cluster, state.index)))
        .with_state(state)
}

/// `/engines` and the same per index.
pub(crate) fn process_router(state: Arc<ClusterState>) -> Router {
    type Cluster = State<Arc<ClusterState>>;
    Router::new()
        .route("/engines", get(list))
        .route(
            "/engines/{index}/state",
            get(async |State(state): Cluster, Path(index): Path<usize>| look(&state, index).await),
        )
        .route(
            "/engines/{index}/fault",
            post(async |State(state): Cluster, Path(index): Path<usize>, body: String| inject(&state, index, &body)),
        )
        .route(
            "/engines/{index}/reset",
            post(async |State(state): Cluster, Path(index): Path<usize>| reset(&state, index)),
        )
        .with_state(state)
}

async fn list(State(state): State<Arc<ClusterState>>) -> Response {
    let mut engines = Vec::new();
    for index in 0..state.controls.len() {
        engines.push(describe(&state, index).await.unwrap_or_default());
    }
    Json(engines).into_response()
}

async fn look(state: &ClusterState, index: usize) -> Response {
    match describe(state, index).await {
        Some(description) => Json(description).into_response(),
        None => failure(StatusCode::NOT_FOUND, &InjectError::NoSuchEngine(index).to_string()),
    }
}

fn inject(state: &ClusterState, index: usize, body: &str) -> Response {
    match parse_fault(body) {
        Ok(fault) => done(state.inject(index, fault)),
        Err(error) => failure(StatusCode::BAD_REQUEST, &error),
    }
}

fn reset(state: &ClusterState, index: usize) -> Response {
    done(state.reset(index))
}

fn done(outcome: Result<(), InjectError>) -> Response {
    match outcome {
        Ok(()) => Json(json!({"ok": true})).into_response(),
        Err(error @ InjectError::NoSuchEngine(_)) => failure(StatusCode::NOT_FOUND, &error.to_string()),
        Err(error @ InjectError::Stopped(_)) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn failure(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": message}))).into_response()
}

async fn describe(state: &ClusterState, index: usize) -> Option<Value> {
    let control = state.controls.get(index)?;
    let report = state.driver.report(index).await.ok()?;
    let engine = &report.state;
    Some(json!({
        "index": index,
        "address": control.address.to_string(),
        "in_flight": engine.arriving + engine.waiting + engine.running,
        "running": engine.running,
        "waiting": engine.waiting,
        "blocks": {
            "total": report.config.num_gpu_blocks,
            "used": engine.blocks_used,
            "cached_idle": engine.blocks_idle,
            "blank": engine.blocks_blank,
            "cached": engine.blocks_cached,
        },
        "requests": {
            "received": control.received.load(Ordering::Relaxed),
            "answered": control.answered.load(Ordering::Relaxed),
            "finished": engine.finished,
            "aborted": engine.aborted,
        },
        "tokens": {
            "prompt": engine.prompt_tokens,
            "generation": engine.generation_tokens,
            "prefix_queries": engine.prefix_queries,
            "prefix_hits": engine.prefix_hits,
        },
        "preemptions": engine.preemptions,
        "evictions": engine.evictions,
        "faults": {
            "refusing": matches!(*control.door.borrow(), Door::Closed { .. }),
            "slow": *control.slow.lock().unwrap_or_else(PoisonError::into_inner),
            "answer": control.faults.lock().unwrap_or_else(PoisonError::into_inner).describe(),
        },
    }))
}
