//! Which endpoint holds which prefix chunk, and in which tier: one index per pool.
//!
//! Learned residency feeds it with routes (`ResidencyIndex::route`) and bounds every endpoint by its real cache size;
//! exact residency (`exact`) follows the engines' own events instead, and keeps its own blocks. Both tell the same kind of
//! changes, and both keep holder sets prefix-closed: who holds a chunk holds every chunk before it.

pub mod capacity;
pub mod exact;
pub mod holder;
pub mod index;
mod nodes;
mod recency;
mod slab;
