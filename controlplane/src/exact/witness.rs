//! Which of a prompt's chunks an engine must have announced, by sizes alone.
//!
//! Engines announce complete blocks only, and where a block ends in the text is known on average: the witness stands one
//! block and one chunk before that.

/// A prompt as its engine counted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Of the rendered prompt.
    pub bytes: u64,
    /// The same prompt for the engine.
    pub tokens: u32,
}

/// In what pieces it is cached and looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grain {
    /// Tokens in a block.
    pub block_tokens: u32,
    /// Bytes in a chunk.
    pub chunk_bytes: u32,
}

impl Extent {
    /// Chunks that have a key.
    #[must_use]
    pub fn chunks(self, grain: Grain) -> u64 {
        self.bytes.checked_div(u64::from(grain.chunk_bytes)).unwrap_or(0)
    }

    /// Chunks from the beginning that lie in complete blocks for sure; the last of them is the witness.
    #[must_use]
    pub fn covered_chunks(self, grain: Grain) -> u64 {
        let blocks = self.tokens.checked_div(grain.block_tokens).unwrap_or(0).saturating_sub(1);
        let tokens = u128::from(blocks) * u128::from(grain.block_tokens);
        let bytes = (tokens * u128::from(self.bytes)).checked_div(u128::from(self.tokens)).unwrap_or(0);
        let chunks = bytes.checked_div(u128::from(grain.chunk_bytes)).unwrap_or(0).saturating_sub(1);
        u64::try_from(chunks).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn the_witness_stands_a_block_and_a_chunk_before_the_last_complete_block() {
        let grain = Grain { block_tokens: 16, chunk_bytes: 128 };
        // 62 complete blocks and 8 tokens; 4 bytes a token: 61 blocks are 3904 bytes, 30 chunks and a half.
        assert_eq!(Extent { bytes: 4000, tokens: 1000 }.covered_chunks(grain), 29);
        assert_eq!(Extent { bytes: 4000, tokens: 1000 }.chunks(grain), 31);
        assert_eq!(Extent { bytes: 4000, tokens: 31 }.covered_chunks(grain), 0);
        assert_eq!(Extent { bytes: 400, tokens: 100 }.covered_chunks(grain), 1);
    }

    proptest! {
        #[test]
        fn it_never_lies_behind_the_last_complete_block(
            bytes in any::<u64>(), tokens in any::<u32>(), block_tokens in any::<u32>(), chunk_bytes in any::<u32>()
        ) {
            let (extent, grain) = (Extent { bytes, tokens }, Grain { block_tokens, chunk_bytes });
            let covered = extent.covered_chunks(grain);
            assert!(covered == 0 || covered < extent.chunks(grain));
        }
    }
}
