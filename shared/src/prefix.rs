//! The prefix chain: prompt bytes cut into fixed chunks, each key hashing its chunk under the key before it, so equal
//! keys mean equal prefixes. The remainder shorter than a chunk has no key.
//!
//! `key_i = xxh64(chunk_i, seed = key_{i-1})`; the seed of the first covers model, adapter and cache salt.

use xxhash_rust::xxh64::xxh64;

/// What the first key is seeded with. Two prompts share keys only under the same root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainRoot(u64);

impl ChainRoot {
    /// The root for prompts to `model`, through LoRA `adapter` if any, isolated by `cache_salt` if any.
    #[must_use]
    pub fn new(model: &str, adapter: Option<&str>, cache_salt: Option<&str>) -> Self {
        let mut seed = xxh64(model.as_bytes(), 0);
        if let Some(adapter) = adapter {
            seed = xxh64(adapter.as_bytes(), seed ^ 1);
        }
        if let Some(salt) = cache_salt {
            seed = xxh64(salt.as_bytes(), seed ^ 2);
        }
        Self(seed)
    }

    /// What the chain's first chunk is hashed with.
    #[must_use]
    pub const fn seed(self) -> u64 {
        self.0
    }
}

/// Appends the keys of the prompt that `pieces` make when joined. The cuts between pieces do not matter.
/// `chunk_bytes` of 0 yields no keys.
pub fn chain<'a>(root: ChainRoot, chunk_bytes: usize, pieces: impl IntoIterator<Item = &'a [u8]>, keys: &mut Vec<u64>) {
    if chunk_bytes == 0 {
        return;
    }
    let mut parent = root.0;
    let mut carry: Vec<u8> = Vec::with_capacity(chunk_bytes);
    for mut piece in pieces {
        if !carry.is_empty() {
            let (head, rest) = piece.split_at(piece.len().min(chunk_bytes - carry.len()));
            carry.extend_from_slice(head);
            piece = rest;
            if carry.len() < chunk_bytes {
                continue;
            }
            parent = link(&carry, parent);
            keys.push(parent);
            carry.clear();
        }
        let chunks = piece.chunks_exact(chunk_bytes);
        carry.extend_from_slice(chunks.remainder());
        for chunk in chunks {
            parent = link(chunk, parent);
            keys.push(parent);
        }
    }
}

/// Zero is the empty mark of the residency index, so no key is zero.
fn link(chunk: &[u8], parent: u64) -> u64 {
    xxh64(chunk, parent).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    use super::{ChainRoot, chain};

    fn keys(root: ChainRoot, chunk: usize, pieces: &[&[u8]]) -> Vec<u64> {
        let mut out = Vec::new();
        chain(root, chunk, pieces.iter().copied(), &mut out);
        out
    }

    proptest! {
        #[test]
        fn cuts_between_pieces_do_not_matter(text in vec(any::<u8>(), 0..600), cut in 0usize..600, chunk in 1usize..70) {
            let root = ChainRoot::new("m", None, None);
            let (a, b) = text.split_at(cut.min(text.len()));
            let (c, d) = b.split_at(b.len() / 2);
            assert_eq!(keys(root, chunk, &[a, c, d]), keys(root, chunk, &[&text]));
            assert_eq!(keys(root, chunk, &[&text]).len(), text.len() / chunk);
        }

        #[test]
        fn a_changed_byte_changes_every_key_from_its_chunk_on(text in vec(any::<u8>(), 64..600), at in 0usize..600) {
            let root = ChainRoot::new("m", None, None);
            let at = at.min(text.len() - 1);
            let mut other = text.clone();
            other[at] ^= 1;
            for (i, (a, b)) in keys(root, 16, &[&text]).iter().zip(&keys(root, 16, &[&other])).enumerate() {
                assert_eq!(a == b, i < at / 16, "chunk {i}");
            }
        }
    }

    #[test]
    fn model_adapter_and_salt_each_separate_chains() {
        let roots = [
            ChainRoot::new("m", None, None),
            ChainRoot::new("n", None, None),
            ChainRoot::new("m", Some("a"), None),
            ChainRoot::new("m", None, Some("a")),
            ChainRoot::new("m", Some("a"), Some("a")),
        ];
        for (i, a) in roots.iter().enumerate() {
            for b in roots.iter().skip(i + 1) {
                assert_ne!(a, b);
            }
        }
    }

    #[test]
    fn the_chain_is_xxh64_linked_by_seed() {
        let got = keys(ChainRoot::new("model", None, None), 16, &[b"0123456789abcdefFEDCBA9876543210tail"]);
        let first = xxhash_rust::xxh64::xxh64(b"0123456789abcdef", xxhash_rust::xxh64::xxh64(b"model", 0));
        assert_eq!(got, [first, xxhash_rust::xxh64::xxh64(b"FEDCBA9876543210", first)]);
    }
}
