//! A prefix chain that stops anywhere: what of an unfinished chunk the next block needs to go on.
//!
//! The keys are those of `shared::prefix`. An unfinished chunk is kept as the inner state of its xxh64 and not as text:
//! four words and less than 32 bytes, however long the chunk is; shorter beginnings are kept as they are.

use shared::prefix::ChainRoot;

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;
/// xxh64 takes its input in stripes of this many bytes.
const STRIPE: usize = 32;

/// A chain after some bytes.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// Key of the last whole chunk, or the root's seed.
    seed: u64,
    lanes: [u64; 4],
    rest: [u8; STRIPE],
    /// Bytes of the unfinished chunk.
    filled: usize,
}

impl Chain {
    pub(super) const fn start(root: ChainRoot) -> Self {
        Self::after(root.seed())
    }

    const fn after(seed: u64) -> Self {
        Self { seed, lanes: lanes(seed), rest: [0; STRIPE], filled: 0 }
    }

    /// Bytes of the unfinished chunk.
    pub(super) const fn filled(&self) -> usize {
        self.filled
    }

    /// Goes on with `bytes`; `ended` hears the key of every chunk that is now whole, and how many of `bytes` it took.
    pub(super) fn absorb(&mut self, bytes: &[u8], chunk_bytes: usize, mut ended: impl FnMut(u64, usize)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(chunk_bytes.saturating_sub(self.filled).max(1)));
            rest = after;
            self.push(part);
            if self.filled >= chunk_bytes {
                let key = self.finish().max(1);
                ended(key, bytes.len() - rest.len());
                *self = Self::after(key);
            }
        }
    }

    fn push(&mut self, mut bytes: &[u8]) {
        let held = self.filled % STRIPE;
        self.filled += bytes.len();
        if held > 0 {
            let (head, rest) = bytes.split_at(bytes.len().min(STRIPE - held));
            if let Some(place) = self.rest.get_mut(held..held + head.len()) {
                place.copy_from_slice(head);
            }
            bytes = rest;
            if held + head.len() < STRIPE {
                return;
            }
            let stripe = self.rest;
            self.mix(&stripe);
        }
        let (stripes, tail) = bytes.as_chunks::<STRIPE>();
        for stripe in stripes {
            self.mix(stripe);
        }
        if let Some(place) = self.rest.get_mut(..tail.len()) {
            place.copy_from_slice(tail);
        }
    }

    fn mix(&mut self, stripe: &[u8; STRIPE]) {
        let (words, _) = stripe.as_chunks::<8>();
        for (lane, word) in self.lanes.iter_mut().zip(words) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }

    fn unmixed(&self) -> &[u8] {
        self.rest.get(..self.filled % STRIPE).unwrap_or_default()
    }

    fn finish(&self) -> u64 {
        if self.filled < STRIPE {
            let hash = self.seed.wrapping_add(P5).wrapping_add(u64::try_from(self.filled).unwrap_or(0));
            return avalanche(absorb_tail(hash, self.unmixed()));
        }
        let [a, b, c, d] = self.lanes;
        let mut hash = a
            .rotate_left(1)
            .wrapping_add(b.rotate_left(7))
            .wrapping_add(c.rotate_left(12))
            .wrapping_add(d.rotate_left(18));
        for lane in self.lanes {
            hash = (hash ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4);
        }
        hash = hash.wrapping_add(u64::try_from(self.filled).unwrap_or(0));
        avalanche(absorb_tail(hash, self.unmixed()))
    }

    /// Bytes that `save` writes for a chain with `filled` bytes. The seed is left out when the block's own last chunk
    /// key, `ends_chunks`, tells it.
    pub(super) const fn saved_len(filled: usize, ends_chunks: bool) -> usize {
        if filled >= STRIPE {
            STRIPE + filled % STRIPE
        } else if ends_chunks {
            filled
        } else {
            8 + filled
        }
    }

    pub(super) fn save(&self, ends_chunks: bool, into: &mut Vec<u8>) {
        if self.filled >= STRIPE {
            self.lanes.iter().for_each(|lane| into.extend_from_slice(&lane.to_le_bytes()));
        } else if !ends_chunks {
            into.extend_from_slice(&self.seed.to_le_bytes());
        }
        into.extend_from_slice(self.unmixed());
    }

    /// What `save` wrote; `last_key` is the block's last chunk key when it ends any.
    pub(super) fn load(filled: usize, last_key: Option<u64>, saved: &[u8]) -> Option<Self> {
        let (words, _) = saved.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let mut chain = Self::after(0);
        let taken = if filled >= STRIPE {
            for lane in &mut chain.lanes {
                *lane = words.next()?;
            }
            STRIPE
        } else if let Some(key) = last_key {
            chain = Self::after(key);
            0
        } else {
            chain = Self::after(words.next()?);
            8
        };
        chain.filled = filled;
        let rest = saved.get(taken..taken + filled % STRIPE)?;
        chain.rest.get_mut(..rest.len())?.copy_from_slice(rest);
        Some(chain)
    }
}

const fn lanes(seed: u64) -> [u64; 4] {
    [seed.wrapping_add(P1).wrapping_add(P2), seed.wrapping_add(P2), seed, seed.wrapping_sub(P1)]
}

const fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

fn absorb_tail(mut hash: u64, tail: &[u8]) -> u64 {
    let (words, tail) = tail.as_chunks::<8>();
    for word in words {
        hash = (hash ^ round(0, u64::from_le_bytes(*word))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
    }
    let (halves, tail) = tail.as_chunks::<4>();
    for half in halves {
        let half = u64::from(u32::from_le_bytes(*half));
        hash = (hash ^ half.wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
    }
    for &byte in tail {
        hash = (hash ^ u64::from(byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash
}

const fn avalanche(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use shared::prefix::{ChainRoot, chain};

    use super::Chain;

    proptest! {
        #[test]
        fn a_chain_that_is_put_away_between_blocks_has_the_keys_of_the_whole_text(
            text in vec(any::<u8>(), 0..1500),
            cuts in vec(0usize..1500, 0..12),
            chunk in prop_oneof![Just(16usize), Just(33), Just(64), Just(100), Just(128), Just(256)],
        ) {
            let root = ChainRoot::new("m", Some("a"), None);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut state = Chain::start(root);
            let (mut keys, mut ends) = (Vec::new(), Vec::new());
            for cut in cuts.windows(2) {
                let before = keys.len();
                state.absorb(&text[cut[0]..cut[1]], chunk, |key, taken| {
                    keys.push(key);
                    ends.push(cut[0] + taken);
                });
                let last = (keys.len() > before).then(|| *keys.last().unwrap());
                let mut saved = Vec::new();
                state.save(last.is_some(), &mut saved);
                prop_assert_eq!(saved.len(), Chain::saved_len(state.filled(), last.is_some()));
                state = Chain::load(state.filled(), last, &saved).unwrap();
            }
            let mut expected = Vec::new();
            chain(root, chunk, [&text[..]], &mut expected);
            prop_assert_eq!(keys, expected);
            prop_assert_eq!(ends, (1..=text.len() / chunk).map(|i| i * chunk).collect::<Vec<_>>());
        }
    }
}
