//! The configuration as it is written. Every field's doc line is its manual; defaults that depend on nothing stand in
//! `validate`. Fields are optional here so that `validate` alone decides what a missing value means.

pub mod flow;
pub mod kubernetes;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::human::{HumanDuration, HumanSize};
use super::{Mode, Upstream};
use crate::scrape::engine::Engine;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Addresses that the control plane listens on.
    #[serde(default)]
    pub listen: Listen,
    /// The pools; at least one, unless `kubernetes.pools` finds them.
    #[serde(default)]
    pub pools: Vec<Pool>,
    /// The cluster that pools are discovered in. Default: asked only when a pool's discovery names it.
    pub kubernetes: Option<kubernetes::Kubernetes>,
    /// The Envoy that `kvasir envoy` prints and `kvasir standalone` runs.
    #[serde(default)]
    pub gateway: Gateway,
}

/// Addresses that the control plane listens on.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Listen {
    /// gRPC for gateways: `ip:port` or a port. Default `0.0.0.0:9002`.
    pub grpc: Option<Address>,
    /// HTTP for metrics, health and the API: `ip:port` or a port. Default `0.0.0.0:9090`.
    pub http: Option<Address>,
    /// KV events (ZMQ) of engines that connect instead of being connected to: `ip:port` or a port. They name themselves by
    /// topic, as llm-d has it: `--kv-events-config '{"endpoint":"tcp://KVASIR:5557","topic":"kv@POD_IP:PORT@MODEL",…}'`, the
    /// port may be left out where no other endpoint has the IP. Followed for pools with `exact`; an endpoint that is heard
    /// here is not connected to. Missed batches cannot be asked for. Default: off.
    pub events: Option<Address>,
    /// TLS on the gRPC port. Default: none.
    pub tls: Option<Tls>,
}

/// TLS on the gRPC port; the files are read again when they change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Tls {
    /// Our certificate and those between it and its root, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Gateways must show a certificate of one of these authorities, PEM. Default: they need none.
    pub client_ca: Option<PathBuf>,
}

/// `ip:port`, or a port on all interfaces.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "must be ip:port or a port")]
pub enum Address {
    /// A port on all interfaces.
    Port(u16),
    /// `ip:port`.
    Full(String),
}

/// One pool: endpoints that serve the same base model.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Pool {
    /// Unique name: lower-case letters, digits, `-`, `.`, `_`; up to 63. Or `namespace/name`, as automatic pools have.
    pub name: Option<String>,
    /// Names that requests may use. Default: learned from the endpoints' `/v1/models`, adapters included.
    pub models: Option<Vec<Model>>,
    /// `vllm` (default), `sglang`, `trtllm`, `triton-tensorrt-llm` or `triton`; an endpoint's label
    /// `llm-d.ai/engine-type` overrides it.
    pub engine: Option<Engine>,
    /// Service levels: how TTFT is weighed against TPOT.
    #[serde(default)]
    pub slo: Slo,
    /// Bytes in a prefix chunk, 16 to 65536. Default 256, about 64 tokens; 128 with `exact`.
    pub chunk_bytes: Option<u32>,
    /// Endpoints in the steering header, best first, 1 to 8. Default 3.
    pub choices: Option<u32>,
    /// May a request ask for `x-kvasir-decision`? Default false.
    #[serde(default)]
    pub explain: bool,
    /// Larger request bodies are refused with 413. Default 32MiB.
    pub max_body: Option<HumanSize>,
    /// Session affinity. Default: off.
    pub session: Option<Session>,
    /// Hold requests in the gateway while the pool is busy. Default: none is ever held.
    pub flow_control: Option<flow::FlowControl>,
    /// Priorities by objective: the name that a request gives in x-llm-d-inference-objective, and its priority. Below 0 is
    /// batch work. Others have priority 0.
    #[serde(default)]
    pub objectives: BTreeMap<String, i32>,
    /// How many tokens and requests a minute each tenant may have (`x-llm-d-inference-fairness-id` names it); more get 429 with
    /// the time to come back. The first budget that fits a tenant counts. Default: any number.
    #[serde(default)]
    pub budgets: Vec<Budget>,
    /// Other models for the names that requests give, such as a canary. A rule that names the model comes before one for any
    /// name; of equals the first. Those of InferenceModelRewrites follow. Answers bear the name that the client gave.
    #[serde(default)]
    pub rewrites: Vec<Rewrite>,
    /// A load sample older than this counts as unknown (never as full). Default 2s.
    pub stale_after: Option<HumanDuration>,
    /// Where endpoints come from.
    pub discovery: Option<Discovery>,
    /// How metrics are scraped.
    #[serde(default)]
    pub scrape: Scrape,
    /// When an endpoint is ejected and re-admitted.
    #[serde(default)]
    pub health: Health,
    /// When gateways leave an endpoint alone, and how it comes back.
    #[serde(default)]
    pub failover: Failover,
    /// KV cache of one endpoint in tokens, where its engine does not say. Default: what the engine says.
    pub kv_cache_tokens: Option<u64>,
    /// Exact residency: which pod holds which prefix is read from the engines' KV events. Default: learned from routes.
    pub exact: Option<Exact>,
    /// llm-d's `EndpointPickerConfig`: a file, relative to this one, or the document itself. Its scheduling profile chooses
    /// instead of cost. What it says beside that (endpoints per request, session header, metrics path, discovery) holds
    /// where this pool does not say it. Default: none.
    pub endpoint_picker_config: Option<serde_json::Value>,
}

/// What each of some tenants may have; at least one of the limits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Budget {
    /// Their names. Default: any that no earlier budget names; each has it for itself.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Prompt and output tokens, from 1.
    pub tokens_per_minute: Option<u32>,
    /// From 1.
    pub requests_per_minute: Option<u32>,
}

/// Other models for names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rewrite {
    /// The names that it is for, up to 256. Default: any.
    #[serde(default)]
    pub models: Vec<String>,
    /// What they become, 1 to 64.
    pub targets: Vec<Target>,
}

/// A model, and its part of the requests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Target {
    /// The name that the engines get.
    pub model: String,
    /// Its part is this by the sum of all, 1 to 1000000. All targets have one, or none has: then the parts are equal.
    pub weight: Option<u32>,
}

/// Exact residency of the pool's base model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Exact {
    /// The model's files (tokenizer.json, tekken.json or *.tiktoken; tokenizer_config.json): a folder, when it begins with
    /// `/` or `.`, else the model's name at `hub`.
    pub model: String,
    /// Where models are fetched by name. Default `$HF_ENDPOINT`, else `https://huggingface.co`.
    pub hub: Option<String>,
    /// Branch, tag or commit at the hub. Default `main`.
    pub revision: Option<String>,
    /// A chat template file instead of the model's own, as in vLLM's `--chat-template`.
    pub chat_template: Option<PathBuf>,
    /// As in vLLM's `--default-chat-template-kwargs`. Default: none.
    pub chat_template_kwargs: Option<serde_json::Map<String, serde_json::Value>>,
    /// Which of vLLM's API servers the engines run: `python` (default) or `rust`.
    pub frontend: Option<Frontend>,
    /// Re-encode what the engines generate, off every request's path: blocks whose tokens the next turn's text will not be
    /// cut into are not counted as held. Keeps the tokenizer in memory (40 to 240 MB). Default true.
    #[serde(default = "yes")]
    pub check_generated: bool,
    /// Are prompts that come as token ids looked up exactly too? Each worker of a gateway then keeps the model's vocabulary.
    /// Default: when that takes less than 3 MB, as with nearly every model.
    pub token_prompts: Option<bool>,
    /// Where the engines publish.
    #[serde(default)]
    pub events: Events,
}

/// vLLM's API servers, which prepare messages differently.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Frontend {
    /// The default one.
    Python,
    /// `VLLM_USE_RUST_FRONTEND=1`.
    Rust,
}

/// Where engines publish their KV events.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Events {
    /// Port at the endpoint's address; data-parallel ranks follow. Default: what the engine's `/kv_event_sources` says.
    pub port: Option<u16>,
    /// Port of the replay socket; only with `port`.
    pub replay_port: Option<u16>,
    /// Only messages of topics that begin with this; only with `port`. Default: all.
    pub topic: Option<String>,
}

/// A model or adapter that requests may name.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "must be a name or {name, base}")]
pub enum Model {
    /// A base model.
    Name(String),
    /// An adapter of `base`.
    Adapter(Adapter),
}

/// An adapter and its base model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Adapter {
    /// The name that requests use.
    pub name: String,
    /// The base model; empty for a base model.
    #[serde(default)]
    pub base: String,
}

/// Service levels.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Slo {
    /// Time to first token, 1ms to 1h. Default 2s.
    pub ttft: Option<HumanDuration>,
    /// Time per output token, 1ms to 1h. Default 50ms.
    pub tpot: Option<HumanDuration>,
}

/// Session affinity.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Session {
    /// The request header that names the session.
    pub header: String,
}

/// Where endpoints come from: exactly one of `file`, `static` and `kubernetes`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Discovery {
    /// A file that lists them, Kvasir's own form or llm-d's `file-discovery` form.
    pub file: Option<FileDiscovery>,
    /// The list, right here.
    #[serde(rename = "static")]
    pub fixed: Option<StaticDiscovery>,
    /// Pods.
    pub kubernetes: Option<kubernetes::Discovery>,
    /// An endpoint that left the list is shown as draining for this long, up to 1h. Default 0s: it is gone at once.
    pub drain_grace: Option<HumanDuration>,
}

/// A file that lists endpoints.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FileDiscovery {
    /// YAML or JSON, up to 1 MiB.
    pub path: PathBuf,
    /// Follow changes (in place, by rename, by symlink)? Default true.
    #[serde(default = "yes")]
    pub watch: bool,
}

/// A list of endpoints in the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StaticDiscovery {
    /// `ip:port`, or `{address, port, labels, draining, metrics}`.
    pub endpoints: serde_json::Value,
}

/// How metrics are scraped.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Scrape {
    /// The interval adapts between these two.
    #[serde(default)]
    pub interval: Interval,
    /// 10ms to 1m. Default 1s.
    pub timeout: Option<HumanDuration>,
    /// Default `/metrics`.
    pub path: Option<String>,
    /// Port of the metrics. Default: the endpoint's own.
    pub port: Option<u16>,
}

/// Bounds of the adaptive scrape interval.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Interval {
    /// While the endpoint is busy; 5ms to 1m. Default 50ms.
    pub min: Option<HumanDuration>,
    /// While it is idle and unchanged; at least `min`, up to 1m. Default 1s.
    pub max: Option<HumanDuration>,
}

/// When an endpoint is ejected and re-admitted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Health {
    /// A 5xx answer or none is a failure; any other answer is a success. Default `/health`.
    pub path: Option<String>,
    /// 10ms to 1m. Default 1s.
    pub interval: Option<HumanDuration>,
    /// Failures in a row until it is ejected, 1 to 100. Default 3.
    pub unhealthy_after: Option<u32>,
    /// Successes in a row until it is back, 1 to 100. Default 2.
    pub healthy_after: Option<u32>,
}

/// What gateways make of failures that they see themselves. They always retry what was refused before its first byte, leave
/// the endpoint alone for 1s up to 30s, and let one request try it then. A request is never sent to two endpoints at once
/// (hedging): a prompt that is computed twice costs more than it saves.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Failover {
    /// A streamed request without its first token for so long, 100ms to 1h, counts as a failure of its endpoint; three in a
    /// row, and it is left alone. Where the gateway holds requests in their headers, one that has not even response headers
    /// by then goes to the next endpoint. It must be longer than any first token takes under load. Default: off.
    pub first_token_timeout: Option<HumanDuration>,
    /// An endpoint that is new, healthy again or no longer left alone counts as slower than it is, 4 times at first, as fast
    /// as it is after so long; up to 1h. Not with an EndpointPickerConfig, whose scores know no time. Default 0s, off: an
    /// empty cache and queue are in the cost already, and who is sent there is booked at once, so that nobody is flooded.
    /// Engines that are slow at first although they are ready need it.
    pub slow_start: Option<HumanDuration>,
}

/// The Envoy that `kvasir envoy` prints and `kvasir standalone` runs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Gateway {
    /// Where clients connect. Default `127.0.0.1:8080`.
    pub listen: Option<Address>,
    /// Envoy's admin interface, loopback only. Default `127.0.0.1:9901`.
    pub admin: Option<String>,
    /// `hold` (default) or `state`, which serves one listed pool only, none of `kubernetes.pools`.
    pub mode: Option<Mode>,
    /// The built filter. Default `target/wasm/kvasir_filter.wasm` under the working directory.
    pub wasm: Option<PathBuf>,
    /// Worker threads of Envoy, 1 to 256. Default: one per core.
    pub workers: Option<u32>,
    /// A folder into which `kvasir serve` writes the pools' endpoints for Envoy. Default: none; `standalone` makes one.
    pub eds_directory: Option<PathBuf>,
    /// `host:port` of the control plane's gRPC as Envoy reaches it. Default: `listen.grpc`, on loopback.
    pub control_plane: Option<String>,
    /// How Envoy speaks TLS to the control plane; needed with `listen.tls`. Default: plain text.
    pub tls: Option<GatewayTls>,
    /// `http1` (default) or `http2` towards the engines.
    pub upstream: Option<Upstream>,
    /// A stream on which nothing moves for this long is ended, 1s to 24h. Default 10m.
    pub stream_idle_timeout: Option<HumanDuration>,
    /// Request headers that no client may set, beside Kvasir's own: taken off before any filter. Default: none.
    #[serde(default)]
    pub remove_headers: Vec<String>,
    /// HTTP filters before Kvasir's own, in Envoy's words (`name` and `typed_config`), such as one that authenticates. Envoy
    /// checks them when it starts. Default: none.
    #[serde(default)]
    pub http_filters: Vec<serde_json::Value>,
}

/// How Envoy speaks TLS to the control plane. The files are Envoy's to read, once, when it starts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GatewayTls {
    /// Who signs the control plane's certificate, PEM.
    pub ca: PathBuf,
    /// The certificate that Envoy shows, PEM; with `key`. Needed with `listen.tls.clientCa`. Default: none.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM; with `cert`.
    pub key: Option<PathBuf>,
    /// The DNS name or IP address that the control plane's certificate must be for. Default: the host that Envoy connects
    /// to, of `controlPlane` or `listen.grpc`.
    pub server_name: Option<String>,
}

const fn yes() -> bool {
    true
}
