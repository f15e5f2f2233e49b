//! How many prefix chunks fit into an endpoint's KV cache. Chunks are bytes, caches are tokens: the fitted bytes per token
//! stand between them, so the bound moves with the traffic.

/// Tokens assumed while an engine does not say how large its cache is: about what a 32B model in bf16 leaves on two
/// 80 GB cards (18,000 blocks of 16).
pub const DEFAULT_CAPACITY_TOKENS: u64 = 288_000;

/// Whole chunks of `chunk_bytes` in a cache of `tokens` (default when unknown) at `bytes_per_token`; at least one.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate; float to integer casts saturate"
)]
pub fn capacity_chunks(tokens: Option<u64>, bytes_per_token: f64, chunk_bytes: u32) -> u32 {
    let tokens = tokens.filter(|&t| t > 0).unwrap_or(DEFAULT_CAPACITY_TOKENS);
    let bytes = tokens as f64 * bytes_per_token.clamp(1.0, 16.0);
    ((bytes / f64::from(chunk_bytes.max(1))) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_follows_cache_and_bytes_per_token() {
        assert_eq!(capacity_chunks(Some(16_000), 4.0, 128), 500);
        assert_eq!(capacity_chunks(Some(16_000), 2.0, 128), 250);
        assert_eq!(capacity_chunks(None, 4.0, 128), 9_000);
        assert_eq!(capacity_chunks(Some(0), 0.5, 0), 288_000);
        assert_eq!(capacity_chunks(Some(1), 4.0, 128), 1);
    }
}
