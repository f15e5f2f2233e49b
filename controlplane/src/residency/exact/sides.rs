//! Cache groups beside full attention (sliding windows, recurrent state, local chunks, more full attention): which blocks
//! an engine has in them, by name, and what a prompt needs of them to go on from a boundary.
//!
//! Names are digests of everything up to a block's end, so a name means one place in one prompt, whatever the group. A
//! block may be named here before full attention's is: it waits, and counts when that comes.

use core::hash::BuildHasherDefault;

use hashbrown::HashMap;
use shared::identity::Slot;

use super::sets::{Fold, WordMap};
use super::{Counting, Unsupported};
use crate::events::event::{BlockHash, CacheKind};

/// Groups of one engine.
const MOST_GROUPS: usize = 16;
/// What a name takes in tables, bytes, about.
const NAME_BYTES: usize = 24;

/// How much of a group a boundary needs: blocks that end there and before it, without a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Those of the last `window - 1` tokens.
    Window {
        /// Tokens, at least 1.
        window: u32,
    },
    /// The one that ends there.
    Last,
    /// Those since the last multiple of `chunk` tokens; none at a multiple.
    Chunk {
        /// Tokens, at least 1.
        chunk: u32,
    },
    /// All.
    Everything,
}

impl Need {
    /// What a group of `kind` needs beside the first group of full attention; `None` for kinds that are not understood.
    pub(super) fn of(kind: CacheKind) -> Option<Self> {
        match kind {
            CacheKind::Full => Some(Self::Everything),
            CacheKind::SlidingWindow { window } => Some(Self::Window { window: window.max(1) }),
            CacheKind::ChunkedLocal { chunk } => Some(Self::Chunk { chunk: chunk.max(1) }),
            CacheKind::Recurrent => Some(Self::Last),
            CacheKind::Other => None,
        }
    }

    /// Boundaries up to so many tokens behind a block may depend on it.
    pub(super) const fn influence(self) -> u32 {
        match self {
            Self::Window { window } => window,
            Self::Last => 0,
            Self::Chunk { chunk } => chunk,
            Self::Everything => u32::MAX,
        }
    }
}

/// One group of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    number: u32,
    pub(super) need: Need,
    /// Tokens in a block; 0: not told yet.
    pub(super) block_tokens: u32,
}

impl Group {
    /// Blocks in a run beyond which no boundary asks.
    pub(super) fn enough(&self) -> u32 {
        let size = self.block_tokens.max(1);
        match self.need {
            Need::Window { window } => (window - 1).div_ceil(size),
            Need::Last => 1,
            Need::Chunk { chunk } => chunk.div_ceil(size).saturating_add(1),
            Need::Everything => u32::MAX,
        }
    }
}

/// A group's place among its engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u8);

impl Place {
    const fn bit(self) -> u16 {
        1 << self.0
    }

    /// For memos: the place and a block's number in one word.
    pub(super) fn with(self, block: u32) -> u64 {
        u64::from(self.0) << 32 | u64::from(block)
    }
}

/// What one engine has in its side groups.
#[derive(Default)]
pub(super) struct Side {
    groups: Vec<Group>,
    /// Name -> the groups that have it, a bit each.
    held: WordMap<u16>,
    /// Copies beyond the first, by name and group.
    repeats: HashMap<(u64, u8), u32, BuildHasherDefault<Fold>>,
    /// Blocks whose own boundary is to be looked at.
    pub(super) own: Vec<u32>,
    /// Blocks, with how many tokens behind them boundaries are to be looked at too.
    pub(super) spread: Vec<(u32, u32)>,
}

impl Side {
    /// In the order of their places.
    pub(super) fn groups(&self) -> impl Iterator<Item = (Place, &Group)> {
        (0u8..).map(Place).zip(&self.groups)
    }

    pub(super) fn has(&self, name: BlockHash, place: Place) -> bool {
        self.held.get(&name.0).is_some_and(|held| held & place.bit() != 0)
    }

    /// Was the name not there before?
    pub(super) fn hold(&mut self, name: BlockHash, place: Place, counting: Counting) -> bool {
        let held = self.held.entry(name.0).or_insert(0);
        if *held & place.bit() == 0 {
            *held |= place.bit();
            return true;
        }
        if counting == Counting::PerBlock {
            let copies = self.repeats.entry((name.0, place.0)).or_insert(0);
            *copies = copies.saturating_add(1);
        }
        false
    }

    /// Is the last copy gone?
    pub(super) fn release(&mut self, name: BlockHash, place: Place) -> bool {
        let key = (name.0, place.0);
        match self.repeats.get_mut(&key) {
            Some(1) => {
                self.repeats.remove(&key);
                return false;
            }
            Some(copies) => {
                *copies -= 1;
                return false;
            }
            None => {}
        }
        let Some(held) = self.held.get_mut(&name.0) else { return false };
        let had = *held & place.bit() != 0;
        *held &= !place.bit();
        if *held == 0 {
            self.held.remove(&name.0);
        }
        had
    }

    /// Forgets the name in all groups.
    pub(super) fn drop_name(&mut self, name: BlockHash) {
        if self.held.remove(&name.0).is_some() && !self.repeats.is_empty() {
            self.repeats.retain(|&(other, _), _| other != name.0);
        }
    }

    /// Forgets names that `known` does not know.
    pub(super) fn keep_names(&mut self, known: impl Fn(BlockHash) -> bool) {
        self.held.retain(|&name, _| known(BlockHash(name)));
        self.repeats.retain(|&(name, _), _| known(BlockHash(name)));
    }

    fn clear(&mut self) {
        self.held = WordMap::default();
        self.repeats.clear();
        self.own.clear();
        self.spread.clear();
    }
}

/// By slot.
#[derive(Default)]
pub(super) struct Sides {
    sides: Vec<Option<Box<Side>>>,
    hybrids: usize,
    /// Which engines are hybrid changed since it was last told.
    pub(super) turned: bool,
}

impl Sides {
    /// Has any engine a side group?
    pub(super) const fn any(&self) -> bool {
        self.hybrids > 0
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Side> {
        self.sides.get(slot)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Side> {
        self.sides.get_mut(slot)?.as_deref_mut()
    }

    /// Slots of engines with side groups, ascending.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        (0u32..).zip(&self.sides).filter_map(|(slot, side)| side.as_ref().and_then(|_| Slot::new(slot)))
    }

    /// Where `number` is among the engine's side groups.
    pub(super) fn place(&self, slot: Slot, number: u32) -> Option<Place> {
        if !self.any() {
            return None;
        }
        self.get(slot.index())?.groups().find(|(_, group)| group.number == number).map(|(place, _)| place)
    }

    /// A new side group.
    pub(super) fn open(&mut self, slot: Slot, number: u32, kind: CacheKind) -> Result<Place, Unsupported> {
        let need = Need::of(kind).ok_or(Unsupported::Kind { kind, group: number })?;
        if self.sides.len() <= slot.index() {
            self.sides.resize_with(slot.index() + 1, || None);
        }
        let Some(side) = self.sides.get_mut(slot.index()) else {
            return Err(Unsupported::Kind { kind, group: number });
        };
        if side.is_none() {
            self.hybrids += 1;
            self.turned = true;
        }
        let side = side.get_or_insert_default();
        let place = u8::try_from(side.groups.len()).ok().filter(|_| side.groups.len() < MOST_GROUPS);
        let place = place.map(Place).ok_or(Unsupported::TooMany { most: MOST_GROUPS })?;
        side.groups.push(Group { number, need, block_tokens: 0 });
        Ok(place)
    }

    /// Blocks of the group have so many tokens: says whether that is new. Refused where a boundary needs blocks that end inside those of full
    /// attention: nobody says where such a block lies.
    pub(super) fn set_block_tokens(
        &mut self,
        slot: Slot,
        at: Place,
        tokens: u32,
        full: u32,
    ) -> Result<bool, Unsupported> {
        let Some(group) = self.get_mut(slot.index()).and_then(|side| side.groups.get_mut(usize::from(at.0))) else {
            return Ok(false);
        };
        // Recurrent state is also announced in parts of a block.
        let new = tokens > 0 && group.need != Need::Last && group.block_tokens != tokens;
        if new {
            group.block_tokens = tokens;
        }
        let several = match group.need {
            Need::Last => false,
            Need::Window { window } => window - 1 > tokens,
            Need::Chunk { .. } | Need::Everything => true,
        };
        if several && tokens > 0 && full > 0 && !tokens.is_multiple_of(full) {
            return Err(Unsupported::Blocks { group: group.number, tokens, full });
        }
        Ok(new)
    }

    /// The engine has nothing any more; its groups stay.
    pub(super) fn clear(&mut self, slot: Slot) {
        if let Some(side) = self.get_mut(slot.index()) {
            side.clear();
        }
    }

    /// Another engine may come to the slot.
    pub(super) fn forget(&mut self, slot: Slot) {
        if self.sides.get_mut(slot.index()).and_then(Option::take).is_some() {
            self.hybrids -= 1;
            self.turned = true;
        }
    }

    /// Is there anything to look at?
    pub(super) fn is_dirty(&self) -> bool {
        self.turned || self.sides.iter().flatten().any(|side| !(side.own.is_empty() && side.spread.is_empty()))
    }

    /// Memory in use, bytes.
    pub(super) fn used_bytes(&self) -> usize {
        self.sides.iter().flatten().map(|side| (side.held.len() + side.repeats.len()) * NAME_BYTES).sum()
    }

    /// Memory behind it, bytes.
    pub(super) fn bytes(&self) -> usize {
        let of = |side: &Side| {
            size_of::<Side>()
                + side.groups.capacity() * size_of::<Group>()
                + side.held.allocation_size()
                + side.repeats.allocation_size()
                + side.own.capacity() * 4
                + side.spread.capacity() * 8
        };
        let slots = self.sides.capacity() * size_of::<Option<Box<Side>>>();
        slots + self.sides.iter().flatten().map(|side| of(side)).sum::<usize>()
    }
}
