//! The brain of Kvasir. Pure and deterministic: no clock, no randomness, no I/O, no logging; the same inputs give the
//! same bits natively and in Wasm. Layers, each importing only those above it:
//!
//! ```text
//! L0  clock, draw, identity, headers, wire
//! L1  api (bodies in, bodies out), circuit, prefix, text_form, table, template
//! L2  scheduling, flow, ledger, routes
//! L3  brain, lifecycle
//! ```
#![forbid(unsafe_code)]

pub mod api;
pub mod brain;
pub mod budget;
pub mod circuit;
pub mod clock;
pub mod draw;
pub mod flow;
pub mod headers;
pub mod identity;
pub mod ledger;
pub mod lifecycle;
pub mod prefix;
pub mod routes;
pub mod scheduling;
pub mod table;
pub mod template;
#[cfg(test)]
mod testing;
pub mod text_form;
pub mod wire;
