//! What changes all the time: load, other gateways' bookings, fitted rates. Always whole; the newest replaces the last.

use std::collections::BTreeMap;

use crate::budget::Spent;
use crate::identity::Slot;
use crate::scheduling::latency::FirstTokenModel;
use crate::wire;

/// One pool's live rows, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LivePool {
    /// The cost rates.
    pub rates: Rates,
    /// Gateways that report now.
    pub gateways: u32,
    /// Requests a second to the pool, all gateways together.
    pub arrivals_per_second: f64,
    /// Indexed by slot.
    pub endpoints: Vec<LiveEndpoint>,
    /// Indexed by slot; shorter where nothing more is known.
    pub details: Vec<Details>,
    /// What the fullest buckets hold, by tenant.
    pub spent: BTreeMap<String, Spent>,
}

/// What only some scheduling profiles look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// LoRA adapters; `None`: unknown.
    pub adapters: Option<Adapters>,
    /// By number of the profile's attribute.
    pub attributes: BTreeMap<u32, f64>,
}

/// LoRA adapters on an engine, as indices into the pool's models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adapters {
    /// In the batch.
    pub running: Vec<u32>,
    /// Of requests that wait.
    pub waiting: Vec<u32>,
    /// Both, those that no model list names included.
    pub in_use: u32,
    /// Places.
    pub most: Option<u32>,
}

/// Fitted rates of facts the cost needs (`scheduling::cost`); seconds and tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Seconds to prefill a token.
    pub x: f64,
    /// Seconds before the first token of an empty prompt on an idle endpoint.
    pub t0: f64,
    /// Seconds a decode step grows by per context token in the batch.
    pub k: f64,
    /// Seconds of a decode step without context.
    pub s0: f64,
    /// Seconds per (token x context token): attention in prefill.
    pub y: f64,
    /// Seconds to reload a token from a colder tier.
    pub z: f64,
    /// Expected output tokens of a request.
    pub output_tokens: f64,
    /// Prompt bytes that make a token.
    pub bytes_per_token: f64,
    /// By how much the time per token exceeds its prediction in the slowest twentieth of responses; `None`: not known yet.
    pub tpot_margin: Option<f64>,
    /// The time to the first token as it was seen; `None`: not known yet.
    pub first_token: Option<FirstTokenModel>,
}

impl Default for Rates {
    /// The priors of the routing study for a 32B model on two accelerators.
    fn default() -> Self {
        Self {
            x: 65e-6,
            t0: 0.0,
            k: 44e-9,
            s0: 0.015,
            y: 2e-9,
            z: 6e-6,
            output_tokens: 300.0,
            bytes_per_token: 4.0,
            tpot_margin: None,
            first_token: None,
        }
    }
}

/// One endpoint's live row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveEndpoint {
    /// The last scrape.
    pub scrape: Option<Scrape>,
    /// How much slower than the fleet, 0.25..=4; 1 is as fast.
    pub slowness: f64,
    /// Work here that is not this gateway's own.
    pub others: Work,
    /// Its circuit is open at some gateway, and it has served nobody since.
    pub failing: bool,
}

impl Default for LiveEndpoint {
    fn default() -> Self {
        Self { scrape: None, slowness: 1.0, others: Work::default(), failing: false }
    }
}

/// An engine's own figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scrape {
    /// Age when it was sent, milliseconds.
    pub age_ms: u32,
    /// Requests in the batch.
    pub running: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Fraction of the KV cache in use, 0..=1.
    pub kv_used: f64,
    /// Tokens that fit into the KV cache.
    pub kv_capacity: Option<u64>,
}

/// Work in flight on an endpoint: the P, D, Q and C of the cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Requests whose first token was not seen.
    pub waiting: u32,
    /// Requests that decode.
    pub decoding: u32,
    /// Uncached prompt tokens of the waiting ones.
    pub queued_tokens: u64,
    /// Context tokens of all of them.
    pub context_tokens: u64,
}

impl Work {
    /// The sum, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            waiting: self.waiting.saturating_add(other.waiting),
            decoding: self.decoding.saturating_add(other.decoding),
            queued_tokens: self.queued_tokens.saturating_add(other.queued_tokens),
            context_tokens: self.context_tokens.saturating_add(other.context_tokens),
        }
    }

    /// The difference, at least zero in every figure.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            waiting: self.waiting.saturating_sub(other.waiting),
            decoding: self.decoding.saturating_sub(other.decoding),
            queued_tokens: self.queued_tokens.saturating_sub(other.queued_tokens),
            context_tokens: self.context_tokens.saturating_sub(other.context_tokens),
        }
    }

    /// So many times every figure, saturating.
    #[must_use]
    pub const fn times(self, count: u32) -> Self {
        Self {
            waiting: self.waiting.saturating_mul(count),
            decoding: self.decoding.saturating_mul(count),
            queued_tokens: self.queued_tokens.saturating_mul(count as u64),
            context_tokens: self.context_tokens.saturating_mul(count as u64),
        }
    }

    /// `share` (0..=1) of every figure, rounded down.
    #[must_use]
    pub fn scaled(self, share: f64) -> Self {
        Self {
            waiting: scale(u64::from(self.waiting), share).try_into().unwrap_or(self.waiting),
            decoding: scale(u64::from(self.decoding), share).try_into().unwrap_or(self.decoding),
            queued_tokens: scale(self.queued_tokens, share),
            context_tokens: scale(self.context_tokens, share),
        }
    }

    /// Nothing in flight.
    #[must_use]
    pub const fn is_idle(self) -> bool {
        self.waiting == 0 && self.decoding == 0 && self.queued_tokens == 0 && self.context_tokens == 0
    }

    /// From the wire form.
    #[must_use]
    pub const fn from_wire(raw: &wire::Bookings) -> Self {
        Self {
            waiting: raw.waiting,
            decoding: raw.decoding,
            queued_tokens: raw.queued_tokens,
            context_tokens: raw.context_tokens,
        }
    }

    /// The wire form.
    #[must_use]
    pub const fn to_wire(self) -> wire::Bookings {
        wire::Bookings {
            waiting: self.waiting,
            decoding: self.decoding,
            queued_tokens: self.queued_tokens,
            context_tokens: self.context_tokens,
        }
    }
}

impl LivePool {
    /// The row at `slot`; an endpoint nothing is known of has the default row.
    #[must_use]
    pub fn endpoint(&self, slot: Slot) -> LiveEndpoint {
        self.endpoints.get(slot.index()).copied().unwrap_or_default()
    }

    /// What else is known of the endpoint at `slot`.
    #[must_use]
    pub fn details(&self, slot: Slot) -> Option<&Details> {
        self.details.get(slot.index())
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts stay far below 2^53 and the cast back saturates"
)]
fn scale(count: u64, share: f64) -> u64 {
    (count as f64 * share.clamp(0.0, 1.0)) as u64
}
