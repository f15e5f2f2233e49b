//! What a request's blocks hold, as KV events tell it: token ids, one digest per full block, and what separates equal tokens.
//!
//! The engine never reads a digest: it caches by [`BlockHash`](super::BlockHash) and hands digests through. A request without
//! contents is computed and cached like any other and announced by nobody.

use std::sync::Arc;

use super::chain::BlockHash;

/// Most bytes of a digest (SHA-256).
const WIDEST: usize = 32;

/// A block hash as vLLM makes it: opaque bytes, 32 (SHA-256), 16 (XXH3-128) or 8.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    bytes: [u8; WIDEST],
    width: u8,
}

impl Digest {
    /// The first 32 bytes of `bytes`.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut kept = [0; WIDEST];
        let mut width = 0;
        for (slot, &byte) in kept.iter_mut().zip(bytes) {
            *slot = byte;
            width += 1;
        }
        Self { bytes: kept, width }
    }

    /// All of it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.width)).unwrap_or_default()
    }

    /// The last eight bytes, big-endian: what vLLM publishes unless `VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES=0`.
    #[must_use]
    pub fn low64(&self) -> u64 {
        let bytes = self.as_bytes();
        let tail = bytes.get(bytes.len().saturating_sub(8)..).unwrap_or_default();
        tail.iter().fold(0, |value, &byte| (value << 8) | u64::from(byte))
    }
}

impl From<BlockHash> for Digest {
    fn from(hash: BlockHash) -> Self {
        Self::new(&hash.0.to_be_bytes())
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// An adapter as events name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// vLLM's number of it, from 1.
    pub id: i64,
    /// Its name.
    pub name: Arc<str>,
}

/// What a request wants announced (vLLM's `kv_cache_report_mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReportMode {
    /// What changes.
    #[default]
    Changes,
    /// The blocks it finds cached too, as if they had just been stored; nothing more is removed later for that.
    Full,
}

/// Prompt and answer of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockContents {
    /// Tokens per block.
    pub block_size: u32,
    /// Prompt and answer, token by token.
    pub tokens: Vec<u32>,
    /// One per full block; may be shorter than the tokens allow, the rest is not announced.
    pub digests: Vec<Digest>,
    /// The adapter, None for the base model.
    pub adapter: Option<Adapter>,
    /// The request's `cache_salt`.
    pub cache_salt: Option<Arc<str>>,
    /// The request's `session_id`.
    pub session_id: Option<Arc<str>>,
    /// Whether hits are announced again.
    pub report: ReportMode,
}

impl BlockContents {
    /// Contents whose digests are the engine's own 64-bit identities: for a lab, where hashes are opaque and SHA-256 is a cost.
    #[must_use]
    pub fn by_identity(block_size: u32, tokens: Vec<u32>, blocks: &[BlockHash]) -> Self {
        Self {
            block_size: block_size.max(1),
            tokens,
            digests: blocks.iter().copied().map(Digest::from).collect(),
            adapter: None,
            cache_salt: None,
            session_id: None,
            report: ReportMode::default(),
        }
    }

    /// Tokens of blocks `first..first + count`.
    #[must_use]
    pub fn tokens_of(&self, first: usize, count: usize) -> &[u32] {
        let size = usize::try_from(self.block_size).unwrap_or(usize::MAX);
        let (from, to) = (first.saturating_mul(size), first.saturating_add(count).saturating_mul(size));
        self.tokens.get(from..to.min(self.tokens.len())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integer_form_is_the_big_endian_tail() {
        let digest = Digest::new(&(0..32).collect::<Vec<u8>>());
        assert_eq!(digest.low64(), 0x1819_1a1b_1c1d_1e1f);
        assert_eq!(Digest::from(BlockHash(7)).low64(), 7);
    }
}
