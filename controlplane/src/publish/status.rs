//! What the publishing task shows of itself: for `/metrics` and for `/api/v1/table`. Totals only grow while the process
//! lives; everything is a copy, at most a second old.

use serde::Serialize;

use super::foresight::ForesightStatus;
use crate::exact::status::PrefixStatus;

/// All pools and the streams.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// Of this run.
    pub epoch: u64,
    /// Newest version of the table.
    pub version: u64,
    /// Gateways with an open stream, by name.
    pub gateways: Vec<String>,
    /// By name.
    pub pools: Vec<PoolStatus>,
    /// Streams' totals.
    pub traffic: Traffic,
}

/// What went over all streams, totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Segments sent.
    pub segments: u64,
    /// Their encoded bytes.
    pub segment_bytes: u64,
    /// Live messages sent.
    pub lives: u64,
    /// Snapshots that replaced a table that a gateway had: refused segments and gateways that fell too far behind.
    pub resnapshots: u64,
    /// Segments that gateways refused.
    pub refused: u64,
}

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PoolStatus {
    /// Unique.
    pub name: String,
    /// By slot.
    pub endpoints: Vec<EndpointStatus>,
    /// Endpoints that found no slot, or whose address is not `ip:port`.
    pub unplaced: usize,
    /// Gateways that report.
    pub gateways: usize,
    /// Requests per second over all gateways.
    pub arrivals_per_second: f64,
    /// Distinct prefix chunks that somebody holds.
    pub chunks: usize,
    /// (endpoint, tier) pairs over all chunks.
    pub memberships: usize,
    /// Memory behind them, bytes.
    pub residency_bytes: usize,
    /// How it is known which prefix is where.
    pub prefixes: PrefixStatus,
    /// Fitted.
    pub rates: RatesStatus,
    /// How far predicted latencies were off.
    pub latency: ForesightStatus,
    /// Totals.
    pub counters: PoolCounters,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EndpointStatus {
    /// In the table.
    pub slot: u32,
    /// `ip:port`.
    pub address: String,
    /// `ready`, `draining` or `unhealthy`.
    pub state: &'static str,
    /// Some gateway leaves it alone, and it has served nobody since.
    pub failing: bool,
    /// 1: as fast as the fleet; 2: takes twice as long.
    pub slowness: f64,
    /// Requests of all gateways, and unknown ones, before their first token.
    pub waiting: u64,
    /// And those that decode.
    pub decoding: u64,
    /// Uncached tokens of the waiting.
    pub queued_tokens: u64,
    /// Prefix chunks that it holds.
    pub chunks: u32,
}

/// Seconds and tokens; see `shared::wire::Rates`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RatesStatus {
    /// Seconds of prefill per uncached token.
    pub x: f64,
    /// Seconds of first token without work ahead.
    pub t0: f64,
    /// Seconds per step and context token.
    pub k: f64,
    /// Seconds per step without context.
    pub s0: f64,
    /// Per request.
    pub output_tokens: f64,
    /// Of prompt text.
    pub bytes_per_token: f64,
}

/// Totals of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolCounters {
    /// Routes learned.
    pub routes: u64,
    /// Routes after a chunk that is not known (any more).
    pub orphan_routes: u64,
    /// Routes with a key that no chain has.
    pub malformed_routes: u64,
    /// Reported things about endpoints that are not in the pool.
    pub unknown_endpoints: u64,
    /// Completions.
    pub completions: u64,
    /// Prompt tokens of completions with usage.
    pub prompt_tokens: u64,
    /// Those that the engine had cached.
    pub hit_tokens: u64,
    /// Completions that told their cached tokens.
    pub predictions: u64,
    /// Sum of predicted beyond cached tokens.
    pub overpredicted_tokens: u64,
    /// Sum of cached beyond predicted tokens.
    pub underpredicted_tokens: u64,
    /// Endpoints whose learned residency was dropped because they restarted or became unhealthy.
    pub residency_resets: u64,
    /// Contributions of gateways that were clamped as leaks.
    pub clamped_bookings: u64,
}
