//! View → JSON of the API, pure. Field names are the configuration's; ages and times are in seconds.

use serde_json::{Value, json};
use shared::clock::Timestamp;

use crate::datastore::{EndpointView, LoadSample, PoolView, Readiness, View};
use crate::exact::status::PrefixStatus;
use crate::publish::status::Status;

/// `/api/v1/pools`; `status` knows how each one's prefixes are known.
#[must_use]
pub fn pools(view: &View, status: &Status) -> Value {
    let prefixes = |name: &str| {
        let published = status.pools.iter().find(|pool| pool.name == name)?;
        let PrefixStatus { mode, reason, since, model, doubt, truth, .. } = &published.prefixes;
        let known =
            json!({"mode": mode, "reason": reason, "since": since, "model": model, "doubt": doubt, "truth": truth});
        Some(known)
    };
    Value::Array(view.pools.iter().map(|view| pool(view, prefixes(&view.name))).collect())
}

/// `/api/v1/endpoints`, of one pool or of all.
#[must_use]
pub fn endpoints(view: &View, wanted: Option<&str>, now: Timestamp) -> Value {
    let pools = view.pools.iter().filter(|pool| wanted.is_none_or(|name| name == pool.name));
    pools.flat_map(|pool| pool.endpoints.iter().map(|e| endpoint(pool, e, now))).collect()
}

fn pool(pool: &PoolView, prefixes: Option<Value>) -> Value {
    let count = |state: &str| pool.endpoints.iter().filter(|e| name(&e.readiness) == state).count();
    let settings = &pool.settings;
    json!({
        "name": pool.name,
        "prefixes": prefixes,
        "models": pool.models.iter().map(|m| json!({"name": m.name, "base": m.base})).collect::<Vec<_>>(),
        "endpoints": {"ready": count("ready"), "draining": count("draining"), "unhealthy": count("unhealthy")},
        "settings": {
            "chunkBytes": settings.chunk_bytes,
            "sloTtftSeconds": settings.slo_ttft_seconds,
            "sloTpotSeconds": settings.slo_tpot_seconds,
            "choices": settings.choices,
            "explain": settings.explain,
            "maxBodyBytes": settings.max_body_bytes,
            "sessionHeader": settings.session_header,
            "staleAfterSeconds": f64::from(settings.stale_after_ms) / 1000.0,
        },
    })
}

fn endpoint(pool: &PoolView, endpoint: &EndpointView, now: Timestamp) -> Value {
    let reason = match &endpoint.readiness {
        Readiness::Unhealthy(reason) => Some(reason),
        Readiness::Ready | Readiness::Draining => None,
    };
    json!({
        "pool": pool.name,
        "address": endpoint.address,
        "id": format!("{:016x}", endpoint.id.0),
        "state": name(&endpoint.readiness),
        "reason": reason,
        "labels": endpoint.labels,
        "models": endpoint.models,
        "load": endpoint.load.as_ref().map(|sample| load(sample, now)),
    })
}

fn load(sample: &LoadSample, now: Timestamp) -> Value {
    json!({
        "ageSeconds": now.since(sample.at).as_secs_f64(),
        "running": sample.running,
        "waiting": sample.waiting,
        "kvUsed": sample.kv_used,
        "kvCapacityTokens": sample.kv_capacity_tokens(),
        "adapters": sample.adapters,
    })
}

const fn name(readiness: &Readiness) -> &'static str {
    match readiness {
        Readiness::Ready => "ready",
        Readiness::Draining => "draining",
        Readiness::Unhealthy(_) => "unhealthy",
    }
}
