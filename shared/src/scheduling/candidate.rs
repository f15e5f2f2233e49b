//! What a pass sees of an endpoint for this request, and why it was left out.

use crate::circuit::Standing;
use crate::identity::{EndpointId, Slot};
use crate::table::live::Scrape;
use crate::table::{Endpoint, EndpointState};

use super::Request;
use super::cost::{Supply, Terms};
use super::latency::Latency;

/// One endpoint in a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Where it is in the table.
    pub slot: Slot,
    /// Which endpoint.
    pub id: EndpointId,
    /// The inputs of its cost.
    pub supply: Supply,
    /// Tokens it would have to compute.
    pub uncached_tokens: f64,
    /// The cost, by term.
    pub terms: Terms,
    /// The sum of the terms, seconds.
    pub cost: f64,
    /// What the client would see of it.
    pub latency: Latency,
    /// The engine's own figures, while they are fresh.
    pub scraped: Option<Scrape>,
    /// When the last request went there that nobody held anything of: larger is later, `None` is never.
    pub cold_turn: Option<u64>,
    /// How its circuit stands.
    pub circuit: Standing,
    /// How many times slower than it is it was costed.
    pub warming: f64,
}

impl Candidate {
    /// Prompt tokens that it holds, in whatever tier.
    #[must_use]
    pub fn matched_tokens(&self) -> f64 {
        self.supply.matched_tokens + self.supply.reload_tokens
    }

    /// Share of the prompt that it holds, 0..=1.
    #[must_use]
    pub fn matched_share(&self, request: &Request<'_>) -> f64 {
        let prompt = request.demand.prompt_tokens;
        if prompt > 0.0 { (self.matched_tokens() / prompt).min(1.0) } else { 0.0 }
    }
}

/// Why an endpoint was no candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It is leaving.
    Draining,
    /// Its health checks or scrapes fail.
    Unhealthy,
    /// Its circuit is open.
    CircuitOpen,
    /// Its circuit is half open, and a request tries it.
    CircuitProbed,
    /// Its circuit is open at another gateway.
    Failing,
    /// It does not serve the model.
    ModelNotServed,
    /// A filter of the profile took it out: the one with this number.
    Filter(u8),
    /// The host does not allow it for this request.
    NotInSubset,
}

impl Dropped {
    /// The name in explanations and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
            Self::CircuitOpen => "circuit_open",
            Self::CircuitProbed => "circuit_half_open",
            Self::Failing => "failing",
            Self::ModelNotServed => "model_not_served",
            Self::Filter(_) => "filtered",
            Self::NotInSubset => "not_in_subset",
        }
    }

    /// Unhealthy and failing endpoints are tried when there is nothing better: a wrong alarm must not refuse traffic.
    #[must_use]
    pub const fn is_last_resort(self) -> bool {
        match self {
            Self::Unhealthy | Self::CircuitOpen | Self::CircuitProbed | Self::Failing => true,
            Self::Draining | Self::ModelNotServed | Self::NotInSubset | Self::Filter(_) => false,
        }
    }
}

/// The filters, in order: why `endpoint` may not serve, `None` when it may.
#[must_use]
pub fn drop_reason(endpoint: &Endpoint, request: &Request<'_>, circuit: Standing) -> Option<Dropped> {
    if request.subset.is_some_and(|subset| !subset.allows(&endpoint.address)) {
        return Some(Dropped::NotInSubset);
    }
    if request.model.is_some_and(|index| !endpoint.models.is_empty() && !endpoint.models.contains(&index)) {
        return Some(Dropped::ModelNotServed);
    }
    match endpoint.state {
        EndpointState::Draining => Some(Dropped::Draining),
        EndpointState::Unhealthy => Some(Dropped::Unhealthy),
        EndpointState::Ready => match circuit {
            Standing::Closed | Standing::HalfOpen => None,
            Standing::Open => Some(Dropped::CircuitOpen),
            Standing::Probed => Some(Dropped::CircuitProbed),
            Standing::Failing => Some(Dropped::Failing),
        },
    }
}
