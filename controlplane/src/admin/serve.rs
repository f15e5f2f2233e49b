//! The HTTP server: routes, readiness, graceful end. Handlers read snapshots and never wait for anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::inspect;
use crate::clock;
use crate::config::kubernetes::Membership;
use crate::datastore::View;
use crate::explain::serve::Explainer;
use crate::explain::{Asked, DEFAULT_PATH, ExplainError};
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::lease::drive::Leadership;
use crate::publish::status::Status;
use crate::telemetry::{METRICS_CONTENT_TYPE, Metrics};

/// Request bodies to be explained may be as long as this; a pool's own limit is checked as a gateway would.
const LONGEST_BODY: usize = 64 << 20;

/// What the handlers read.
#[derive(Clone)]
pub struct Admin {
    /// The newest view.
    pub view: watch::Receiver<Arc<View>>,
    /// The cluster.
    pub cluster: Known,
    /// Is the first discovery in, does gRPC serve, and is nobody stopping?
    pub ready: watch::Receiver<bool>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What is published.
    pub tables: watch::Receiver<Arc<Status>>,
    /// Who explains decisions.
    pub explainer: Explainer,
}

/// What is known of the cluster.
#[derive(Clone)]
pub struct Known {
    /// Its objects.
    pub cluster: watch::Receiver<Arc<Cluster>>,
    /// Which pods each pool has.
    pub memberships: watch::Receiver<Arc<BTreeMap<String, Membership>>>,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
}

#[derive(Deserialize)]
struct Wanted {
    pool: Option<String>,
    path: Option<String>,
}

/// Serves until `stop`.
///
/// # Errors
/// When the socket fails.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/pools", get(pools))
        .route("/api/v1/endpoints", get(endpoints))
        .route("/api/v1/leader", get(leader))
        .route("/api/v1/table", get(table))
        .route("/api/v1/explain", post(explain).layer(DefaultBodyLimit::max(LONGEST_BODY)))
        .with_state(admin);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if *admin.ready.borrow() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], admin.metrics.text())
}

async fn pools(State(admin): State<Admin>) -> impl IntoResponse {
    let (cluster, memberships) = (admin.cluster.cluster.borrow(), admin.cluster.memberships.borrow());
    let source = |pool: &str| Some(inspect::source(memberships.get(pool)?, &cluster));
    Json(inspect::pools(&admin.view.borrow(), &admin.tables.borrow(), &source))
}

async fn leader(State(admin): State<Admin>) -> impl IntoResponse {
    let Leadership { leads, holder, fault } = admin.cluster.leadership.borrow().clone();
    Json(json!({"leads": leads, "holder": holder, "fault": fault}))
}

async fn endpoints(State(admin): State<Admin>, Query(wanted): Query<Wanted>) -> Response {
    let view = Arc::clone(&admin.view.borrow());
    match wanted.pool.as_deref() {
        Some(name) if !view.pools.iter().any(|pool| pool.name == name) => {
            refused(&ExplainError::NoSuchPool(name.to_owned()))
        }
        pool => Json(inspect::endpoints(&view, pool, clock::now())).into_response(),
    }
}

async fn table(State(admin): State<Admin>, Query(wanted): Query<Wanted>) -> Response {
    let status = Arc::clone(&admin.tables.borrow());
    match wanted.pool {
        None => Json(&*status).into_response(),
        Some(name) => match status.pools.iter().find(|pool| pool.name == name) {
            Some(pool) => Json(pool).into_response(),
            None => refused(&ExplainError::NoSuchPool(name)),
        },
    }
}

async fn explain(
    State(admin): State<Admin>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked = Asked {
        pool: wanted.pool,
        path: wanted.path.unwrap_or_else(|| DEFAULT_PATH.to_owned()),
        headers: headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect(),
        body: body.to_vec(),
    };
    admin.explainer.explain(asked).await.map_or_else(|error| refused(&error), |value| Json(value).into_response())
}

fn refused(error: &ExplainError) -> Response {
    let status = match error {
        ExplainError::NoSuchPool(_) => StatusCode::NOT_FOUND,
        ExplainError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        ExplainError::Table(_) => StatusCode::INTERNAL_SERVER_ERROR,
        // As a gateway would answer it, byte for byte.
        ExplainError::Refused(reply) => {
            let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return (status, axum::response::AppendHeaders(reply.headers.clone()), reply.body.clone()).into_response();
        }
    };
    (status, Json(json!({"error": error.to_string()}))).into_response()
}
