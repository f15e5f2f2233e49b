//! The one configuration file: YAML text → raw structs (`raw`) → `Config`, whose values are checked and whose defaults
//! are filled in. Nothing else in the crate sees a raw struct; relative paths are resolved against the file's folder.

pub mod bands;
pub mod human;
pub mod kubernetes;
pub mod raw;
pub mod summary;
mod validate;
pub mod watch;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use self::kubernetes::{Kubernetes, Membership};
use crate::datastore::{Discovered, PoolSpec};
use crate::llmd::Loaded;
use crate::scrape::attributes::Attributes;
use crate::scrape::engine::Engine;

/// The checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where gateways connect (gRPC).
    pub grpc: SocketAddr,
    /// Where people and probes connect (HTTP).
    pub http: SocketAddr,
    /// Where engines that connect to us publish their KV events (ZMQ); `None`: nowhere.
    pub events: Option<SocketAddr>,
    /// TLS on the gRPC port.
    pub tls: Option<Tls>,
    /// At least one, or `kubernetes.pools`; names are unique. The first is the default of gateways.
    pub pools: Vec<Pool>,
    /// The cluster.
    pub kubernetes: Kubernetes,
    /// What `kvasir envoy` and `kvasir standalone` render.
    pub gateway: Gateway,
}

/// One pool, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Unique; `a-z`, `0-9`, `-`, `.`, `_`, up to 63, or `namespace/name`.
    pub name: String,
    /// Names that requests may use; `None`: learned from `/v1/models`.
    pub models: Option<Vec<shared::wire::Model>>,
    /// How metrics are read.
    pub engine: Engine,
    /// As gateways get them.
    pub settings: shared::wire::PoolSettings,
    /// How the settings follow the objectives of the cluster.
    pub bands: bands::Bands,
    /// Where endpoints come from.
    pub discovery: Discovery,
    /// How long an endpoint that left the list is still shown as draining.
    pub drain_grace: Duration,
    /// How metrics are scraped.
    pub scrape: Scrape,
    /// When an endpoint is ejected and re-admitted.
    pub health: Health,
    /// KV cache size in tokens where the engine does not say or is wrong.
    pub kv_cache_tokens: Option<u64>,
    /// How exact residency is had; `None`: it is learned.
    pub exact: Option<Exact>,
    /// llm-d's configuration of this pool; its profile is in `settings`.
    pub endpoint_picker: Option<EndpointPicker>,
}

/// llm-d's configuration of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointPicker {
    /// Where it stands; `None`: in the configuration itself.
    pub file: Option<PathBuf>,
    /// What it says.
    pub loaded: Box<Loaded>,
}

/// How exact residency is had.
#[derive(Clone, Debug, PartialEq)]
pub struct Exact {
    /// Where the base model's tokenizer and template are.
    pub files: ModelFiles,
    /// Instead of the model's own template.
    pub chat_template: Option<PathBuf>,
    /// A JSON object; empty: none.
    pub chat_template_kwargs: String,
    /// How the engines prepare messages.
    pub frontend: shared::wire::Frontend,
    /// Is generated text re-encoded, to see whether a prompt would hit its blocks?
    pub check_generated: bool,
    /// Do gateways get the vocabulary? `None`: when it is small.
    pub token_prompts: Option<bool>,
    /// Where the engines publish; `None`: they are asked.
    pub events: Option<EventPorts>,
}

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFiles {
    /// A folder.
    Folder(PathBuf),
    /// A hub.
    Hub {
        /// Without a slash at the end; `None`: the environment says.
        endpoint: Option<String>,
        /// Such as `Qwen/Qwen3-8B`.
        model: String,
        /// Branch, tag or commit.
        revision: String,
    },
}

/// Where an engine publishes, at its own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPorts {
    /// Of rank 0; the other ranks follow.
    pub publish: u16,
    /// Of rank 0.
    pub replay: Option<u16>,
    /// Only topics that begin with this.
    pub topic: String,
}

/// Where endpoints come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Discovery {
    /// A file that lists them.
    File {
        /// Resolved.
        path: PathBuf,
        /// Follow changes?
        watch: bool,
    },
    /// The configuration itself.
    Static(Vec<Discovered>),
    /// Pods.
    Kubernetes(Membership),
}

/// TLS on the gRPC port; the files may change at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Our certificate and those between it and its root, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Who signs gateways' certificates; `None`: they need none.
    pub client_ca: Option<PathBuf>,
}

/// How metrics are scraped.
#[derive(Clone, Debug, PartialEq)]
pub struct Scrape {
    /// Interval while the endpoint has work or just got some.
    pub busy: Duration,
    /// Interval that an unchanged, idle endpoint backs off to; at least `busy`.
    pub idle: Duration,
    /// A scrape that takes longer has failed.
    pub timeout: Duration,
    /// Starts with `/`.
    pub path: String,
    /// Port of the metrics when it is not the endpoint's own.
    pub port: Option<u16>,
}

/// When an endpoint is ejected and re-admitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Starts with `/`.
    pub path: String,
    /// Interval of the health check.
    pub interval: Duration,
    /// Failures in a row until it is ejected.
    pub unhealthy_after: u32,
    /// Successes in a row until it is back.
    pub healthy_after: u32,
}

/// How the filter holds a request while it chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In its headers; needs `allow_on_headers_stop_iteration`, which plain Envoy can set.
    Hold,
    /// In its body, the choice leaves through filter state: what a stock WasmPlugin allows.
    State,
}

/// The protocol towards the engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Upstream {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS.
    Http2,
}

/// The Envoy that `kvasir envoy` and `kvasir standalone` configure.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Envoy's admin interface; loopback only.
    pub admin: SocketAddr,
    /// How the filter holds requests.
    pub mode: Mode,
    /// The built filter.
    pub wasm: PathBuf,
    /// Worker threads of Envoy; `None`: one per core.
    pub workers: Option<u32>,
    /// Where endpoint files for Envoy are written.
    pub eds_directory: Option<PathBuf>,
    /// `host:port` of the gRPC port as Envoy reaches it; `None`: derived from `listen.grpc`.
    pub control_plane: Option<String>,
    /// TLS towards the control plane; `None`: plain text.
    pub tls: Option<GatewayTls>,
    /// The protocol towards the engines.
    pub upstream: Upstream,
    /// A stream on which nothing moves for this long is ended.
    pub stream_idle_timeout: Duration,
    /// Request headers that no client may set, beside Kvasir's own.
    pub remove_headers: Vec<String>,
    /// Envoy's HTTP filters before Kvasir's own.
    pub http_filters: Vec<serde_json::Value>,
}

/// TLS from Envoy to the control plane. Envoy reads the files, and only when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayTls {
    /// Who signs the control plane's certificate, PEM.
    pub ca: PathBuf,
    /// What Envoy shows; `None`: nothing.
    pub identity: Option<Identity>,
    /// The DNS name or IP address that the control plane's certificate must be for; `None`: the host that Envoy connects to.
    pub server_name: Option<String>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate and those between it and its root, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// How a configuration gets at the files that it refers to.
pub type ReadFile<'a> = dyn Fn(&Path) -> std::io::Result<String> + 'a;

/// One rule that a value breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {rule}, got {value}")]
pub struct Problem {
    /// Such as `pools[0].slo.ttft`.
    pub path: String,
    /// What would be right.
    pub rule: String,
    /// What is there.
    pub value: String,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not YAML, an unknown field, or a value of the wrong type; the text names path and place.
    #[error("{0}")]
    Syntax(String),
    /// Values that break rules, all of them.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

impl Config {
    /// Parses and checks `text`, which needs no other file; `folder` is what relative paths in it are relative to.
    ///
    /// # Errors
    /// When the text is not a valid configuration; the message names each path, rule and value.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, ConfigError> {
        Self::parse_with(text, folder, &|_| Err(std::io::Error::other("no file is read here")))
    }

    /// The same with the files that it refers to: `read` reads them.
    ///
    /// # Errors
    /// As `parse`, and when a file cannot be read or is not valid itself.
    pub fn parse_with(text: &str, folder: &Path, read: &ReadFile<'_>) -> Result<Self, ConfigError> {
        let raw: raw::Config = deserialize(text).map_err(ConfigError::Syntax)?;
        validate::config(raw, &validate::Around { folder, read }).map_err(ConfigError::Invalid)
    }

    /// Does anything in it need a cluster?
    #[must_use]
    pub fn needs_cluster(&self) -> bool {
        let pods = |pool: &Pool| matches!(pool.discovery, Discovery::Kubernetes(_));
        self.kubernetes.pools.is_some() || self.kubernetes.leader_election.is_some() || self.pools.iter().any(pods)
    }

    /// `host:port` at which a gateway on this machine reaches the gRPC port bound at `grpc`.
    #[must_use]
    pub fn control_plane_for(&self, grpc: SocketAddr) -> String {
        let local = |ip: std::net::IpAddr| if ip.is_unspecified() { "127.0.0.1".to_owned() } else { ip.to_string() };
        let own = if grpc.is_ipv6() && !grpc.ip().is_unspecified() {
            grpc.to_string()
        } else {
            format!("{}:{}", local(grpc.ip()), grpc.port())
        };
        self.gateway.control_plane.clone().unwrap_or(own)
    }
}

impl Pool {
    /// What besides load its endpoints are scraped for.
    #[must_use]
    pub fn attributes(&self) -> Option<&Attributes> {
        self.endpoint_picker.as_ref().map(|picker| &picker.loaded.attributes)
    }

    /// What the datastore keeps of it.
    #[must_use]
    pub fn spec(&self) -> PoolSpec {
        PoolSpec {
            name: self.name.clone(),
            settings: self.settings.clone(),
            bands: self.bands.clone(),
            models: self.models.clone(),
        }
    }
}

/// YAML into `T`; the error says `path: what (line, column)`.
pub(crate) fn deserialize<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut path = None;
    let parsed = serde_saphyr::with_deserializer_from_str(text, |yaml| {
        serde_path_to_error::deserialize::<_, T>(yaml).map_err(|error| {
            path = Some(error.path().to_string()).filter(|path| path != ".");
            error.into_inner()
        })
    });
    parsed.map_err(|error| {
        let told = error.without_snippet().to_string();
        path.map_or(told.clone(), |path| format!("{path}: {told}"))
    })
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
