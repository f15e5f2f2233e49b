//! Which endpoint holds which prefix chunk, and in which tier: one index per pool.
//!
//! Learned residency feeds it with routes (`ResidencyIndex::route`) and bounds every endpoint by its real cache size;
//! exact residency will feed it with an engine's own events (`ResidencyIndex::store`, `ResidencyIndex::discard`).
//! Only routes keep the holder sets prefix-closed; an engine that reports its own evictions may open holes.

pub mod capacity;
pub mod holder;
pub mod index;
mod nodes;
mod recency;
mod slab;
