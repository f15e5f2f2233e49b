//! Raw → checked. All problems are collected, not only the first; defaults stand here and nowhere else.

mod budget;
mod endpoint_picker;
pub(super) mod flow;
mod gateway;
mod kubernetes;
mod rewrite;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bands::Bands;
use super::human::{HumanDuration, HumanSize, show_duration, show_size};
use super::raw;
use super::{
    Config, Discovery, EndpointPicker, EventPorts, Exact, Health, ModelFiles, Pool, Problem, ReadFile, Scrape, Tls,
};
use crate::discovery::static_file;
use crate::scrape::engine::Engine;

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Collects what is wrong; every check returns a usable value so that the next one can run.
#[derive(Default)]
struct Checks(Vec<Problem>);

impl Checks {
    fn refuse(&mut self, path: &str, rule: impl Into<String>, value: impl Display) {
        self.0.push(Problem { path: path.to_owned(), rule: rule.into(), value: value.to_string() });
    }

    fn duration(
        &mut self,
        path: &str,
        value: Option<HumanDuration>,
        default: Duration,
        range: (Duration, Duration),
    ) -> Duration {
        let value = value.map_or(default, |HumanDuration(value)| value);
        if value < range.0 || value > range.1 {
            let rule = format!("must be between {} and {}", show_duration(range.0), show_duration(range.1));
            self.refuse(path, rule, show_duration(value));
        }
        value
    }

    fn number(&mut self, path: &str, value: Option<u32>, default: u32, range: (u32, u32)) -> u32 {
        let value = value.unwrap_or(default);
        if value < range.0 || value > range.1 {
            self.refuse(path, format!("must be between {} and {}", range.0, range.1), value);
        }
        value
    }

    fn url_path(&mut self, path: &str, value: Option<String>, default: &str) -> String {
        let value = value.unwrap_or_else(|| default.to_owned());
        if !value.starts_with('/') || value.contains(|c: char| c.is_whitespace() || c.is_control()) {
            self.refuse(path, "must start with / and hold no spaces", format!("{value:?}"));
        }
        value
    }

    fn file(&mut self, path: &str, file: &Path, folder: &Path) -> PathBuf {
        if file.as_os_str().is_empty() {
            self.refuse(path, "must name a file", "nothing");
        }
        folder.join(file)
    }

    fn address(&mut self, path: &str, value: Option<raw::Address>, default: ([u8; 4], u16)) -> SocketAddr {
        match value {
            None => SocketAddr::from(default),
            Some(raw::Address::Port(port)) => SocketAddr::from(([0, 0, 0, 0], port)),
            Some(raw::Address::Full(text)) => text.parse().unwrap_or_else(|_| {
                self.refuse(path, "must be ip:port or a port", format!("{text:?}"));
                SocketAddr::from(default)
            }),
        }
    }

    fn name(&mut self, path: &str, name: &str) {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_');
        let part = |text: &str, longest| !text.is_empty() && text.len() <= longest && text.chars().all(legal);
        // Names of objects in a cluster are longer than those that people give here.
        let fits = match name.split_once('/') {
            None => part(name, 63),
            Some((namespace, name)) => part(namespace, 63) && part(name, 253),
        };
        if !fits {
            self.refuse(path, "must be 1 to 63 of a-z, 0-9, - . _ (or namespace/name)", format!("{name:?}"));
        }
    }
}

/// What a configuration refers to.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// Relative paths are relative to it.
    pub(super) folder: &'a Path,
    pub(super) read: &'a ReadFile<'a>,
}

/// What each pool has of its own.
struct Own {
    name: String,
    discovery: Discovery,
    drain_grace: Duration,
    endpoint_picker: Option<EndpointPicker>,
}

/// The whole file.
pub(super) fn config(raw: raw::Config, around: &Around<'_>) -> Result<Config, Vec<Problem>> {
    let folder = around.folder;
    let mut checks = Checks::default();
    let grpc = checks.address("listen.grpc", raw.listen.grpc, ([0, 0, 0, 0], 9002));
    let http = checks.address("listen.http", raw.listen.http, ([0, 0, 0, 0], 9090));
    let events = raw.listen.events.map(|address| checks.address("listen.events", Some(address), ([0, 0, 0, 0], 5557)));
    let tls = raw.listen.tls.map(|raw| tls(&mut checks, raw, folder));
    let kubernetes = kubernetes::kubernetes(&mut checks, raw.kubernetes.unwrap_or_default(), around);
    if raw.pools.is_empty() && kubernetes.pools.is_none() {
        checks.refuse("pools", "must have at least one pool (or kubernetes.pools must be set)", "none");
    }
    let pools = pools(&mut checks, raw.pools, around);
    let gateway = gateway::gateway(&mut checks, raw.gateway, folder);
    let config = Config { grpc, http, events, tls, pools, kubernetes, gateway };
    gateway::fits(&mut checks, &config);
    if checks.0.is_empty() { Ok(config) } else { Err(checks.0) }
}

fn tls(checks: &mut Checks, raw: raw::Tls, folder: &Path) -> Tls {
    let mut file = |field: &str, path: PathBuf| checks.file(&format!("listen.tls.{field}"), &path, folder);
    Tls {
        cert: file("cert", raw.cert),
        key: file("key", raw.key),
        client_ca: raw.client_ca.map(|path| file("clientCa", path)),
    }
}

fn pools(checks: &mut Checks, list: Vec<raw::Pool>, around: &Around<'_>) -> Vec<Pool> {
    let mut names = BTreeSet::new();
    let mut pools = Vec::with_capacity(list.len());
    for (index, mut raw) in list.into_iter().enumerate() {
        let path = format!("pools[{index}]");
        let name = raw.name.take().unwrap_or_default();
        checks.name(&format!("{path}.name"), &name);
        if !names.insert(name.clone()) {
            checks.refuse(&format!("{path}.name"), "must be unique", format!("{name:?} again"));
        }
        let endpoint_picker = endpoint_picker::endpoint_picker(checks, &path, &mut raw, around);
        if let Some(picker) = &endpoint_picker {
            endpoint_picker::discovery(picker, &mut raw);
        }
        let at = format!("{path}.discovery");
        let source = raw.discovery.take().unwrap_or_default();
        let drain_grace = drain_grace(checks, &at, source.drain_grace, Duration::ZERO);
        let discovery = discovery(checks, &at, source, around.folder);
        let own = Own { name, discovery, drain_grace, endpoint_picker };
        pools.push(pool(checks, &path, own, raw, around.folder));
    }
    pools
}

fn drain_grace(checks: &mut Checks, path: &str, value: Option<HumanDuration>, default: Duration) -> Duration {
    checks.duration(&format!("{path}.drainGrace"), value, default, (Duration::ZERO, HOUR))
}

/// A pool's settings, with what is its own.
fn pool(checks: &mut Checks, path: &str, own: Own, raw: raw::Pool, folder: &Path) -> Pool {
    let Own { name, discovery, drain_grace, endpoint_picker } = own;
    let (mut settings, mut bands) = settings(checks, path, &raw);
    if let Some(picker) = &endpoint_picker {
        settings.profile = Some(picker.loaded.profile.clone());
        endpoint_picker::flow(checks, path, &mut settings, &mut bands, &picker.loaded);
    }
    if raw.kv_cache_tokens == Some(0) {
        checks.refuse(&format!("{path}.kvCacheTokens"), "must be at least 1", 0);
    }
    Pool {
        name,
        discovery,
        drain_grace,
        models: raw.models.map(|list| models(checks, path, list)),
        engine: raw.engine.unwrap_or(Engine::Vllm),
        settings,
        bands,
        scrape: scrape(checks, &format!("{path}.scrape"), raw.scrape),
        health: health(checks, &format!("{path}.health"), raw.health),
        kv_cache_tokens: raw.kv_cache_tokens,
        exact: raw.exact.map(|raw| exact(checks, &format!("{path}.exact"), raw, folder)),
        endpoint_picker,
    }
}

fn settings(checks: &mut Checks, path: &str, raw: &raw::Pool) -> (shared::wire::PoolSettings, Bands) {
    let sane = (MILLISECOND, HOUR);
    let stale = checks.duration(&format!("{path}.staleAfter"), raw.stale_after, Duration::from_secs(2), sane);
    let ttft = checks.duration(&format!("{path}.slo.ttft"), raw.slo.ttft, Duration::from_secs(2), sane);
    let tpot = checks.duration(&format!("{path}.slo.tpot"), raw.slo.tpot, Duration::from_millis(50), sane);
    let HumanSize(max_body_bytes) = raw.max_body.unwrap_or(HumanSize(32 << 20));
    let largest = u64::from(u32::MAX);
    if max_body_bytes == 0 || max_body_bytes > largest {
        let rule = format!("must be between 1B and {}", show_size(largest));
        checks.refuse(&format!("{path}.maxBody"), rule, show_size(max_body_bytes));
    }
    let session_header = raw.session.as_ref().map(|session| session.header.to_ascii_lowercase()).unwrap_or_default();
    if let Some(session) = &raw.session {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if session.header.is_empty() || !session.header.chars().all(legal) {
            checks.refuse(&format!("{path}.session.header"), "must be a header name", format!("{:?}", session.header));
        }
    }
    let control = raw.flow_control.as_ref();
    let control = control.map(|given| flow::flow(checks, &format!("{path}.flowControl"), given, &raw.objectives, ttft));
    let first_token = raw.failover.first_token_timeout;
    let first_token = first_token.map(|given| {
        checks.duration(&format!("{path}.failover.firstTokenTimeout"), Some(given), HOUR, (MILLISECOND * 100, HOUR))
    });
    let slow_start = format!("{path}.failover.slowStart");
    let slow_start = checks.duration(&slow_start, raw.failover.slow_start, Duration::ZERO, (Duration::ZERO, HOUR));
    let bands = match &raw.flow_control {
        Some(raw::flow::FlowControl { bands: None, .. }) => Bands::ByPriority { ttft },
        Some(_) | None => Bands::Fixed,
    };
    // Blocks of 16 tokens have about 64 bytes: a chunk of several cannot tell pods apart that differ by less.
    let default_chunk = if raw.exact.is_some() { 128 } else { 256 };
    let settings = shared::wire::PoolSettings {
        chunk_bytes: checks.number(&format!("{path}.chunkBytes"), raw.chunk_bytes, default_chunk, (16, 65_536)),
        slo_ttft_seconds: ttft.as_secs_f64(),
        slo_tpot_seconds: tpot.as_secs_f64(),
        choices: checks.number(&format!("{path}.choices"), raw.choices, 3, (1, 8)),
        explain: raw.explain,
        max_body_bytes,
        session_header,
        stale_after_ms: u32::try_from(stale.as_millis()).unwrap_or(u32::MAX),
        profile: None,
        flow: control,
        admission: None,
        objectives: flow::objectives(&raw.objectives),
        budgets: budget::budgets(checks, &format!("{path}.budgets"), &raw.budgets),
        rewrites: rewrite::rewrites(checks, &format!("{path}.rewrites"), &raw.rewrites),
        first_token_timeout_seconds: first_token.map_or(0.0, |timeout| timeout.as_secs_f64()),
        slow_start_seconds: slow_start.as_secs_f64(),
    };
    (settings, bands)
}

fn models(checks: &mut Checks, path: &str, list: Vec<raw::Model>) -> Vec<shared::wire::Model> {
    if list.is_empty() {
        checks.refuse(&format!("{path}.models"), "must name a model or be left out", "an empty list");
    }
    let mut seen = BTreeSet::new();
    let mut models = Vec::with_capacity(list.len());
    for (index, entry) in list.into_iter().enumerate() {
        let (name, base) = match entry {
            raw::Model::Name(name) => (name, String::new()),
            raw::Model::Adapter(adapter) => (adapter.name, adapter.base),
        };
        if name.is_empty() || !seen.insert(name.clone()) {
            checks.refuse(&format!("{path}.models[{index}]"), "must be a name, each once", format!("{name:?}"));
        }
        models.push(shared::wire::Model { name, base });
    }
    models
}

fn discovery(checks: &mut Checks, path: &str, raw: raw::Discovery, folder: &Path) -> Discovery {
    match (raw.file, raw.fixed, raw.kubernetes) {
        (Some(file), None, None) => {
            let found = checks.file(&format!("{path}.file.path"), &file.path, folder);
            Discovery::File { path: found, watch: file.watch }
        }
        (None, Some(fixed), None) => {
            match static_file::endpoints(&fixed.endpoints, &format!("{path}.static.endpoints")) {
                Ok(list) => Discovery::Static(list),
                Err(problem) => {
                    checks.0.push(problem);
                    Discovery::Static(Vec::new())
                }
            }
        }
        (None, None, Some(cluster)) => {
            Discovery::Kubernetes(kubernetes::membership(checks, &format!("{path}.kubernetes"), cluster))
        }
        (file, fixed, cluster) => {
            let given = [("file", file.is_some()), ("static", fixed.is_some()), ("kubernetes", cluster.is_some())];
            let given: Vec<&str> = given.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
            let got = if given.is_empty() { "neither".to_owned() } else { given.join(" and ") };
            checks.refuse(path, "must have exactly one of file, static and kubernetes", got);
            Discovery::Static(Vec::new())
        }
    }
}

fn exact(checks: &mut Checks, path: &str, raw: raw::Exact, folder: &Path) -> Exact {
    if raw.model.trim().is_empty() {
        checks.refuse(&format!("{path}.model"), "must be a folder or a model's name", format!("{:?}", raw.model));
    }
    let hub = raw.hub.as_deref().map(|hub| hub.trim_end_matches('/').to_owned());
    if let Some(hub) = hub.as_ref().filter(|hub| !hub.starts_with("http://") && !hub.starts_with("https://")) {
        checks.refuse(&format!("{path}.hub"), "must begin with http:// or https://", format!("{hub:?}"));
    }
    let files = if raw.model.starts_with(['/', '.']) {
        for (field, given) in [("hub", raw.hub.is_some()), ("revision", raw.revision.is_some())] {
            if given {
                let rule = "must be left out when `model` is a folder (it begins with / or .)";
                checks.refuse(&format!("{path}.{field}"), rule, format!("model {:?}", raw.model));
            }
        }
        ModelFiles::Folder(folder.join(&raw.model))
    } else {
        let revision = raw.revision.unwrap_or_else(|| "main".to_owned());
        ModelFiles::Hub { endpoint: hub, model: raw.model, revision }
    };
    let frontend = match raw.frontend {
        None | Some(raw::Frontend::Python) => shared::wire::Frontend::Python,
        Some(raw::Frontend::Rust) => shared::wire::Frontend::Rust,
    };
    Exact {
        files,
        chat_template: raw.chat_template.map(|path| folder.join(path)),
        chat_template_kwargs: raw
            .chat_template_kwargs
            .and_then(|kwargs| serde_json::to_string(&kwargs).ok())
            .unwrap_or_default(),
        frontend,
        check_generated: raw.check_generated,
        token_prompts: raw.token_prompts,
        events: event_ports(checks, &format!("{path}.events"), raw.events),
    }
}

fn event_ports(checks: &mut Checks, path: &str, raw: raw::Events) -> Option<EventPorts> {
    for (field, port) in [("port", raw.port), ("replayPort", raw.replay_port)] {
        if port == Some(0) {
            checks.refuse(&format!("{path}.{field}"), "must be between 1 and 65535", 0);
        }
    }
    let Some(publish) = raw.port else {
        for (field, given) in [("replayPort", raw.replay_port.is_some()), ("topic", raw.topic.is_some())] {
            if given {
                checks.refuse(&format!("{path}.{field}"), "must come with port", "no port");
            }
        }
        return None;
    };
    Some(EventPorts { publish, replay: raw.replay_port, topic: raw.topic.unwrap_or_default() })
}

fn scrape(checks: &mut Checks, path: &str, raw: raw::Scrape) -> Scrape {
    let fastest = Duration::from_millis(5);
    let busy = checks.duration(
        &format!("{path}.interval.min"),
        raw.interval.min,
        Duration::from_millis(50),
        (fastest, MINUTE),
    );
    let idle_default = busy.max(Duration::from_secs(1)).min(MINUTE);
    let idle =
        checks.duration(&format!("{path}.interval.max"), raw.interval.max, idle_default, (busy.min(MINUTE), MINUTE));
    let tens = (Duration::from_millis(10), MINUTE);
    if raw.port == Some(0) {
        checks.refuse(&format!("{path}.port"), "must be between 1 and 65535", 0);
    }
    Scrape {
        busy,
        idle,
        timeout: checks.duration(&format!("{path}.timeout"), raw.timeout, Duration::from_secs(1), tens),
        path: checks.url_path(&format!("{path}.path"), raw.path, "/metrics"),
        port: raw.port,
    }
}

fn health(checks: &mut Checks, path: &str, raw: raw::Health) -> Health {
    let tens = (Duration::from_millis(10), MINUTE);
    Health {
        path: checks.url_path(&format!("{path}.path"), raw.path, "/health"),
        interval: checks.duration(&format!("{path}.interval"), raw.interval, Duration::from_secs(1), tens),
        unhealthy_after: checks.number(&format!("{path}.unhealthyAfter"), raw.unhealthy_after, 3, (1, 100)),
        healthy_after: checks.number(&format!("{path}.healthyAfter"), raw.healthy_after, 2, (1, 100)),
    }
}
