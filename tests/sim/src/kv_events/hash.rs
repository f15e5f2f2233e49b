//! Block hashes as vLLM makes them with `sha256_cbor` and `xxhash_cbor`: a digest over `(parent, tokens, extra keys)` in canonical
//! CBOR.
//!
//! vLLM's default `sha256` (and `xxhash`) hash a Python pickle and cannot be made here. Nobody downstream can tell: a hash is
//! opaque and only ever compared.

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_128;

use crate::engine::{BlockContents, Digest};

/// vLLM's `--prefix-caching-hash-algo`, as far as it does not need Python.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// SHA-256 over CBOR.
    #[default]
    Sha256Cbor,
    /// XXH3-128 over CBOR.
    XxhashCbor,
}

impl HashAlgorithm {
    /// vLLM's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256Cbor => "sha256_cbor",
            Self::XxhashCbor => "xxhash_cbor",
        }
    }

    fn digest(self, preimage: &[u8]) -> Digest {
        match self {
            Self::Sha256Cbor => Digest::new(&Sha256::digest(preimage)),
            Self::XxhashCbor => Digest::new(&xxh3_128(preimage).to_be_bytes()),
        }
    }
}

/// Chains block hashes.
#[derive(Debug, Clone)]
pub struct BlockHasher {
    algorithm: HashAlgorithm,
    root: Digest,
}

/// What vLLM seeds the first block with unless `PYTHONHASHSEED` is set.
const SEED: &str = "vllm-none-hash";

impl BlockHasher {
    /// `seed` is `PYTHONHASHSEED`; None for vLLM's own constant.
    #[must_use]
    pub fn new(algorithm: HashAlgorithm, seed: Option<&str>) -> Self {
        let mut preimage = Vec::new();
        text(&mut preimage, seed.unwrap_or(SEED));
        Self { algorithm, root: algorithm.digest(&preimage) }
    }

    /// Which algorithm.
    #[must_use]
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The hashes of all full blocks of `contents`, whose own `digests` are not read. `adapter_path`: where vLLM loaded the adapter
    /// from, which its hashes cover.
    #[must_use]
    pub fn chain(&self, contents: &BlockContents, adapter_path: &str) -> Vec<Digest> {
        let size = usize::try_from(contents.block_size).unwrap_or(usize::MAX).max(1);
        let mut parent = self.root;
        let blocks = contents.tokens.chunks_exact(size).enumerate().map(|(index, tokens)| {
            let mut preimage = Vec::with_capacity(64 + tokens.len() * 5);
            head(&mut preimage, ARRAY, 3);
            head(&mut preimage, BYTES, parent.as_bytes().len());
            preimage.extend_from_slice(parent.as_bytes());
            head(&mut preimage, ARRAY, tokens.len());
            tokens.iter().for_each(|&token| number(&mut preimage, token.into(), UNSIGNED));
            extra_keys(&mut preimage, contents, index, adapter_path);
            parent = self.algorithm.digest(&preimage);
            parent
        });
        blocks.collect()
    }
}

fn extra_keys(out: &mut Vec<u8>, contents: &BlockContents, index: usize, adapter_path: &str) {
    let salt = contents.cache_salt.as_deref().filter(|_| index == 0);
    let adapter = contents.adapter.as_ref();
    let count = usize::from(salt.is_some()) + usize::from(adapter.is_some());
    if count == 0 {
        out.push(NULL);
        return;
    }
    head(out, ARRAY, count);
    if let Some(adapter) = adapter {
        head(out, ARRAY, 3);
        ["lora", &adapter.name, adapter_path].into_iter().for_each(|part| text(out, part));
    }
    if let Some(salt) = salt {
        head(out, ARRAY, 2);
        ["cache_salt", salt].into_iter().for_each(|part| text(out, part));
    }
}

/// CBOR major types, shifted into place, and null.
const UNSIGNED: u8 = 0x00;
const BYTES: u8 = 0x40;
const TEXT: u8 = 0x60;
const ARRAY: u8 = 0x80;
const NULL: u8 = 0xf6;

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, TEXT, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn head(out: &mut Vec<u8>, major: u8, length: usize) {
    number(out, u64::try_from(length).unwrap_or(u64::MAX), major);
}

fn number(out: &mut Vec<u8>, value: u64, major: u8) {
    if let Ok(small) = u8::try_from(value) {
        if small < 24 {
            out.push(major | small);
        } else {
            out.extend_from_slice(&[major | 24, small]);
        }
    } else if let Ok(value) = u16::try_from(value) {
        out.push(major | 25);
        out.extend_from_slice(&value.to_be_bytes());
    } else if let Ok(value) = u32::try_from(value) {
        out.push(major | 26);
        out.extend_from_slice(&value.to_be_bytes());
    } else {
        out.push(major | 27);
        out.extend_from_slice(&value.to_be_bytes());
    }
}
