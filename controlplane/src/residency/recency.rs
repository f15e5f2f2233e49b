//! Memberships (this endpoint holds this chunk) and their order by last use, one doubly linked list per endpoint.
//!
//! Callers touch a chain from its leaf to its root. So a parent always stands on the newer side of its child: the oldest
//! membership is always a leaf, and the newer neighbour of a chunk is, away from branches, the membership of its parent.

use super::holder::Holder;
use super::slab::{NONE, Slab};

/// 20 bytes: a quarter of the bar of 64 for one membership with its share of everything else.
pub(super) struct Membership {
    pub(super) node: u32,
    newer: u32,
    older: u32,
    /// The next membership of the same node.
    pub(super) next: u32,
    pub(super) holder: Holder,
    /// When it was last touched, in ticks of the index that wrap around.
    pub(super) touched: u16,
}

/// One endpoint's memberships by last use.
#[derive(Clone, Copy)]
pub(super) struct Recency {
    newest: u32,
    pub(super) oldest: u32,
    pub(super) len: u32,
    /// Most memberships that a route may leave here; `None`: unbounded.
    pub(super) capacity: Option<u32>,
}

impl Recency {
    pub(super) const fn new(capacity: Option<u32>) -> Self {
        Self { newest: NONE, oldest: NONE, len: 0, capacity }
    }

    pub(super) fn push_newest(&mut self, members: &mut Slab<Membership>, number: u32) {
        if let Some(member) = members.get_mut(number) {
            member.older = self.newest;
            member.newer = NONE;
        }
        match members.get_mut(self.newest) {
            Some(newest) => newest.newer = number,
            None => self.oldest = number,
        }
        self.newest = number;
        self.len += 1;
    }

    pub(super) fn unlink(&mut self, members: &mut Slab<Membership>, number: u32) {
        let Some((newer, older)) = members.get(number).map(|m| (m.newer, m.older)) else { return };
        match members.get_mut(newer) {
            Some(neighbour) => neighbour.older = older,
            None => self.newest = older,
        }
        match members.get_mut(older) {
            Some(neighbour) => neighbour.newer = newer,
            None => self.oldest = newer,
        }
        self.len = self.len.saturating_sub(1);
    }
}

impl Membership {
    pub(super) const fn new(node: u32, holder: Holder, next: u32) -> Self {
        Self { node, newer: NONE, older: NONE, next, holder, touched: 0 }
    }

    /// Who was touched right after it.
    pub(super) const fn newer(&self) -> u32 {
        self.newer
    }
}
