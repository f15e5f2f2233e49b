//! What every decision reads: pools, their models and endpoints, and which prefix is where. It changes only by whole
//! snapshots and by deltas n -> n+1 (`codec`, `sync`); a refused update leaves it as it was.

pub mod budget;
pub mod codec;
pub mod flow;
pub mod holders;
pub mod live;
pub mod profile;
pub mod rendering;
pub mod residency;
pub mod rewrite;
pub mod sync;
pub mod vocabulary;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::identity::{EndpointId, Slot};
use budget::Budgets;
use flow::{Admission, FlowControl};
use profile::Profile;
use rendering::Rendering;
use residency::Residency;
use rewrite::Rewrites;
use vocabulary::Vocabulary;

/// Where a table stands. Versions compare only within one epoch, which is one run of a control plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableVersion {
    /// Never 0 for a table that was received.
    pub epoch: u64,
    /// Grows by one with every delta.
    pub version: u64,
}

/// All pools, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoutingTable {
    /// Where this table stands.
    pub version: TableVersion,
    /// By name.
    pub pools: BTreeMap<String, Pool>,
}

/// Endpoints that serve the same base model, and how to choose among them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pool {
    /// How to choose.
    pub settings: PoolSettings,
    /// What may be asked for; empty: any name.
    pub models: Vec<Model>,
    /// Indexed by slot.
    pub endpoints: Vec<Option<Endpoint>>,
    /// By base model: how its prompts become bytes. Models without one have learned residency.
    pub renderings: BTreeMap<String, Arc<Rendering>>,
    /// By base model: what its token ids stand for, where that is known.
    pub vocabularies: BTreeMap<String, Vocabulary>,
    /// Which prefix chunk is where.
    pub residency: Residency,
}

/// Checked `wire::PoolSettings`; the units are there.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSettings {
    /// Bytes in a prefix chunk, 16..=65536.
    pub chunk_bytes: u32,
    /// Service level for the time to first token, seconds, > 0.
    pub slo_ttft: f64,
    /// Service level for the time per output token, seconds, > 0.
    pub slo_tpot: f64,
    /// Endpoints in the steering header, 1..=8.
    pub choices: u32,
    /// May a request ask for an explanation?
    pub explain: bool,
    /// Larger bodies are refused.
    pub max_body_bytes: u64,
    /// Header that carries a session; `None`: no affinity.
    pub session_header: Option<String>,
    /// A load sample older than this is unknown, milliseconds.
    pub stale_after_ms: u32,
    /// Choose by this instead of by cost.
    pub profile: Option<Arc<Profile>>,
    /// Hold requests while the pool is busy.
    pub flow: Option<Arc<FlowControl>>,
    /// How much a minute each tenant may have.
    pub budgets: Budgets,
    /// Refuse sheddable requests at the door.
    pub admission: Option<Admission>,
    /// Priorities that requests may name.
    pub objectives: BTreeMap<String, i32>,
    /// Other models for the names that requests give.
    pub rewrites: Arc<Rewrites>,
    /// A streamed request without a first token for so long has stalled; `None`: none ever has.
    pub first_token_timeout: Option<Duration>,
    /// An endpoint that is new or was admitted again gets its share of requests by and by, over so long.
    pub slow_start: Option<Duration>,
}

impl Default for PoolSettings {
    /// 256 bytes are about 64 tokens: the routing study finds nothing to gain below. 2 s and 50 ms are the service levels of llm-d's published runs.
    fn default() -> Self {
        Self {
            chunk_bytes: 256,
            slo_ttft: 2.0,
            slo_tpot: 0.05,
            choices: 3,
            explain: false,
            max_body_bytes: 32 << 20,
            session_header: None,
            stale_after_ms: 2000,
            profile: None,
            flow: None,
            budgets: Budgets::default(),
            admission: None,
            objectives: BTreeMap::new(),
            rewrites: Arc::default(),
            first_token_timeout: None,
            slow_start: None,
        }
    }
}

/// A name that requests may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// As in the request's `model`.
    pub name: String,
    /// `Some(base)` when `name` is a LoRA adapter.
    pub base: Option<String>,
}

/// One model server.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Hash of `address`.
    pub id: EndpointId,
    /// `ip:port`.
    pub address: String,
    /// May it get new requests?
    pub state: EndpointState,
    /// Indices into the pool's models; empty: all of them.
    pub models: Vec<u32>,
    /// Role, variant, zone and the like.
    pub labels: BTreeMap<String, String>,
}

/// Whether an endpoint may get new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// Yes.
    Ready,
    /// No: it is leaving.
    Draining,
    /// No: its health checks or scrapes fail.
    Unhealthy,
}

impl PoolSettings {
    /// Of requests that name none: time to the first token, time per output token, seconds.
    #[must_use]
    pub const fn service_levels(&self) -> (f64, f64) {
        (self.slo_ttft, self.slo_tpot)
    }
}

impl Pool {
    /// The endpoints with their slots, in slot order.
    pub fn endpoints(&self) -> impl Iterator<Item = (Slot, &Endpoint)> {
        (0..).zip(&self.endpoints).filter_map(|(index, row)| Some((Slot::new(index)?, row.as_ref()?)))
    }

    /// The index of `name` among the models: `Some(None)` when the pool serves any name, `None` when it is unknown.
    #[must_use]
    pub fn model_index(&self, name: &str) -> Option<Option<u32>> {
        if self.models.is_empty() {
            return Some(None);
        }
        let at = self.models.iter().position(|model| model.name == name)?;
        u32::try_from(at).ok().map(Some)
    }

    /// The name of its one base model; `None` when there are several, or none is known.
    #[must_use]
    pub fn only_model(&self) -> Option<&str> {
        let mut bases = self.models.iter().filter(|model| model.base.is_none());
        bases.next().filter(|_| bases.next().is_none()).map(|model| model.name.as_str())
    }

    /// The model row at `index`.
    #[must_use]
    pub fn model(&self, index: Option<u32>) -> Option<&Model> {
        self.models.get(usize::try_from(index?).ok()?)
    }
}
