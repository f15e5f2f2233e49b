//! One engine's news, whatever version wrote them: the wire forms differ, the meaning does not.
//!
//! An event tells of blocks by name (`BlockHash`). Only events whose tokens are complete (`BlockStored::describes_blocks`)
//! say what is in them; the others (offload placeholders, sparse groups) merely say where.

/// An engine's name for a block with all that comes before it: the low 64 bits of its digest, big endian, which is what
/// vLLM itself sends unless told to send whole digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHash(pub u64);

/// Where a block lies. Names that nobody knows count as [`Medium::Storage`]: reachable, not at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Medium {
    /// Device memory; also what events without a medium mean.
    #[default]
    Gpu,
    /// Host memory.
    Cpu,
    /// Disk, object store, remote store.
    Storage,
}

/// What kind of attention a cache group serves; only the first holds every block of a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheKind {
    /// Every token's keys and values are kept (also latent attention, and engines that do not say).
    #[default]
    Full,
    /// Only the last `window` tokens are needed to go on.
    SlidingWindow {
        /// Tokens.
        window: u32,
    },
    /// Only what came since the last multiple of `chunk` tokens is needed to go on.
    ChunkedLocal {
        /// Tokens.
        chunk: u32,
    },
    /// State at checkpoints (Mamba and its like).
    Recurrent,
    /// Anything else.
    Other,
}

/// What a block's name covers beyond its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExtraKey {
    /// A LoRA adapter's name or a tenant's cache salt: the first text is the adapter when the event names an adapter.
    Text(String),
    /// Multimodal content: its identifier and its offset. The text around it is not what the template rendered.
    Multimodal(String, i64),
    /// Prompt embeddings, or something newer: no text stands behind the tokens.
    Opaque,
}

/// Blocks that an engine now holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockStored {
    /// In order; each continues the one before it.
    pub hashes: Vec<BlockHash>,
    /// The block before the first; `None` at the start of a prompt, or when the engine does not say.
    pub parent: Option<BlockHash>,
    /// Tokens of all the blocks; empty in placeholders.
    pub tokens: Vec<u32>,
    /// Tokens in a block; 0 in placeholders.
    pub block_size: u32,
    /// The LoRA adapter.
    pub lora_name: Option<String>,
    /// Where.
    pub medium: Medium,
    /// By block, parallel to `hashes`; empty when no block has any.
    pub extra_keys: Vec<Vec<ExtraKey>>,
    /// Index of the cache group in engines with several; 0 elsewhere.
    pub group: u32,
    /// That group's kind.
    pub kind: CacheKind,
}

/// Blocks that an engine dropped from one medium.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockRemoved {
    /// In no particular order.
    pub hashes: Vec<BlockHash>,
    /// From where.
    pub medium: Medium,
    /// Index of the cache group.
    pub group: u32,
}

/// One change of an engine's cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvEvent {
    /// See [`BlockStored`].
    Stored(BlockStored),
    /// See [`BlockRemoved`].
    Removed(BlockRemoved),
    /// Everything is gone, in all media and groups.
    Cleared,
}

/// The events of one engine step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// When the engine published it, seconds since the epoch by its own clock.
    pub at: f64,
    /// Data-parallel rank; 0 when the engine does not say.
    pub rank: u32,
    /// In order.
    pub events: Vec<KvEvent>,
    /// Events of unknown type or malformed, which were skipped.
    pub skipped: u32,
}

impl BlockStored {
    /// Do `tokens` spell out every block? Sparse groups list tokens of blocks that they do not name.
    #[must_use]
    pub fn describes_blocks(&self) -> bool {
        let size = usize::try_from(self.block_size).unwrap_or(usize::MAX);
        size > 0 && self.hashes.len().checked_mul(size) == Some(self.tokens.len())
    }
}
