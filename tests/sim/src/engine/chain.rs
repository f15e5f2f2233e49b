//! Block identities: a chained hash over everything up to the block's end, seeded by LoRA and cache salt. Equal hashes mean
//! equal prefixes, so a chain's first differing entry is where two requests part.
//!
//! Hashing happens here, once per request, never in a step. Only full blocks have an identity; the rest stays pending.

use std::sync::Arc;

/// Identity of one full block and of all that comes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockHash(pub u64);

/// What separates prefixes of equal tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChainSeed<'a> {
    /// Adapter name, None for the base model.
    pub lora: Option<&'a str>,
    /// The request's `cache_salt`.
    pub cache_salt: Option<&'a str>,
}

/// Builds the chain of a token sequence piece by piece. Clone it to branch off a shared prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainBuilder {
    block_size: u32,
    state: u64,
    filled: u32,
    tokens: u32,
    blocks: Vec<BlockHash>,
}

impl ChainBuilder {
    /// An empty sequence for an engine of this `block_size` (0 counts as 1).
    #[must_use]
    pub fn new(block_size: u32, seed: ChainSeed<'_>) -> Self {
        let mut state = scramble(0x6b76_6173_6972_5f73);
        for part in [seed.lora, seed.cache_salt] {
            state = scramble(state ^ u64::from(part.is_some()));
            for &byte in part.unwrap_or_default().as_bytes() {
                state = absorb(state, u64::from(byte));
            }
            state = scramble(state);
        }
        Self { block_size: block_size.max(1), state, filled: 0, tokens: 0, blocks: Vec::new() }
    }

    /// Appends one token.
    pub fn push_token(&mut self, token: u32) {
        self.push(u64::from(token));
    }

    /// Appends tokens.
    pub fn push_tokens(&mut self, tokens: &[u32]) {
        for &token in tokens {
            self.push(u64::from(token));
        }
    }

    /// Appends `len` tokens of an imaginary text `text`, starting at its token `offset`. Different texts share no token with each
    /// other nor with real tokens; cutting a span in two changes nothing.
    pub fn push_span(&mut self, text: u64, offset: u32, len: u32) {
        let text = scramble(text) | 1 << 63;
        for position in offset..offset.saturating_add(len) {
            self.push(text ^ u64::from(position));
        }
    }

    fn push(&mut self, token: u64) {
        self.state = absorb(self.state, token);
        self.filled += 1;
        self.tokens = self.tokens.saturating_add(1);
        if self.filled == self.block_size {
            self.filled = 0;
            self.state = scramble(self.state);
            self.blocks.push(BlockHash(self.state));
        }
    }

    /// Tokens so far.
    #[must_use]
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Identities of the full blocks so far.
    #[must_use]
    pub fn blocks(&self) -> &[BlockHash] {
        &self.blocks
    }

    /// A number that depends on every token so far, pending ones included.
    #[must_use]
    pub fn digest(&self) -> u64 {
        scramble(self.state ^ u64::from(self.tokens))
    }

    /// The chain, ready for a request.
    #[must_use]
    pub fn into_blocks(self) -> Arc<[BlockHash]> {
        self.blocks.into()
    }
}

/// One cheap round, bijective in `token` for a fixed state.
fn absorb(state: u64, token: u64) -> u64 {
    (state.rotate_left(5) ^ token).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The 64-bit finaliser of MurmurHash3: every input bit reaches every output bit.
pub(crate) fn scramble(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}
