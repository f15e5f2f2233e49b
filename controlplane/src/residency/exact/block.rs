//! The blocks that engines named: a forest of parent links, found by name, each with where its chain stands.
//!
//! Engines that name alike share blocks: a name belongs to a naming, and engines share a naming until their names are
//! seen to disagree. A block that nobody holds stays while a child hangs on it: the child's chain runs through it.

use hashbrown::HashTable;

use super::fork::Forks;
use super::rolling::Chain;
use super::sets::fold;
use super::standing::Standing;
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
/// Free for another block.
pub(super) const RELEASED: u8 = 1 << 2;
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

/// 40 bytes.
pub(super) struct Block {
    name: [u32; 2],
    /// Of its own tokens: tells engines that name alike from those that do not.
    pub(super) check: u32,
    pub(super) parent: u32,
    /// The only child, or a fork.
    pub(super) child: u32,
    pub(super) standing: Standing,
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
            standing: Standing::NOBODY,
            tail: NONE,
            tokens: 0,
            naming: naming.0,
            filled: 0,
            touched: 0,
            ends: 0,
            flags: 0,
        })?;
        self.make_room();
        let rehash = rehash(&self.slab, self.secret);
        self.by_name.insert_unique(self.spread(naming.0, name.0), number, rehash);
        Some(number)
    }

    /// A table that is full of marks of departed names would double; while there is room without them, it is made anew.
    fn make_room(&mut self) {
        let (taken, most) = (self.by_name.len(), self.by_name.num_buckets() / 8 * 7);
        if taken < self.by_name.capacity() || taken + taken / 16 >= most {
            return;
        }
        let rehash = rehash(&self.slab, self.secret);
        let names = core::mem::replace(&mut self.by_name, HashTable::with_capacity(most));
        for number in names {
            self.by_name.insert_unique(rehash(&number), number, &rehash);
        }
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

    /// Makes `child` a child of `parent`; it has no parent yet.
    pub(super) fn link(&mut self, child: u32, parent: u32) {
        let Some(above) = self.slab.get_mut(parent) else { return };
        if above.has(FORK) {
            self.forks.push(above.child, child);
        } else if above.child == NONE {
            above.child = child;
        } else {
            above.child = self.forks.open(above.child, child);
            above.flags |= FORK;
        }
        if let Some(block) = self.slab.get_mut(child) {
            block.parent = parent;
        }
    }

    /// Takes the block from its parent, which is returned.
    pub(super) fn unlink(&mut self, number: u32) -> Option<u32> {
        let parent = core::mem::replace(&mut self.slab.get_mut(number)?.parent, NONE);
        let above = self.slab.get_mut(parent)?;
        if !above.has(FORK) {
            above.child = NONE;
        } else if let Some(only) = self.forks.take(above.child, number) {
            above.flags &= !FORK;
            above.child = only;
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
        self.slab.bytes() + self.by_name.allocation_size() + self.forks.bytes()
    }

    fn spread(&self, naming: u16, name: u64) -> u64 {
        spread(self.secret, naming, name)
    }
}

fn rehash(slab: &Slab<Block>, secret: u64) -> impl Fn(&u32) -> u64 {
    move |&number| slab.get(number).map_or(0, |block| spread(secret, block.naming, block.name()))
}

fn spread(secret: u64, naming: u16, name: u64) -> u64 {
    fold(name ^ secret ^ u64::from(naming) << 48)
}
