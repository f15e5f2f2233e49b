//! Which chunk is held where: an open-addressing index in linear memory, about 20 ns a lookup.
//!
//! The sender keeps holder sets prefix-closed (who holds a chunk holds the chunks before it), so the longest match is
//! found by bisecting the prompt's chain, in a handful of probes. Where a set is not, the match is merely less exact.

mod shard;

use self::shard::{Entry, Shard};
use super::holders::{Holder, HolderSets, SetId, Tier};
use crate::identity::Slot;

/// Shards of the index. Each grows by itself, so growing needs room for one more of them and not for a second index: a
/// Wasm VM never gives memory back. 256 of them are a table of 3 KB that stays in the first-level cache.
const SHARDS: usize = 256;

/// No chunk's key: its holders are the endpoints that go on only from checkpoints.
pub const RESUMES_AT_CHECKPOINTS: u64 = u64::MAX;

/// Prefix-chunk key -> holders and token count.
#[derive(Clone, Debug, Default)]
pub struct Residency {
    /// By the high bits of the key; none before the first key comes.
    shards: Vec<Shard>,
    used: usize,
    sets: HolderSets,
}

/// How far one endpoint's copy of a prompt reaches, in chunks and, where the index knows, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Chunks of the prompt held without a hole on the device.
    pub device_chunks: u32,
    /// Chunks held without a hole in any tier; at least `device_chunks`.
    pub any_chunks: u32,
    /// Tokens up to the end of `device_chunks`; `None` when the index was learned from routes.
    pub device_tokens: Option<u32>,
    /// Tokens up to the end of `any_chunks`.
    pub any_tokens: Option<u32>,
}

impl Residency {
    /// Chunks with at least one holder.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used
    }

    /// No chunk is held anywhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The holders of `key`, ascending; empty when nobody holds it.
    #[must_use]
    pub fn holders(&self, key: u64) -> &[Holder] {
        self.find(key).map_or(&[], |entry| self.sets.holders(entry.set))
    }

    /// Every entry as (key, holders, tokens; 0 unknown), ordered by key.
    #[must_use]
    pub fn sorted(&self) -> Vec<(u64, &[Holder], u32)> {
        let entries = self.shards.iter().flat_map(Shard::iter);
        let mut all: Vec<_> = entries.map(|entry| (entry.key, self.sets.holders(entry.set), entry.tokens)).collect();
        all.sort_unstable_by_key(|&(key, ..)| key);
        all
    }

    /// Bytes of linear memory behind the keys, without the holder sets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(Shard::bytes).sum::<usize>() + self.shards.capacity() * size_of::<Shard>()
    }

    /// Sets the holders (ascending) of each key; `tokens` is parallel to `keys` or shorter (0: unknown).
    /// No holders removes the keys. Key 0 is ignored.
    pub fn set(&mut self, holders: &[Holder], keys: &[u64], tokens: &[u32]) {
        if holders.is_empty() {
            for &key in keys {
                self.remove(key);
            }
            return;
        }
        let uses = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        // One extra use holds the set while the keys are written; unused uses are given back below.
        let set = self.sets.acquire(holders, uses.saturating_add(1));
        let mut tokens = tokens.iter();
        for &key in keys {
            let count = tokens.next().copied().unwrap_or(0);
            if key == 0 || !self.put(Entry { key, set, tokens: count }) {
                self.sets.release(set);
            }
        }
        self.sets.release(set);
    }

    /// True when a new use of `entry.set` was taken; the old set of an existing key is released either way.
    fn put(&mut self, entry: Entry) -> bool {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, Shard::default);
        }
        let Some(shard) = self.shards.get_mut(shard_of(entry.key)) else { return false };
        match shard.put(entry) {
            Some(old) => self.sets.release(old.set),
            None => self.used += 1,
        }
        true
    }

    fn remove(&mut self, key: u64) {
        if let Some(old) = self.shards.get_mut(shard_of(key)).and_then(|shard| shard.remove(key)) {
            self.sets.release(old.set);
            self.used -= 1;
        }
    }

    fn find(&self, key: u64) -> Option<&Entry> {
        self.shards.get(shard_of(key))?.find(key)
    }

    /// How many chunks of `chain` the endpoint at `slot` holds, in any tier.
    #[must_use]
    pub fn held_chunks(&self, chain: &[u64], slot: Slot) -> usize {
        chain.partition_point(|&key| self.holders(key).iter().any(|holder| holder.slot == slot))
    }

    /// Raises `depths[slot]` for every endpoint that holds a prefix of `chain`. `depths` is indexed by slot; slots
    /// beyond its end are ignored.
    pub fn match_prefix(&self, chain: &[u64], depths: &mut [Depth]) {
        let mut start = 0;
        for run in self.runs(chain) {
            for holder in self.sets.holders(run.set) {
                let Some(depth) = depths.get_mut(holder.slot.index()) else { continue };
                if depth.any_chunks == start && holder.tier != Tier::Checkpoint {
                    depth.any_chunks = run.end;
                    depth.any_tokens = run.tokens;
                }
                if holder.tier == Tier::Gpu && depth.device_chunks == start {
                    depth.device_chunks = run.end;
                    depth.device_tokens = run.tokens;
                }
            }
            start = run.end;
        }
        let resuming = self.resuming();
        if !resuming.is_empty() {
            self.step_back(chain, resuming, depths);
        }
    }

    /// The endpoints that go on only from checkpoints, ascending.
    #[must_use]
    pub fn resuming(&self) -> &[Holder] {
        self.holders(RESUMES_AT_CHECKPOINTS)
    }

    /// Takes `resuming` back to their last checkpoints, all of them in one walk along the chain: 20 ns a chunk.
    fn step_back(&self, chain: &[u64], resuming: &[Holder], depths: &mut [Depth]) {
        let mut seekers: Vec<Seeker> = resuming.iter().filter_map(|of| Seeker::of(of.slot, depths)).collect();
        let deepest = seekers.iter().map(|seeker| seeker.reach.any_chunks).max().unwrap_or(0);
        let keys = chain.get(..usize::try_from(deepest).unwrap_or(usize::MAX)).unwrap_or_default();
        for (end, &key) in (1..=deepest).rev().zip(keys.iter().rev()) {
            if seekers.is_empty() {
                return;
            }
            let Some(entry) = self.find(key) else { continue };
            let holders = self.sets.holders(entry.set);
            let tokens = Some(entry.tokens).filter(|&tokens| tokens > 0);
            seekers.retain(|seeker| {
                let checkpoint = Holder { slot: seeker.slot, tier: Tier::Checkpoint };
                let found = end <= seeker.reach.any_chunks && holders.binary_search(&checkpoint).is_ok();
                let Some(depth) = depths.get_mut(seeker.slot.index()).filter(|_| found) else { return true };
                if depth.any_chunks == 0 {
                    (depth.any_chunks, depth.any_tokens) = (end, tokens);
                }
                let on_device = end <= seeker.reach.device_chunks;
                if on_device {
                    (depth.device_chunks, depth.device_tokens) = (end, tokens);
                }
                // What is held in other tiers beyond the device ends at a checkpoint of its own.
                !on_device && seeker.reach.device_chunks > 0
            });
        }
    }

    /// The held part of `chain` as stretches with one holder set each.
    fn runs(&self, chain: &[u64]) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut low = 0;
        while let Some(first) = self.entry_at(chain, low) {
            let (inside, last) = self.end_of_run(chain, low, *first);
            let end = u32::try_from(inside + 1).unwrap_or(u32::MAX);
            runs.push(Run { end, set: first.set, tokens: Some(last.tokens).filter(|&tokens| tokens > 0) });
            low = inside + 1;
        }
        runs
    }

    /// The last index of the run that begins at `low`: doubling steps outwards, then bisection.
    fn end_of_run(&self, chain: &[u64], low: usize, first: Entry) -> (usize, Entry) {
        let same = |at: usize| self.entry_at(chain, at).filter(|entry| entry.set == first.set);
        let (mut inside, mut last, mut step) = (low, first, 1);
        let mut outside = loop {
            match same(low + step) {
                Some(entry) => (inside, last, step) = (low + step, *entry, step * 2),
                None => break (low + step).min(chain.len()),
            }
        };
        while inside + 1 < outside {
            let middle = inside + (outside - inside) / 2;
            match same(middle) {
                Some(entry) => (inside, last) = (middle, *entry),
                None => outside = middle,
            }
        }
        (inside, last)
    }

    fn entry_at(&self, chain: &[u64], at: usize) -> Option<&Entry> {
        self.find(*chain.get(at)?)
    }
}

impl PartialEq for Residency {
    fn eq(&self, other: &Self) -> bool {
        self.used == other.used && self.sorted() == other.sorted()
    }
}

/// Keys are hashes already: their high bits choose the shard, their low bits the place in it.
const fn shard_of(key: u64) -> usize {
    (key >> 56) as usize
}

/// An endpoint whose last checkpoint is looked for.
struct Seeker {
    slot: Slot,
    /// What it holds.
    reach: Depth,
}

impl Seeker {
    /// `None` where nothing is held. Its depth is nothing until a checkpoint is found.
    fn of(slot: Slot, depths: &mut [Depth]) -> Option<Self> {
        let reach = core::mem::take(depths.get_mut(slot.index())?);
        (reach.any_chunks > 0).then_some(Self { slot, reach })
    }
}

struct Run {
    /// Index after the last chunk of the run.
    end: u32,
    set: SetId,
    tokens: Option<u32>,
}

#[cfg(test)]
mod tests;
