//! What the control plane knows about pools and endpoints: one writer, many readers of an `Arc<View>` snapshot.
//! Sources (discovery, scraping, health) send `Update`s; nobody else mutates the view.

pub mod apply;
pub mod drive;

use std::collections::{BTreeMap, BTreeSet};

use shared::clock::Timestamp;
use shared::identity::EndpointId;

use crate::config::bands::Bands;

/// Everything known at one moment. Pools are sorted by name, endpoints of a pool by address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The pools, by name.
    pub pools: Vec<PoolView>,
}

/// One pool of endpoints that serve the same base model.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolView {
    /// Unique name.
    pub name: String,
    /// Service levels, chunk size and limits, as gateways get them.
    pub settings: shared::wire::PoolSettings,
    /// Names that requests may use, from config or learned from the engines; empty: any.
    pub models: Vec<shared::wire::Model>,
    /// By address.
    pub endpoints: Vec<EndpointView>,
}

/// One model server (or one data-parallel rank of it).
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointView {
    /// Hash of `address`.
    pub id: EndpointId,
    /// `ip:port`, where requests go.
    pub address: String,
    /// Labels from discovery.
    pub labels: BTreeMap<String, String>,
    /// May it get new requests, and if not, why.
    pub readiness: Readiness,
    /// Model names that it serves, from `/v1/models`; `None` while unknown (then it is taken to serve all).
    pub models: Option<Vec<String>>,
    /// The last good scrape.
    pub load: Option<LoadSample>,
}

/// Whether an endpoint may get new requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes.
    Ready,
    /// Discovery says that it is leaving: finish what it has.
    Draining,
    /// Health checks or scrapes fail; the text says how.
    Unhealthy(String),
}

/// One scrape of an engine's metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadSample {
    /// When the answer arrived.
    pub at: Timestamp,
    /// Requests in the running batch.
    pub running: u32,
    /// Requests that wait for admission.
    pub waiting: u32,
    /// Fraction of KV blocks in use, 0..=1.
    pub kv_used: f64,
    /// Tokens in a KV block; `None` when the engine does not say.
    pub block_tokens: Option<u32>,
    /// KV blocks on the device; `None` when the engine does not say.
    pub blocks: Option<u64>,
    /// LoRA adapters in use; `None` when the engine does not say.
    pub adapters: Option<Adapters>,
    /// Numbers that the pool's scheduling profile asks for, by attribute; those that are known.
    pub attributes: BTreeMap<String, f64>,
    /// When the engine's process started, seconds since 1970; `None` when it does not say. Another one is another process.
    pub started: Option<f64>,
}

/// LoRA adapters of an engine, by name, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adapters {
    /// Of requests in the running batch.
    pub running: Vec<String>,
    /// Of requests that wait.
    pub waiting: Vec<String>,
    /// How many run at once; `None` when the engine does not say.
    pub most: Option<u32>,
}

impl Adapters {
    /// All that are in use, each once, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let all: BTreeSet<&str> = self.running.iter().chain(&self.waiting).map(String::as_str).collect();
        all.into_iter().collect()
    }
}

impl LoadSample {
    /// Tokens that fit into the KV cache, when the engine says so.
    #[must_use]
    pub fn kv_capacity_tokens(&self) -> Option<u64> {
        Some(u64::from(self.block_tokens?).saturating_mul(self.blocks?))
    }
}

/// A change to the view, from whoever learned it. Unknown pools and endpoints in it are ignored: they have just gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// The configured pools, whole: adds, removes and changes settings; endpoints of pools that stay are kept.
    Pools(Vec<PoolSpec>),
    /// The endpoints of a pool, whole, from discovery; what is known about those that stay is kept.
    Endpoints {
        /// Name of the pool.
        pool: String,
        /// Its endpoints; the order means nothing.
        endpoints: Vec<Discovered>,
    },
    /// The objectives of a pool's cluster, whole: priorities by name.
    Objectives {
        /// Name of the pool.
        pool: String,
        /// Higher is served first.
        priorities: BTreeMap<String, i32>,
    },
    /// What a probe of one endpoint found.
    Probe {
        /// Name of the pool.
        pool: String,
        /// Which endpoint.
        endpoint: EndpointId,
        /// What was found.
        finding: Finding,
    },
}

/// A configured pool, before any endpoint is known.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSpec {
    /// Unique name.
    pub name: String,
    /// As gateways get them, but for the objectives of the cluster.
    pub settings: shared::wire::PoolSettings,
    /// How they follow these.
    pub bands: Bands,
    /// Models from the configuration; `None`: learn them from the endpoints.
    pub models: Option<Vec<shared::wire::Model>>,
}

/// One endpoint as discovery names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// `ip:port`, where requests go.
    pub address: String,
    /// Labels; `llm-d.ai/engine-type` overrides the pool's engine.
    pub labels: BTreeMap<String, String>,
    /// Is it leaving?
    pub draining: bool,
    /// `host:port` of its metrics, when that is not `address`.
    pub metrics: Option<String>,
}

/// What a probe of an endpoint found.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Its metrics.
    Load(LoadSample),
    /// What it serves.
    Models(Vec<shared::wire::Model>),
    /// It is up.
    Healthy,
    /// It is not; why.
    Unhealthy(String),
}
