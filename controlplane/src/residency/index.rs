//! Chunk key -> parent, depth, holders; bounded per endpoint and in all; hands out what changed since it was last asked.
//!
//! Holder lists are unordered in here; everything that leaves the index is ordered. Tokens of a chunk are those that the
//! last event told: one engine's count stands for all, since a pool serves one tokenizer.

use std::collections::BTreeMap;

use shared::clock::Timestamp;
use shared::identity::Slot;
use shared::wire::ResidencyGroup;

use super::holder::{Holder, Tier};
use super::nodes::Nodes;
use super::recency::{Membership, Recency};
use super::slab::{NONE, Slab};

/// Memberships dropped from the coldest endpoint before another look at who is coldest.
const EVICTION_BATCH: usize = 64;

/// The route continues a chain that the index does not know (any more): nothing was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no chunk with key {0:#x}")]
pub struct UnknownParent(pub u64);

/// One chunk of a chain, as an engine's event tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Chained hash.
    pub key: u64,
    /// Key of the chunk before it; `None` at the root.
    pub parent: Option<u64>,
    /// Prompt tokens up to its end; `None` when unknown.
    pub tokens: Option<u32>,
}

/// Sizes, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResidencySize {
    /// Distinct chunks.
    pub chunks: usize,
    /// (endpoint, tier) pairs over all chunks.
    pub memberships: usize,
    /// Memory behind both.
    pub bytes: usize,
}

/// The residency of one pool.
pub struct ResidencyIndex {
    nodes: Nodes,
    members: Slab<Membership>,
    /// By slot.
    endpoints: Vec<Recency>,
}

impl ResidencyIndex {
    /// Empty. `secret` should be random: it only spreads keys inside this process.
    #[must_use]
    pub const fn new(secret: u64) -> Self {
        Self { nodes: Nodes::new(secret), members: Slab::new(), endpoints: Vec::new() }
    }

    /// The endpoint at `slot` was sent the chain that continues after `base` (`None`: from the root) with `keys`. It now
    /// holds the whole chain, as its most recent; what no longer fits into it goes, oldest and deepest first.
    ///
    /// # Errors
    /// `base` is unknown: nothing changed.
    pub fn route(&mut self, slot: Slot, base: Option<u64>, keys: &[u64], now: Timestamp) -> Result<(), UnknownParent> {
        let mut leaf = match base {
            Some(key) => self.nodes.find(key).ok_or(UnknownParent(key))?,
            None => NONE,
        };
        for &key in keys {
            let Some(node) = self.nodes.find(key).or_else(|| self.nodes.add(key, leaf)) else { break };
            leaf = node;
        }
        self.touch_chain(leaf, Holder::new(slot, Tier::Gpu), ticks(now));
        self.evict_overflow(slot.index());
        Ok(())
    }

    /// `holder` now has `chunk`. Idempotent; capacity does not apply, the engine evicts.
    ///
    /// # Errors
    /// The parent is unknown: nothing changed.
    pub fn store(&mut self, holder: Holder, chunk: Chunk, now: Timestamp) -> Result<(), UnknownParent> {
        let parent = match chunk.parent {
            Some(key) => self.nodes.find(key).ok_or(UnknownParent(key))?,
            None => NONE,
        };
        let Some(node) = self.nodes.find(chunk.key).or_else(|| self.nodes.add(chunk.key, parent)) else {
            return Ok(());
        };
        if let Some(tokens) = chunk.tokens
            && let Some(record) = self.nodes.get_mut(node)
            && record.tokens != tokens
        {
            record.tokens = tokens;
            self.nodes.mark_dirty(node);
        }
        self.touch(node, holder, NONE, ticks(now));
        Ok(())
    }

    /// `holder` no longer has the chunk. Unknown keys and absent holders are no error: engines repeat themselves.
    pub fn discard(&mut self, holder: Holder, key: u64) {
        if let Some(node) = self.nodes.find(key)
            && let Some(member) = self.membership(node, holder)
        {
            self.remove(member);
        }
    }

    /// Bounds the endpoint to `chunks` from now on.
    pub fn set_capacity(&mut self, slot: Slot, chunks: u32) {
        if let Some(endpoint) = self.endpoint(slot.index()) {
            endpoint.capacity = Some(chunks);
        }
        self.evict_overflow(slot.index());
    }

    /// The endpoint went away, restarted, or dropped its caches: it holds nothing.
    pub fn clear(&mut self, slot: Slot) {
        while let Some(oldest) = self.oldest(slot.index()) {
            self.remove(oldest);
        }
    }

    /// Drops the coldest memberships of all endpoints until at most `memberships` are left. Coldness is known to about
    /// four seconds; within that, any endpoint's oldest may go first.
    pub fn shrink_to(&mut self, memberships: usize, now: Timestamp) {
        let now = ticks(now);
        while self.members.len() > memberships {
            let age = |e: &Recency| self.members.get(e.oldest).map(|m| now.wrapping_sub(m.touched));
            let coldest = self.endpoints.iter().enumerate().filter_map(|(i, e)| Some((age(e)?, i))).max();
            let Some((oldest_age, slot)) = coldest else { return };
            for _ in 0..EVICTION_BATCH.min(self.members.len() - memberships) {
                let Some(oldest) = self.oldest(slot) else { break };
                if self.members.get(oldest).is_none_or(|m| now.wrapping_sub(m.touched) != oldest_age) {
                    break;
                }
                self.remove(oldest);
            }
        }
    }

    /// Who holds `key`, ascending; empty when nobody does.
    #[must_use]
    pub fn holders(&self, key: u64) -> Vec<Holder> {
        let mut found = Vec::new();
        if let Some(node) = self.nodes.find(key) {
            self.collect_holders(node, &mut found);
        }
        found
    }

    /// Memberships of one endpoint.
    #[must_use]
    pub fn held_by(&self, slot: Slot) -> u32 {
        self.endpoints.get(slot.index()).map_or(0, |e| e.len)
    }

    /// What it holds and what that costs.
    #[must_use]
    pub fn size(&self) -> ResidencySize {
        let lists = self.endpoints.capacity() * size_of::<Recency>();
        ResidencySize {
            chunks: self.nodes.len(),
            memberships: self.members.len(),
            bytes: self.nodes.bytes() + self.members.bytes() + lists,
        }
    }

    /// What changed since the last call, as the holders now are; ordered by holders, then key.
    pub fn drain(&mut self) -> Vec<ResidencyGroup> {
        let groups = self.groups(self.nodes.dirty().iter().copied());
        self.nodes.settle();
        groups
    }

    /// Is there anything to drain?
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.nodes.dirty().is_empty()
    }

    /// Everything that is held, as `drain` would tell it to somebody who knows nothing. Changes nothing.
    #[must_use]
    pub fn content(&self) -> Vec<ResidencyGroup> {
        let held = self.nodes.iter().filter(|(_, node)| node.members != NONE);
        self.groups(held.map(|(number, _)| number))
    }

    fn groups(&self, nodes: impl Iterator<Item = u32>) -> Vec<ResidencyGroup> {
        let mut by_holders: BTreeMap<Vec<Holder>, Vec<(u64, u32)>> = BTreeMap::new();
        let mut holders = Vec::new();
        for number in nodes {
            let Some(node) = self.nodes.get(number) else { continue };
            self.collect_holders(number, &mut holders);
            let chunk = (node.key(), node.tokens);
            match by_holders.get_mut(&holders) {
                Some(chunks) => chunks.push(chunk),
                None => drop(by_holders.insert(holders.clone(), vec![chunk])),
            }
        }
        by_holders.into_iter().map(|(holders, chunks)| group(&holders, chunks)).collect()
    }

    fn collect_holders(&self, node: u32, into: &mut Vec<Holder>) {
        into.clear();
        let mut next = self.nodes.get(node).map_or(NONE, |n| n.members);
        while let Some(member) = self.members.get(next) {
            into.push(member.holder);
            next = member.next;
        }
        into.sort_unstable();
    }

    fn endpoint(&mut self, slot: usize) -> Option<&mut Recency> {
        if self.endpoints.len() <= slot {
            self.endpoints.resize(slot + 1, Recency::new(None));
        }
        self.endpoints.get_mut(slot)
    }

    fn oldest(&self, slot: usize) -> Option<u32> {
        self.endpoints.get(slot).map(|e| e.oldest).filter(|&oldest| oldest != NONE)
    }

    fn touch_chain(&mut self, leaf: u32, holder: Holder, now: u16) {
        let (mut node, mut hint) = (leaf, NONE);
        while let Some(parent) = self.nodes.get(node).map(|n| n.parent) {
            hint = self.touch(node, holder, hint, now);
            node = parent;
        }
    }

    /// Makes the membership the newest of its endpoint. `hint` is where it probably is; returns the hint for the parent.
    fn touch(&mut self, node: u32, holder: Holder, hint: u32, now: u16) -> u32 {
        let hinted = self.members.get(hint).is_some_and(|m| m.node == node && m.holder == holder);
        let found = if hinted { Some(hint) } else { self.membership(node, holder) };
        let slot = holder.slot_index();
        let (number, parent_hint) = match found {
            Some(number) => {
                let above = self.members.get(number).map_or(NONE, Membership::newer);
                if let Some(endpoint) = self.endpoints.get_mut(slot) {
                    endpoint.unlink(&mut self.members, number);
                }
                (number, above)
            }
            None => match self.add_member(node, holder) {
                Some(number) => (number, NONE),
                None => return NONE,
            },
        };
        if let Some(member) = self.members.get_mut(number) {
            member.touched = now;
        }
        self.endpoint(slot);
        if let Some(endpoint) = self.endpoints.get_mut(slot) {
            endpoint.push_newest(&mut self.members, number);
        }
        parent_hint
    }

    fn add_member(&mut self, node: u32, holder: Holder) -> Option<u32> {
        let head = self.nodes.get(node)?.members;
        let number = self.members.insert(Membership::new(node, holder, head))?;
        self.nodes.get_mut(node)?.members = number;
        self.nodes.mark_dirty(node);
        Some(number)
    }

    fn membership(&self, node: u32, holder: Holder) -> Option<u32> {
        let mut number = self.nodes.get(node)?.members;
        loop {
            let member = self.members.get(number)?;
            if member.holder == holder {
                return Some(number);
            }
            number = member.next;
        }
    }

    fn evict_overflow(&mut self, slot: usize) {
        while let Some(endpoint) = self.endpoints.get(slot)
            && endpoint.capacity.is_some_and(|most| endpoint.len > most)
        {
            self.remove(endpoint.oldest);
        }
    }

    fn remove(&mut self, number: u32) {
        let Some(member) = self.members.get(number) else { return };
        let (node, after, slot) = (member.node, member.next, member.holder.slot_index());
        if let Some(endpoint) = self.endpoints.get_mut(slot) {
            endpoint.unlink(&mut self.members, number);
        }
        let Some(record) = self.nodes.get_mut(node) else { return };
        if record.members == number {
            record.members = after;
        } else {
            let mut before = record.members;
            while let Some(member) = self.members.get_mut(before) {
                if member.next == number {
                    member.next = after;
                    break;
                }
                before = member.next;
            }
        }
        self.members.release(number);
        self.nodes.mark_dirty(node);
    }
}

fn group(holders: &[Holder], mut chunks: Vec<(u64, u32)>) -> ResidencyGroup {
    chunks.sort_unstable();
    let known = !holders.is_empty() && chunks.iter().any(|&(_, tokens)| tokens != 0);
    ResidencyGroup {
        holders: holders.iter().map(|h| h.wire()).collect(),
        keys: chunks.iter().map(|&(key, _)| key).collect(),
        tokens: if known { chunks.iter().map(|&(_, tokens)| tokens).collect() } else { Vec::new() },
    }
}

/// Units of about 4.3 s that wrap after 78 hours: an untouched membership then looks young for a while, which costs
/// nothing but the order of eviction.
fn ticks(now: Timestamp) -> u16 {
    u16::try_from((now.as_nanos() >> 32) & 0xFFFF).unwrap_or(0)
}

#[cfg(test)]
mod tests;
