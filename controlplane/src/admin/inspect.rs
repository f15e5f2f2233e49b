//! View → JSON of the API, pure. Field names are the configuration's; ages and times are in seconds.

use serde_json::{Value, json};
use shared::clock::Timestamp;
use shared::wire;

use crate::config::kubernetes::Membership;
use crate::datastore::{Adapters, EndpointView, LoadSample, PoolView, Readiness, View};
use crate::exact::status::PrefixStatus;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::rewrite::{ModelRewrite, Rule, Target};
use crate::publish::status::Status;

/// `/api/v1/pools`; `status` knows how each one's prefixes are known, `source` what the cluster says of it.
#[must_use]
pub fn pools(view: &View, status: &Status, source: &dyn Fn(&str) -> Option<Value>) -> Value {
    let prefixes = |name: &str| {
        let published = status.pools.iter().find(|pool| pool.name == name)?;
        let PrefixStatus { mode, reason, since, model, doubt, truth, .. } = &published.prefixes;
        let known =
            json!({"mode": mode, "reason": reason, "since": since, "model": model, "doubt": doubt, "truth": truth});
        Some(known)
    };
    Value::Array(view.pools.iter().map(|view| pool(view, prefixes(&view.name), source(&view.name))).collect())
}

/// `/api/v1/endpoints`, of one pool or of all.
#[must_use]
pub fn endpoints(view: &View, wanted: Option<&str>, now: Timestamp) -> Value {
    let pools = view.pools.iter().filter(|pool| wanted.is_none_or(|name| name == pool.name));
    pools.flat_map(|pool| pool.endpoints.iter().map(|e| endpoint(pool, e, now))).collect()
}

/// What a cluster says of a pool with these pods.
#[must_use]
pub fn source(membership: &Membership, cluster: &Cluster) -> Value {
    let namespace = membership.namespace(&cluster.own);
    let known = cluster.members(membership);
    let fault = known.as_ref().map_or(Some("not known yet"), |members| members.fault.as_deref());
    let pool = known.as_ref().and_then(|members| members.pool.as_deref());
    let name = match membership {
        Membership::InferencePool { name, .. } => Some(name.as_str()),
        Membership::Selector { .. } => None,
    };
    let (objectives, rewrites) = (cluster.objectives.of(namespace), cluster.rewrites.of(namespace));
    let objectives = objectives.iter().flat_map(|all| all.iter()).filter(|(_, one)| Some(one.pool.as_str()) == name);
    let rewrites = rewrites.iter().flat_map(|all| all.iter()).filter(|(_, one)| Some(one.pool.as_str()) == name);
    json!({
        "namespace": namespace,
        "inferencePool": name,
        "fault": fault,
        "selector": pool.map(|pool| &pool.selector),
        "ports": pool.map(|pool| &pool.ports),
        "objectives": objectives.map(|(name, one)| json!({"name": &**name, "priority": one.priority}))
            .collect::<Vec<_>>(),
        "rewrites": rewrites.map(|(name, one)| rewrite(name, one)).collect::<Vec<_>>(),
    })
}

fn rewrite(name: &str, rewrite: &ModelRewrite) -> Value {
    let target = |target: &Target| json!({"modelRewrite": target.model_rewrite, "weight": target.weight});
    let rule =
        |rule: &Rule| json!({"models": rule.models, "targets": rule.targets.iter().map(target).collect::<Vec<_>>()});
    json!({"name": name, "rules": rewrite.rules.iter().map(rule).collect::<Vec<_>>()})
}

/// A rule in force, as it is configured.
fn of_settings(rule: &wire::ModelRewrite) -> Value {
    let target = |target: &wire::RewriteTarget| match target.weight {
        0 => json!({"model": target.model}),
        weight => json!({"model": target.model, "weight": weight}),
    };
    json!({"models": rule.models, "targets": rule.targets.iter().map(target).collect::<Vec<_>>()})
}

fn pool(pool: &PoolView, prefixes: Option<Value>, kubernetes: Option<Value>) -> Value {
    let count = |state: &str| pool.endpoints.iter().filter(|e| name(&e.readiness) == state).count();
    let settings = &pool.settings;
    json!({
        "name": pool.name,
        "prefixes": prefixes,
        "kubernetes": kubernetes,
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
            "rewrites": settings.rewrites.iter().map(of_settings).collect::<Vec<_>>(),
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
        "adapters": sample.adapters.as_ref().map(Adapters::names).unwrap_or_default(),
        "attributes": sample.attributes,
    })
}

const fn name(readiness: &Readiness) -> &'static str {
    match readiness {
        Readiness::Ready => "ready",
        Readiness::Draining => "draining",
        Readiness::Unhealthy(_) => "unhealthy",
    }
}
