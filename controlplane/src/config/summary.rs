//! What a configuration will do, in words: the output of `kvasir check`.

use std::fmt::Write as _;

use super::human::{show_duration, show_size};
use super::kubernetes::{Kubernetes, Membership, Namespaces, Picker};
use super::{Config, Discovery, EndpointPicker, ModelFiles, Pool, Tls};
use crate::llmd::explain;

/// Lines for people. `listed` tells how many endpoints a pool's file lists now, or why it cannot be read.
#[must_use]
pub fn summary(config: &Config, listed: &dyn Fn(&Pool) -> Result<usize, String>) -> String {
    let mut out = String::new();
    let secured = match &config.tls {
        None => "",
        Some(Tls { client_ca: None, .. }) => " with TLS",
        Some(Tls { client_ca: Some(_), .. }) => " with TLS, showing a certificate",
    };
    line(&mut out, 0, format!("gateways connect to gRPC {}{secured}", config.grpc));
    line(&mut out, 0, format!("metrics, health and API on http://{}", config.http));
    if let Some(events) = config.events {
        line(&mut out, 0, format!("engines may connect to {events} and publish KV events"));
    }
    let first = config.pools.iter().map(|pool| pool.name.as_str()).min().filter(|_| config.pools.len() > 1);
    for pool in &config.pools {
        let default = if first == Some(&pool.name) { " (gets requests that name no model, too)" } else { "" };
        line(&mut out, 0, format!("pool {}{default}", pool.name));
        describe(&mut out, pool, listed(pool));
    }
    cluster(&mut out, &config.kubernetes);
    envoy(&mut out, config);
    out
}

/// Of the Envoy that we render, where we can.
fn envoy(out: &mut String, config: &Config) {
    let gateway = &config.gateway;
    line(out, 0, format!("Envoy (kvasir envoy, kvasir standalone) on http://{}", gateway.listen));
    line(out, 1, format!("filter {} in {:?} mode, admin {}", gateway.wasm.display(), gateway.mode, gateway.admin));
    if config.kubernetes.pools.is_some() {
        line(out, 1, "clusters of the pools listed above only, none of those found in the cluster".to_owned());
    }
    let secured = match (&gateway.tls, &config.tls) {
        (None, None) => return,
        (None, Some(_)) => "refused as it is: gateway.tls must say how it speaks TLS to the control plane".to_owned(),
        (Some(tls), _) => {
            let shown = tls.identity.as_ref().map(|identity| format!(", showing {}", identity.cert.display()));
            let name = tls.server_name.as_deref().unwrap_or("the host it connects to");
            let (ca, shown) = (tls.ca.display(), shown.unwrap_or_default());
            format!("TLS to the control plane: a certificate for {name} by {ca}{shown}")
        }
    };
    line(out, 1, secured);
}

fn cluster(out: &mut String, kubernetes: &Kubernetes) {
    if let Some(rules) = &kubernetes.pools {
        let which = match &rules.picker {
            Picker::Any => "every InferencePool".to_owned(),
            Picker::Service(service) => format!("every InferencePool whose endpointPickerRef names {service}"),
        };
        let namespaces = match &kubernetes.namespaces {
            Namespaces::Own => "our own namespace".to_owned(),
            Namespaces::All => "all namespaces".to_owned(),
            Namespaces::Named(names) => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
        };
        let grace = show_duration(rules.drain_grace());
        line(out, 0, format!("a pool for {which} in {namespaces}; one that vanishes drains for {grace}"));
        if let Some(picker) = rules.endpoint_picker() {
            endpoint_picker(out, picker, rules.is_exact());
        }
    }
    if let Some(election) = &kubernetes.leader_election {
        let duration = show_duration(election.lease_duration);
        line(out, 0, format!("one replica leads, by Lease {} of {duration}", election.lease));
    }
}

fn pods(membership: &Membership) -> String {
    let within = |namespace: &Option<String>| namespace.clone().unwrap_or_else(|| "our own namespace".to_owned());
    match membership {
        Membership::InferencePool { namespace, name } => {
            format!("are the pods of InferencePool {name} in {}", within(namespace))
        }
        Membership::Selector { namespace, labels, ports } => {
            let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            let (labels, ports) = (labels.join(","), ports.join(", "));
            format!("are the pods with {labels} in {}, port {ports}", within(namespace))
        }
    }
}

fn residency(pool: &Pool) -> String {
    let Some(exact) = &pool.exact else { return "prefixes learned from routes".to_owned() };
    let files = match &exact.files {
        ModelFiles::Folder(path) => path.display().to_string(),
        ModelFiles::Hub { endpoint, model, revision } => {
            let hub = endpoint.as_deref().unwrap_or("$HF_ENDPOINT or https://huggingface.co");
            format!("{model} ({revision}) at {hub}")
        }
    };
    let events = exact
        .events
        .as_ref()
        .map_or_else(|| "where each engine says".to_owned(), |ports| format!("port {} of each engine", ports.publish));
    format!("prefixes exact, from KV events ({events}); tokenizer and template from {files}")
}

fn flow_control(settings: &shared::wire::PoolSettings) -> String {
    use shared::wire::flow_control::Hold;
    let Some(flow) = &settings.flow else {
        let shed = settings.admission.as_ref().is_some_and(|admission| admission.shed.is_some());
        let but = if shed {
            "; those of a priority below 0 are refused while llm-d's detector finds the pool full"
        } else {
            ""
        };
        return format!("flow control: off; no request ever waits in the gateway{but}");
    };
    let hold = match &flow.hold {
        Some(Hold::Utilization(_)) => "llm-d's utilization detector",
        Some(Hold::Concurrency(_)) => "llm-d's concurrency detector",
        Some(Hold::Prediction(_)) | None => "the prediction for the chosen endpoint",
    };
    let band = |band: &shared::wire::Band| format!("{} (up to {}s)", band.priority, band.ttl_seconds);
    let bands: Vec<String> = flow.bands.iter().map(band).collect();
    format!("flow control: requests wait on {hold}; bands by priority: {}", bands.join(", "))
}

fn describe(out: &mut String, pool: &Pool, listed: Result<usize, String>) {
    let count = listed.map_or_else(|error| format!("NOT READABLE NOW: {error}"), |n| format!("{n} endpoints now"));
    let source = match &pool.discovery {
        Discovery::File { path, watch } => {
            let mode = if *watch { "followed" } else { "read once" };
            format!("from {} ({mode}): {count}", path.display())
        }
        Discovery::Static(_) => format!("from this file: {count}"),
        Discovery::Kubernetes(membership) => pods(membership),
    };
    line(out, 1, format!("endpoints {source}; removed ones drain for {}", show_duration(pool.drain_grace)));
    let models = pool.models.as_ref().map_or_else(
        || "learned from /v1/models".to_owned(),
        |models| models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>().join(", "),
    );
    line(out, 1, format!("models {models}"));
    line(out, 1, residency(pool));
    let settings = &pool.settings;
    line(
        out,
        1,
        format!(
            "SLO: TTFT {}s, TPOT {}s; {} choices per request; bodies up to {}; chunks of {} bytes; explain {}",
            settings.slo_ttft_seconds,
            settings.slo_tpot_seconds,
            settings.choices,
            show_size(settings.max_body_bytes),
            settings.chunk_bytes,
            if settings.explain { "allowed" } else { "off" },
        ),
    );
    let session = if settings.session_header.is_empty() { "off" } else { settings.session_header.as_str() };
    line(out, 1, format!("session affinity: {session}"));
    line(out, 1, flow_control(settings));
    probes(out, pool);
    if let Some(picker) = &pool.endpoint_picker {
        endpoint_picker(out, picker, pool.exact.is_some());
    }
}

fn probes(out: &mut String, pool: &Pool) {
    let settings = &pool.settings;
    let scrape = &pool.scrape;
    line(
        out,
        1,
        format!(
            "{} metrics at {}, every {} busy to {} idle, timeout {}; unknown after {}ms",
            pool.engine.name(),
            scrape.path,
            show_duration(scrape.busy),
            show_duration(scrape.idle),
            show_duration(scrape.timeout),
            settings.stale_after_ms,
        ),
    );
    let health = &pool.health;
    line(
        out,
        1,
        format!(
            "health at {} every {}: out after {} failures, back after {} successes",
            health.path,
            show_duration(health.interval),
            health.unhealthy_after,
            health.healthy_after,
        ),
    );
    line(out, 1, failover(settings));
}

fn failover(settings: &shared::wire::PoolSettings) -> String {
    let named = |seconds: f64| if seconds > 0.0 { format!("{seconds}s") } else { "off".to_owned() };
    format!(
        "failover: first token within {}; slow start {}; no hedging",
        named(settings.first_token_timeout_seconds),
        named(settings.slow_start_seconds),
    )
}

fn endpoint_picker(out: &mut String, picker: &EndpointPicker, exact: bool) {
    let source = picker.file.as_ref().map_or_else(|| "this file".to_owned(), |file| file.display().to_string());
    line(out, 1, format!("chosen by llm-d's EndpointPickerConfig in {source}, not by cost"));
    out.push_str(&explain(&picker.loaded, "    "));
    if picker.loaded.wants_exact && !exact {
        let note = "note: it asks for prefixes from KV events, and this pool has no exact: they are learned";
        line(out, 2, note.to_owned());
    }
}

fn line(out: &mut String, depth: usize, text: String) {
    // Writing into a String cannot fail.
    let _written = writeln!(out, "{}{text}", "  ".repeat(depth));
}
