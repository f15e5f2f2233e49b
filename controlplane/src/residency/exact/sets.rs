//! Sets of holders, interned: a block stores a number, and what one event does to a set is worked out once and
//! remembered, because it then happens to block after block of the same chain.
//!
//! A set that nobody uses stays until a sweep: its number may be remembered as an outcome.

use core::hash::{BuildHasherDefault, Hasher};

use hashbrown::{HashMap, HashTable};

use crate::residency::holder::Holder;

/// Number of a set. `SetId::EMPTY` is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SetId(pub(super) u32);

impl SetId {
    pub(super) const EMPTY: Self = Self(0);
}

/// For keys that are one word.
pub(super) type WordMap<V> = HashMap<u64, V, BuildHasherDefault<Fold>>;

/// Folded multiply of the last word.
#[derive(Clone, Copy, Default)]
pub(super) struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(self.0 ^ u64::from(byte)));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = fold(word);
    }
}

/// Spreads a word over all bits.
pub(super) fn fold(word: u64) -> u64 {
    let wide = u128::from(word ^ 0x5851_F42D_4C95_7F2D).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let high = u64::try_from(wide >> 64).unwrap_or(0);
    let low = u64::try_from(wide & u128::from(u64::MAX)).unwrap_or(0);
    high ^ low
}

pub(super) struct HolderSets {
    sets: Vec<CountedSet>,
    by_holders: HashTable<u32>,
    free: Vec<u32>,
    /// (set, holder, with or without) -> set.
    changed: WordMap<SetId>,
    /// (set, above) -> those of the set whose endpoint is in `above` too.
    reaching: WordMap<SetId>,
    /// Live sets after the last sweep.
    swept: usize,
}

#[derive(Default)]
struct CountedSet {
    holders: Box<[Holder]>,
    uses: u32,
}

impl HolderSets {
    pub(super) fn new() -> Self {
        Self {
            sets: vec![CountedSet::default()],
            by_holders: HashTable::new(),
            free: Vec::new(),
            changed: WordMap::default(),
            reaching: WordMap::default(),
            swept: 0,
        }
    }

    /// Ascending.
    pub(super) fn holders(&self, set: SetId) -> &[Holder] {
        self.sets.get(set.0 as usize).map_or(&[], |set| &set.holders)
    }

    /// `set` and `holder`; the same number when it is in there.
    pub(super) fn with(&mut self, set: SetId, holder: Holder) -> SetId {
        let memo = u64::from(set.0) << 16 | u64::from(holder.wire()) << 1;
        if let Some(&known) = self.changed.get(&memo) {
            return known;
        }
        let mut holders = self.holders(set).to_vec();
        if let Err(at) = holders.binary_search(&holder) {
            holders.insert(at, holder);
        }
        let changed = self.intern(&holders);
        self.changed.insert(memo, changed);
        changed
    }

    /// `set` less `holder`; the same number when it is not in there.
    pub(super) fn without(&mut self, set: SetId, holder: Holder) -> SetId {
        let memo = u64::from(set.0) << 16 | u64::from(holder.wire()) << 1 | 1;
        if let Some(&known) = self.changed.get(&memo) {
            return known;
        }
        let holders: Vec<Holder> = self.holders(set).iter().copied().filter(|&other| other != holder).collect();
        let changed = self.intern(&holders);
        self.changed.insert(memo, changed);
        changed
    }

    /// Those of `set` whose endpoint has something in `above`.
    pub(super) fn reaching(&mut self, set: SetId, above: SetId) -> SetId {
        if set == above || set == SetId::EMPTY {
            return set;
        }
        let memo = u64::from(set.0) << 32 | u64::from(above.0);
        if let Some(&known) = self.reaching.get(&memo) {
            return known;
        }
        let over = self.holders(above);
        let holds =
            |slot| over.get(over.partition_point(|h| h.slot_index() < slot)).is_some_and(|h| h.slot_index() == slot);
        let holders: Vec<Holder> = self.holders(set).iter().copied().filter(|h| holds(h.slot_index())).collect();
        let reaching = self.intern(&holders);
        self.reaching.insert(memo, reaching);
        reaching
    }

    /// The set of exactly `holders`, which ascend.
    pub(super) fn intern(&mut self, holders: &[Holder]) -> SetId {
        if holders.is_empty() {
            return SetId::EMPTY;
        }
        let sets = &self.sets;
        let same = |&n: &u32| sets.get(n as usize).is_some_and(|set| *set.holders == *holders);
        if let Some(&number) = self.by_holders.find(hash(holders), same) {
            return SetId(number);
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.sets.push(CountedSet::default());
            u32::try_from(self.sets.len() - 1).unwrap_or(0)
        });
        if let Some(place) = self.sets.get_mut(number as usize) {
            *place = CountedSet { holders: holders.into(), uses: 0 };
        }
        let sets = &self.sets;
        let rehash = |&n: &u32| sets.get(n as usize).map_or(0, |set| hash(&set.holders));
        self.by_holders.insert_unique(hash(holders), number, rehash);
        SetId(number)
    }

    /// One user of `from` now uses `to`.
    pub(super) fn swap(&mut self, from: SetId, to: SetId) {
        if let Some(set) = self.sets.get_mut(to.0 as usize) {
            set.uses = set.uses.saturating_add(1);
        }
        if let Some(set) = self.sets.get_mut(from.0 as usize) {
            set.uses = set.uses.saturating_sub(1);
        }
    }

    /// Drops unused sets when there are many of them. Numbers from before, unless in use, mean nothing afterwards.
    pub(super) fn sweep(&mut self) {
        let memos = self.changed.len() + self.reaching.len();
        if self.by_holders.len() < 2 * self.swept + 1024 && memos < 64 * self.swept + 65_536 {
            return;
        }
        self.changed = WordMap::default();
        self.reaching = WordMap::default();
        let (sets, free) = (&mut self.sets, &mut self.free);
        self.by_holders.retain(|&mut number| match sets.get_mut(number as usize) {
            Some(set) if set.uses == 0 => {
                set.holders = Box::default();
                free.push(number);
                false
            }
            _ => true,
        });
        self.swept = self.by_holders.len();
    }

    pub(super) fn bytes(&self) -> usize {
        let holders: usize = self.sets.iter().map(|set| size_of_val(&*set.holders)).sum();
        let memos = self.changed.allocation_size() + self.reaching.allocation_size();
        let tables = self.by_holders.allocation_size() + self.free.capacity() * 4;
        self.sets.capacity() * size_of::<CountedSet>() + holders + memos + tables
    }
}

fn hash(holders: &[Holder]) -> u64 {
    holders.iter().fold(0, |hash, holder| fold(hash ^ u64::from(holder.wire())))
}
