//! Who holds a chunk, interned: most chunks share their holder set with their neighbours, so the index keeps a small
//! number per chunk and equal numbers mean equal sets.

use std::collections::HashMap;

use crate::identity::Slot;

/// Where in an endpoint a chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// In the accelerator's KV cache: free to use.
    Gpu,
    /// In host memory: reloaded at some cost.
    Cpu,
    /// On disk or in a remote store.
    Storage,
    /// No place: a prompt can go on from this chunk's end. It matters for endpoints for which holding every chunk is not
    /// enough (`Residency::resuming`), and stands beside one of their tiers.
    Checkpoint,
}

/// One endpoint's copy of a chunk; on the wire `slot * 4 + tier`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// Which endpoint.
    pub slot: Slot,
    /// Where in it.
    pub tier: Tier,
}

impl Holder {
    /// `None` for a slot out of range.
    #[must_use]
    pub fn from_wire(code: u32) -> Option<Self> {
        let tier = match code % 4 {
            0 => Tier::Gpu,
            1 => Tier::Cpu,
            2 => Tier::Storage,
            _ => Tier::Checkpoint,
        };
        Some(Self { slot: Slot::new(code / 4)?, tier })
    }

    /// The wire form.
    #[must_use]
    pub fn to_wire(self) -> u32 {
        let tier = match self.tier {
            Tier::Gpu => 0,
            Tier::Cpu => 1,
            Tier::Storage => 2,
            Tier::Checkpoint => 3,
        };
        u32::try_from(self.slot.index()).unwrap_or(0) * 4 + tier
    }
}

/// Number of an interned set. `SetId::EMPTY` is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SetId(pub(crate) u32);

impl SetId {
    pub(crate) const EMPTY: Self = Self(0);
}

/// The interned sets with their reference counts; a set that no chunk uses is freed.
#[derive(Clone, Debug)]
pub(crate) struct HolderSets {
    sets: Vec<CountedSet>,
    numbers: HashMap<Box<[Holder]>, u32>,
    free: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
struct CountedSet {
    holders: Box<[Holder]>,
    uses: u32,
}

impl Default for HolderSets {
    fn default() -> Self {
        Self { sets: vec![CountedSet::default()], numbers: HashMap::new(), free: Vec::new() }
    }
}

impl HolderSets {
    /// The number of the set with these holders (ascending), its count raised by `uses`.
    pub(crate) fn acquire(&mut self, holders: &[Holder], uses: u32) -> SetId {
        if holders.is_empty() || uses == 0 {
            return SetId::EMPTY;
        }
        if let Some(&number) = self.numbers.get(holders) {
            self.retain(SetId(number), uses);
            return SetId(number);
        }
        let set = CountedSet { holders: holders.into(), uses };
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.sets.push(CountedSet::default());
                u32::try_from(self.sets.len() - 1).unwrap_or(0)
            }
        };
        if let Some(place) = self.sets.get_mut(number as usize) {
            *place = set;
        }
        self.numbers.insert(holders.into(), number);
        SetId(number)
    }

    pub(crate) fn retain(&mut self, id: SetId, uses: u32) {
        if id != SetId::EMPTY
            && let Some(set) = self.sets.get_mut(id.0 as usize)
        {
            set.uses = set.uses.saturating_add(uses);
        }
    }

    pub(crate) fn release(&mut self, id: SetId) {
        if id == SetId::EMPTY {
            return;
        }
        let Some(set) = self.sets.get_mut(id.0 as usize) else { return };
        set.uses = set.uses.saturating_sub(1);
        if set.uses == 0 {
            self.numbers.remove(&set.holders);
            set.holders = Box::default();
            self.free.push(id.0);
        }
    }

    pub(crate) fn holders(&self, id: SetId) -> &[Holder] {
        self.sets.get(id.0 as usize).map_or(&[], |set| &set.holders)
    }

    /// Sets in use.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
}
