//! vLLM's routes for operators: where KV events are, sleeping and waking, forgetting the prefix cache.
//!
//! The real ones but `/kv_event_sources` need `VLLM_SERVER_DEV_MODE=1`; here they are always there.

use std::time::Duration;

use axum::extract::{Query, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Dialect;
use super::failure::{Failure, engine_dead};
use crate::cluster::{EngineState, Sleep};
use crate::drive::{Driver, DriverStopped, Forget};

pub(super) fn router() -> Router<EngineState> {
    Router::new()
        .route("/kv_event_sources", get(kv_event_sources))
        .route("/sleep", post(sleep))
        .route("/wake_up", post(wake_up))
        .route("/is_sleeping", get(is_sleeping))
        .route("/reset_prefix_cache", post(reset_prefix_cache))
}

/// By data-parallel rank; empty when nothing is published.
async fn kv_event_sources(State(state): State<EngineState>) -> Json<Value> {
    let ranks = state.cluster.sources.get(state.index).into_iter().flatten();
    let sources: Map<String, Value> =
        ranks.enumerate().map(|(rank, options)| (rank.to_string(), json!(options))).collect();
    Json(Value::Object(sources))
}

#[derive(Deserialize)]
#[serde(default)]
struct SleepQuery {
    level: u8,
    mode: Mode,
}

/// What becomes of requests under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Abort,
    Wait,
    /// They go on; a real engine freezes them.
    Keep,
}

impl Default for SleepQuery {
    fn default() -> Self {
        Self { level: 1, mode: Mode::Abort }
    }
}

async fn sleep(State(state): State<EngineState>, Query(query): Query<SleepQuery>) -> Response {
    let depth = match query.level {
        0 => Sleep::Paused,
        1 => Sleep::WeightsOffloaded,
        2 => Sleep::AllDiscarded,
        level => return Failure::bad(format!("level: must be 0 to 2, got {level}")).in_dialect(Dialect::Chat),
    };
    let Some(control) = state.control() else { return engine_dead(Dialect::Chat) };
    control.set_sleep(depth);
    match fall_asleep(&state, depth, query.mode).await {
        Ok(()) => Json(json!({"status": "sleeping"})).into_response(),
        Err(DriverStopped) => engine_dead(Dialect::Chat),
    }
}

async fn fall_asleep(state: &EngineState, depth: Sleep, mode: Mode) -> Result<(), DriverStopped> {
    let driver = &state.cluster.driver;
    for host in state.cluster.hosts(state.index) {
        if mode == Mode::Abort {
            driver.abort_all(host)?;
        }
        if mode == Mode::Wait {
            until_idle(driver, host).await?;
        }
        if depth != Sleep::Paused {
            driver.reset_cache(host, Forget::Device).await?;
        }
    }
    Ok(())
}

async fn until_idle(driver: &Driver, host: usize) -> Result<(), DriverStopped> {
    loop {
        let engine = driver.report(host).await?.state;
        if engine.arriving + engine.waiting + engine.running == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Without `tags`, or once `kv_cache` is among them, the engine is awake; waking the weights alone is not enough.
async fn wake_up(State(state): State<EngineState>, RawQuery(query): RawQuery) -> Response {
    let Some(control) = state.control() else { return engine_dead(Dialect::Chat) };
    let query = query.unwrap_or_default();
    if !query.contains("tags=") || query.contains("tags=kv_cache") {
        control.set_sleep(Sleep::Awake);
    }
    let status = if control.sleep() == Sleep::Awake { "awake" } else { "sleeping" };
    Json(json!({"status": status})).into_response()
}

async fn is_sleeping(State(state): State<EngineState>) -> Json<Value> {
    Json(json!({"is_sleeping": state.control().is_some_and(|control| control.sleep() != Sleep::Awake)}))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResetQuery {
    reset_running_requests: bool,
    reset_external: bool,
}

/// `success` is false while requests hold blocks; running ones are given up if asked for (a real engine recomputes them).
async fn reset_prefix_cache(State(state): State<EngineState>, Query(query): Query<ResetQuery>) -> Response {
    let forget = if query.reset_external { Forget::Everything } else { Forget::Device };
    let mut success = true;
    for host in state.cluster.hosts(state.index) {
        let aborted = if query.reset_running_requests { state.cluster.driver.abort_all(host) } else { Ok(()) };
        match (aborted, state.cluster.driver.reset_cache(host, forget).await) {
            (Ok(()), Ok(done)) => success &= done,
            _ => return engine_dead(Dialect::Chat),
        }
    }
    Json(json!({"success": success})).into_response()
}
