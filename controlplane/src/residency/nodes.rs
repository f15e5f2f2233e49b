//! The chunks themselves: a forest of parent links, found by key, with the set of those that changed.
//!
//! A chunk that nobody holds stays until its change was drained (gateways must hear of it) and until its last child is
//! gone (a parent link never dangles).

use hashbrown::HashTable;

use super::slab::{NONE, Slab};

const DIRTY: u32 = 1 << 31;
const RELEASED: u32 = 1 << 30;
const DEPTH: u32 = RELEASED - 1;

/// 28 bytes.
pub(super) struct Node {
    key: [u8; 8],
    pub(super) parent: u32,
    /// Head of the list of memberships.
    pub(super) members: u32,
    children: u32,
    /// Prompt tokens up to the end of the chunk; 0: unknown.
    pub(super) tokens: u32,
    /// Chunks from the root (the first is 1) and the two flags.
    depth: u32,
}

impl Node {
    pub(super) const fn key(&self) -> u64 {
        u64::from_le_bytes(self.key)
    }

    pub(super) const fn is_released(&self) -> bool {
        self.depth & RELEASED != 0
    }
}

pub(super) struct Nodes {
    slab: Slab<Node>,
    by_key: HashTable<u32>,
    /// Keeps clients from choosing where their keys fall.
    secret: u64,
    dirty: Vec<u32>,
}

impl Nodes {
    pub(super) const fn new(secret: u64) -> Self {
        Self { slab: Slab::new(), by_key: HashTable::new(), secret, dirty: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Memory behind it, bytes: records, key table (a control byte each, at most 7/8 full) and dirty list.
    pub(super) fn bytes(&self) -> usize {
        let table = self.by_key.capacity() * 8 / 7 * (size_of::<u32>() + 1);
        self.slab.bytes() + table + self.dirty.capacity() * size_of::<u32>()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Node> {
        self.slab.get(number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Node> {
        self.slab.get_mut(number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Node)> {
        self.slab.iter().filter(|(_, node)| !node.is_released())
    }

    pub(super) fn find(&self, key: u64) -> Option<u32> {
        let bytes = key.to_le_bytes();
        let same = |&n: &u32| self.slab.get(n).is_some_and(|node| node.key == bytes);
        self.by_key.find(spread(self.secret, key), same).copied()
    }

    /// Dirty from the start: a drain frees it again if nobody came to hold it. The caller knows that `key` is new.
    pub(super) fn add(&mut self, key: u64, parent: u32) -> Option<u32> {
        let depth = self.slab.get(parent).map_or(0, |node| node.depth & DEPTH).saturating_add(1).min(DEPTH);
        let node = Node { key: key.to_le_bytes(), parent, members: NONE, children: 0, tokens: 0, depth: depth | DIRTY };
        let number = self.slab.insert(node)?;
        if let Some(above) = self.slab.get_mut(parent) {
            above.children += 1;
        }
        let (slab, secret) = (&self.slab, self.secret);
        let rehash = |&n: &u32| slab.get(n).map_or(0, |node| spread(secret, node.key()));
        self.by_key.insert_unique(spread(secret, key), number, rehash);
        self.dirty.push(number);
        Some(number)
    }

    pub(super) fn mark_dirty(&mut self, number: u32) {
        if let Some(node) = self.slab.get_mut(number)
            && node.depth & DIRTY == 0
        {
            node.depth |= DIRTY;
            self.dirty.push(number);
        }
    }

    pub(super) fn dirty(&self) -> &[u32] {
        &self.dirty
    }

    /// Nothing is dirty any more; what nobody holds and nothing hangs on is released.
    pub(super) fn settle(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        for &number in &dirty {
            if let Some(node) = self.slab.get_mut(number) {
                node.depth &= !DIRTY;
            }
        }
        for &number in &dirty {
            self.release_unused(number);
        }
    }

    /// The node, then its ancestors as they become unused.
    fn release_unused(&mut self, mut number: u32) {
        while let Some(node) = self.slab.get_mut(number) {
            if node.members != NONE || node.children != 0 || node.is_released() {
                return;
            }
            node.depth |= RELEASED;
            let (key, parent) = (node.key(), node.parent);
            if let Ok(entry) = self.by_key.find_entry(spread(self.secret, key), |&n| n == number) {
                entry.remove();
            }
            self.slab.release(number);
            if let Some(above) = self.slab.get_mut(parent) {
                above.children = above.children.saturating_sub(1);
            }
            number = parent;
        }
    }
}

/// Folded multiply.
fn spread(secret: u64, key: u64) -> u64 {
    let wide = u128::from(key ^ secret).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let high = u64::try_from(wide >> 64).unwrap_or(0);
    let low = u64::try_from(wide & u128::from(u64::MAX)).unwrap_or(0);
    high ^ low
}
