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
use crate::engine::EngineSnapshot;

/// `/sim/state`, `/sim/fault`, `/sim/reset` of one engine.
pub(crate) fn engine_router(state: EngineState) -> Router {
    Router::new()
        .route("/sim/state", get(async |State(state): State<EngineState>| look(&state.cluster, state.index).await))
        .route(
            "/sim/fault",
            post(async |State(state): State<EngineState>, body: String| {
                inject(&state.cluster, state.index, &body).await
            }),
        )
        .route("/sim/reset", post(async |State(state): State<EngineState>| reset(&state.cluster, state.index).await))
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
            post(async |State(state): Cluster, Path(index): Path<usize>, body: String| {
                inject(&state, index, &body).await
            }),
        )
        .route(
            "/engines/{index}/reset",
            post(async |State(state): Cluster, Path(index): Path<usize>| reset(&state, index).await),
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

async fn inject(state: &ClusterState, index: usize, body: &str) -> Response {
    match parse_fault(body) {
        Ok(fault) => done(state.inject(index, fault).await),
        Err(error) => failure(StatusCode::BAD_REQUEST, &error),
    }
}

async fn reset(state: &ClusterState, index: usize) -> Response {
    done(state.reset(index).await)
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
    let mut reports = Vec::new();
    for host in state.hosts(index) {
        reports.push(state.driver.report(host).await.ok()?);
    }
    let sum = |figure: fn(&EngineSnapshot) -> u64| reports.iter().map(|report| figure(&report.state)).sum::<u64>();
    let batches: Vec<Option<u64>> = reports.iter().map(|report| report.kv_batches).collect();
    Some(json!({
        "index": index,
        "address": control.address.to_string(),
        "in_flight": sum(|engine| u64::from(engine.arriving + engine.waiting + engine.running)),
        "running": sum(|engine| engine.running.into()),
        "waiting": sum(|engine| engine.waiting.into()),
        "blocks": {
            "total": reports.iter().map(|report| u64::from(report.config.num_gpu_blocks)).sum::<u64>(),
            "used": sum(|engine| engine.blocks_used.into()),
            "cached_idle": sum(|engine| engine.blocks_idle.into()),
            "blank": sum(|engine| engine.blocks_blank.into()),
            "cached": sum(|engine| engine.blocks_cached.into()),
            "cpu": sum(|engine| engine.blocks_cpu.into()),
            "storage": sum(|engine| engine.blocks_storage.into()),
        },
        "requests": {
            "received": control.received.load(Ordering::Relaxed),
            "answered": control.answered.load(Ordering::Relaxed),
            "finished": sum(|engine| engine.finished),
            "aborted": sum(|engine| engine.aborted),
        },
        "tokens": {
            "prompt": sum(|engine| engine.prompt_tokens),
            "generation": sum(|engine| engine.generation_tokens),
            "prefix_queries": sum(|engine| engine.prefix_queries),
            "prefix_hits": sum(|engine| engine.prefix_hits),
            "external_hits": sum(|engine| engine.external_hits),
        },
        "preemptions": sum(|engine| engine.preemptions),
        "evictions": sum(|engine| engine.evictions),
        "kv_batches": batches,
        "faults": {
            "refusing": matches!(*control.door.borrow(), Door::Closed { .. }),
            "slow": *control.slow.lock().unwrap_or_else(PoisonError::into_inner),
            "answer": control.faults.lock().unwrap_or_else(PoisonError::into_inner).describe(),
        },
    }))
}
