//! The blocks that engines named: a forest of parent links, found by name, each with where its chain stands.
//!
//! Engines that name alike share blocks: a name belongs to a naming, and engines share a naming until their names are
//! seen to disagree. A block that nobody holds stays while a child hangs on it: the child's chain runs through it.

use hashbrown::HashTable;

use super::fork::Forks;
use super::rolling::Chain;
use super::sets::{SetId, fold};
use crate::events::event::BlockHash;
use crate::residency::slab::{NONE, Slab};

/// Engines whose equal names mean equal blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Naming(pub(super) u16);

impl Naming {
    /// Where every engine starts.
    pub(super) const SHARED: Self = Self(0);
}

/// What is known of the text up to a block's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// Nothing: somebody referred to the block by name only.
    Unknown,
    /// Its own tokens, but not what comes before them.
    Waiting,
    /// Everything: chunks may end in it.
    Chained,
    /// It is not the rendered prompt (images, embeddings, unknown tokens, a verdict): no chunk ends here or after it.
    Stopped,
}

const TEXT: u8 = 0b11;
const RELEASED: u8 = 1 << 2;
/// In the list of blocks to look at when draining.
pub(super) const DIRTY: u8 = 1 << 3;
/// Among those whose holders changed, while draining.
pub(super) const CHANGED: u8 = 1 << 4;
/// Held more than once by somebody.
pub(super) const REPEATED: u8 = 1 << 5;
/// Remembered though nobody holds it.
pub(super) const LINGERING: u8 = 1 << 6;
/// `child` is the number of a fork.
pub(super) const FORK: u8 = 1 << 7;

/// 52 bytes.
pub(super) struct Block {
    name: [u32; 2],
    /// Of its own tokens: tells engines that name alike from those that do not.
    pub(super) check: u32,
    pub(super) parent: u32,
    /// The only child, or a fork.
    pub(super) child: u32,
    /// Place among its siblings in the parent's fork.
    pub(super) place: u32,
    /// Who has the block.
    pub(super) held: SetId,
    /// Who has it and every block before it, as of the last drain.
    pub(super) reach: SetId,
    /// Chunk ends, then the saved chain; `Chained` only.
    pub(super) tail: u32,
    /// Tokens up to its end; `Chained` only.
    pub(super) tokens: u32,
    pub(super) naming: u16,
    /// Bytes of the unfinished chunk.
    pub(super) filled: u16,
    pub(super) touched: u16,
    /// Chunks that end in it.
    pub(super) ends: u8,
    pub(super) flags: u8,
}

/// One chunk end in `Block::tail`: the key, then how many of the block's tokens come after it.
pub(super) const END_BYTES: usize = 10;

impl Block {
    pub(super) const fn name(&self) -> u64 {
        (self.name[0] as u64) << 32 | self.name[1] as u64
    }

    pub(super) const fn block_hash(&self) -> BlockHash {
        BlockHash(self.name())
    }

    pub(super) const fn text(&self) -> Text {
        match self.flags & TEXT {
            0 => Text::Unknown,
            1 => Text::Waiting,
            2 => Text::Chained,
            _ => Text::Stopped,
        }
    }

    pub(super) const fn set_text(&mut self, text: Text) {
        self.flags = self.flags & !TEXT
            | match text {
                Text::Unknown => 0,
                Text::Waiting => 1,
                Text::Chained => 2,
                Text::Stopped => 3,
            };
    }

    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Length of the string behind `tail`.
    pub(super) fn tail_len(&self) -> usize {
        self.ends_len() + Chain::saved_len(usize::from(self.filled), self.ends > 0)
    }

    pub(super) fn ends_len(&self) -> usize {
        usize::from(self.ends) * END_BYTES
    }
}

pub(super) struct Blocks {
    slab: Slab<Block>,
    by_name: HashTable<u32>,
    forks: Forks,
    /// Keeps clients from choosing where their blocks fall.
    secret: u64,
}

impl Blocks {
    pub(super) fn new(secret: u64) -> Self {
        Self { slab: Slab::new(), by_name: HashTable::new(), forks: Forks::default(), secret }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Block> {
        self.slab.get(number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Block> {
        self.slab.get_mut(number)
    }

    /// The live ones.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Block)> {
        self.slab.iter().filter(|(_, block)| !block.has(RELEASED))
    }

    pub(super) fn find(&self, naming: Naming, name: BlockHash) -> Option<u32> {
        let same = |&n: &u32| self.slab.get(n).is_some_and(|b| b.name() == name.0 && b.naming == naming.0);
        self.by_name.find(self.spread(naming.0, name.0), same).copied()
    }

    /// A block of which nothing is known. The caller knows that the name is new.
    pub(super) fn add(&mut self, naming: Naming, name: BlockHash) -> Option<u32> {
        let high = u32::try_from(name.0 >> 32).unwrap_or(0);
        let low = u32::try_from(name.0 & u64::from(u32::MAX)).unwrap_or(0);
        let number = self.slab.insert(Block {
            name: [high, low],
            check: 0,
            parent: NONE,
            child: NONE,
            place: 0,
            held: SetId::EMPTY,
            reach: SetId::EMPTY,
            tail: NONE,
            tokens: 0,
            naming: naming.0,
            filled: 0,
            touched: 0,
            ends: 0,
            flags: 0,
        })?;
        let (slab, secret) = (&self.slab, self.secret);
        let rehash = |&n: &u32| slab.get(n).map_or(0, |b| spread(secret, b.naming, b.name()));
        self.by_name.insert_unique(spread(secret, naming.0, name.0), number, rehash);
        Some(number)
    }

    /// Nobody finds it by its name any more.
    pub(super) fn forget_name(&mut self, number: u32) {
        let Some(block) = self.slab.get(number) else { return };
        let hash = self.spread(block.naming, block.name());
        if let Ok(entry) = self.by_name.find_entry(hash, |&n| n == number) {
            entry.remove();
        }
    }

    /// The caller has unlinked it and nothing refers to it.
    pub(super) fn release(&mut self, number: u32) {
        self.forget_name(number);
        if let Some(block) = self.slab.get_mut(number) {
            block.flags = RELEASED;
            self.slab.release(number);
        }
    }

    pub(super) fn is_live(&self, number: u32) -> bool {
        self.slab.get(number).is_some_and(|block| !block.has(RELEASED))
    }

    /// Makes `child` a child of `parent`; it has no parent yet.
    pub(super) fn link(&mut self, child: u32, parent: u32) {
        let Some(above) = self.slab.get_mut(parent) else { return };
        let place = if above.has(FORK) {
            self.forks.push(above.child, child)
        } else if above.child == NONE {
            above.child = child;
            0
        } else {
            above.child = self.forks.open(above.child, child);
            above.flags |= FORK;
            1
        };
        if let Some(block) = self.slab.get_mut(child) {
            block.parent = parent;
            block.place = place;
        }
    }

    /// Takes the block from its parent, which is returned.
    pub(super) fn unlink(&mut self, number: u32) -> Option<u32> {
        let block = self.slab.get_mut(number)?;
        let (parent, place) = (core::mem::replace(&mut block.parent, NONE), block.place);
        let above = self.slab.get_mut(parent)?;
        if !above.has(FORK) {
            above.child = NONE;
            return Some(parent);
        }
        let fork = above.child;
        let moved = self.forks.take(fork, place);
        if let Some(only) = self.forks.close_if_single(fork)
            && let Some(above) = self.slab.get_mut(parent)
        {
            above.flags &= !FORK;
            above.child = only;
        }
        if let Some(sibling) = moved.and_then(|moved| self.slab.get_mut(moved)) {
            sibling.place = place;
        }
        Some(parent)
    }

    pub(super) fn children(&self, number: u32) -> &[u32] {
        match self.slab.get(number) {
            Some(block) if block.has(FORK) => self.forks.children(block.child),
            Some(block) if block.child != NONE => core::slice::from_ref(&block.child),
            _ => &[],
        }
    }

    /// Memory behind it, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.slab.bytes() + self.by_name.capacity() * 8 / 7 * 5 + self.forks.bytes()
    }

    fn spread(&self, naming: u16, name: u64) -> u64 {
        spread(self.secret, naming, name)
    }
}

fn spread(secret: u64, naming: u16, name: u64) -> u64 {
    fold(name ^ secret ^ u64::from(naming) << 48)
}
