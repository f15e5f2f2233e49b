//! Which slot of a pool's table stands for which endpoint. A slot stays with its endpoint; after the endpoint left, the
//! slot is free only once its removal was published, or gateways would take the newcomer for the one before.

use std::collections::{BTreeMap, BTreeSet};

use shared::identity::{EndpointId, MAX_ENDPOINTS, Slot};

/// The slots of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotBook {
    taken: BTreeMap<EndpointId, Slot>,
    retired: BTreeSet<u32>,
}

/// What an update changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotChanges {
    /// They left.
    pub removed: Vec<(EndpointId, Slot)>,
    /// They found no slot.
    pub unplaced: Vec<EndpointId>,
}

impl SlotBook {
    /// Now exactly `endpoints` are in the pool. Newcomers get the lowest free slots, in the order given.
    pub fn update(&mut self, endpoints: &[EndpointId]) -> SlotChanges {
        let wanted: BTreeSet<EndpointId> = endpoints.iter().copied().collect();
        let mut changes = SlotChanges::default();
        self.taken.retain(|&id, &mut slot| {
            let stays = wanted.contains(&id);
            if !stays {
                changes.removed.push((id, slot));
            }
            stays
        });
        self.retired.extend(changes.removed.iter().map(|(_, slot)| number(*slot)));
        let used: BTreeSet<u32> = self.taken.values().map(|&slot| number(slot)).chain(self.retired.clone()).collect();
        let mut free = (0..u32::from(MAX_ENDPOINTS)).filter(|slot| !used.contains(slot)).filter_map(Slot::new);
        for &id in endpoints {
            if self.taken.contains_key(&id) {
                continue;
            }
            match free.next() {
                Some(slot) => drop(self.taken.insert(id, slot)),
                None => changes.unplaced.push(id),
            }
        }
        changes
    }

    /// All removals so far are in the published table. True when that freed slots.
    pub fn published(&mut self) -> bool {
        let freed = !self.retired.is_empty();
        self.retired.clear();
        freed
    }

    /// The endpoint's slot.
    #[must_use]
    pub fn slot(&self, endpoint: EndpointId) -> Option<Slot> {
        self.taken.get(&endpoint).copied()
    }
}

/// A slot as the table carries it.
#[must_use]
pub fn number(slot: Slot) -> u32 {
    u32::try_from(slot.index()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(range: std::ops::Range<u64>) -> Vec<EndpointId> {
        range.map(EndpointId).collect()
    }

    #[test]
    fn a_freed_slot_is_reused_only_after_its_removal_was_published() {
        let mut book = SlotBook::default();
        book.update(&ids(0..2));
        let changes = book.update(&ids(1..3));
        assert_eq!(changes.removed, [(EndpointId(0), Slot::new(0).unwrap())]);
        assert_eq!(book.slot(EndpointId(1)), Slot::new(1));
        assert_eq!(book.slot(EndpointId(2)), Slot::new(2));
        assert!(book.published());
        book.update(&ids(1..4));
        assert_eq!(book.slot(EndpointId(3)), Slot::new(0));
    }

    #[test]
    fn endpoints_beyond_the_limit_are_named_and_the_rest_is_placed() {
        let mut book = SlotBook::default();
        let changes = book.update(&ids(0..1026));
        assert_eq!(changes.unplaced, ids(1024..1026));
        assert_eq!(book.slot(EndpointId(1023)), Slot::new(1023));
    }
}
