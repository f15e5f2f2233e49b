//! KV events as vLLM publishes them: what they say ([`KvEvent`]), how each version writes it ([`WireVersion`]), how block hashes
//! are made ([`BlockHasher`]). All pure; sockets are the simulator's own business.
//!
//! A lab in virtual time reads [`Engine::take_changes`](crate::engine::Engine::take_changes) and turns each step into events with
//! [`events_of`]; a batch's payload is then [`WireVersion::encode`], byte for byte vLLM's.

mod hash;
mod msgpack;
mod options;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

pub use self::hash::{BlockHasher, HashAlgorithm};
pub(crate) use self::options::Endpoint;
pub use self::options::{KvEventsOptions, OptionsError};
pub use self::wire::{HashForm, ReplayFraming, VersionError, WireVersion};
use crate::engine::{BlockContents, CacheChange, Digest, Medium, SideGroup};

/// One entry of a block's `extra_keys`, untagged as in events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtraKey {
    /// An adapter's name or a salt: the wire does not tell them apart.
    Text(Arc<str>),
    /// A multimodal item and its offset relative to the block.
    Item {
        /// Its identifier.
        identifier: String,
        /// May be negative: it began before this block.
        offset: i64,
    },
}

/// `BlockStored`. Optional fields are left out of the map form when they are None.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "the fields are vLLM's, by name")]
pub struct BlockStored {
    pub block_hashes: Vec<Digest>,
    pub parent_block_hash: Option<Digest>,
    pub token_ids: Vec<u32>,
    pub block_size: u32,
    pub lora_id: Option<i64>,
    pub medium: Option<String>,
    pub lora_name: Option<Arc<str>>,
    pub extra_keys: Option<Vec<Option<Vec<ExtraKey>>>>,
    pub group_idx: Option<i64>,
    pub kv_cache_spec_kind: Option<String>,
    pub kv_cache_spec_sliding_window: Option<i64>,
    pub locality: Option<String>,
    pub ownership: Option<String>,
    pub session_id: Option<Arc<str>>,
    pub lookahead_token_ids: Option<Vec<Vec<u32>>>,
}

/// `BlockRemoved`.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "the fields are vLLM's, by name")]
pub struct BlockRemoved {
    pub block_hashes: Vec<Digest>,
    pub medium: Option<String>,
    pub group_idx: Option<i64>,
    pub locality: Option<String>,
    pub ownership: Option<String>,
}

/// One event of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum KvEvent {
    /// Blocks can be hit from now on.
    Stored(Box<BlockStored>),
    /// Blocks are gone.
    Removed(BlockRemoved),
    /// Everything is gone.
    AllCleared,
}

const GROUP: i64 = 0;
const SPEC_KIND: &str = "full_attention";

/// The events of one step's changes.
#[must_use]
pub fn events_of(changes: &[CacheChange]) -> Vec<KvEvent> {
    changes.iter().map(event_of).collect()
}

fn event_of(change: &CacheChange) -> KvEvent {
    match change {
        CacheChange::Stored { contents, first, count, medium } => {
            KvEvent::Stored(Box::new(stored(contents, *first, *count, *medium)))
        }
        CacheChange::Placeholder { digest, medium } => KvEvent::Stored(Box::new(BlockStored {
            block_hashes: vec![*digest],
            medium: Some(medium_name(*medium).to_owned()),
            group_idx: Some(GROUP),
            ..BlockStored::default()
        })),
        CacheChange::Removed { digest, medium } => KvEvent::Removed(BlockRemoved {
            block_hashes: vec![*digest],
            medium: Some(medium_name(*medium).to_owned()),
            group_idx: Some(GROUP),
            ..BlockRemoved::default()
        }),
        CacheChange::StoredAside { contents, first, count, kept, group, kind } => {
            let whole = stored(contents, *first, *count, Medium::Gpu);
            KvEvent::Stored(Box::new(aside(whole, contents, kept, (*group, *kind))))
        }
        CacheChange::RemovedAside { digest, group } => KvEvent::Removed(BlockRemoved {
            block_hashes: vec![*digest],
            medium: Some(medium_name(Medium::Gpu).to_owned()),
            group_idx: Some((*group).into()),
            ..BlockRemoved::default()
        }),
        CacheChange::Cleared => KvEvent::AllCleared,
    }
}

fn stored(contents: &BlockContents, first: usize, count: usize, medium: Medium) -> BlockStored {
    let digests = |from: usize, count: usize| contents.digests.iter().skip(from).take(count).copied();
    // The tiers do not know a block's salt, and say nothing of it.
    let extra_keys = (medium == Medium::Gpu)
        .then(|| (first..first.saturating_add(count)).map(|index| extra_keys(contents, index)).collect());
    BlockStored {
        block_hashes: digests(first, count).collect(),
        parent_block_hash: first.checked_sub(1).and_then(|parent| digests(parent, 1).next()),
        token_ids: contents.tokens_of(first, count).to_vec(),
        block_size: contents.block_size,
        lora_id: contents.adapter.as_ref().map(|adapter| adapter.id),
        medium: Some(medium_name(medium).to_owned()),
        lora_name: contents.adapter.as_ref().map(|adapter| Arc::clone(&adapter.name)),
        extra_keys,
        group_idx: Some(GROUP),
        kv_cache_spec_kind: Some(SPEC_KIND.to_owned()),
        session_id: contents.session_id.clone(),
        ..BlockStored::default()
    }
}

/// A side group names the blocks that it keeps; the tokens are those of all.
fn aside(whole: BlockStored, contents: &BlockContents, kept: &[usize], (group, kind): (u32, SideGroup)) -> BlockStored {
    let (name, window) = match kind {
        SideGroup::SlidingWindow { window } => ("sliding_window", Some(window.into())),
        SideGroup::Mamba => ("mamba", None),
    };
    BlockStored {
        block_hashes: kept.iter().filter_map(|&block| contents.digests.get(block).copied()).collect(),
        extra_keys: Some(kept.iter().map(|&block| extra_keys(contents, block)).collect()),
        group_idx: Some(group.into()),
        kv_cache_spec_kind: Some(name.to_owned()),
        kv_cache_spec_sliding_window: window,
        ..whole
    }
}

/// Adapter first, then the salt, which only the first block carries.
fn extra_keys(contents: &BlockContents, index: usize) -> Option<Vec<ExtraKey>> {
    let adapter = contents.adapter.as_ref().map(|adapter| ExtraKey::Text(Arc::clone(&adapter.name)));
    let salt = contents.cache_salt.as_ref().filter(|_| index == 0).map(|salt| ExtraKey::Text(Arc::clone(salt)));
    let keys: Vec<ExtraKey> = adapter.into_iter().chain(salt).collect();
    (!keys.is_empty()).then_some(keys)
}

fn medium_name(medium: Medium) -> &'static str {
    match medium {
        Medium::Gpu => "GPU",
        Medium::Cpu => "CPU",
        Medium::Storage => "STORAGE",
    }
}
