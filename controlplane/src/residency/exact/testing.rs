//! Engines made of nothing but the blocks that they hold, and what residency must be because of that, worked out slowly.

use std::collections::{BTreeMap, BTreeSet};

use shared::clock::Timestamp;
use shared::identity::Slot;
use shared::prefix::{ChainRoot, chain};
use shared::wire::ResidencyGroup;

use super::{ExactResidency, Holder, Scope, Tier};
use crate::events::event::{BlockHash, BlockRemoved, BlockStored, ExtraKey, KvEvent, Medium};
use crate::vocabulary::table::TokenTable;

/// Key -> (holders as on the wire, tokens).
pub(super) type Published = BTreeMap<u64, (BTreeSet<u32>, u32)>;

/// A block: its prompt's namespace, then all tokens up to its end.
pub(super) type Path = (usize, Vec<u32>);

/// How engines name blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Alike.
    Digests,
    /// Each from its own seed.
    Seeded,
    /// Each counts from one.
    Counted,
}

pub(super) const NAMESPACES: [(Option<&str>, Option<&str>); 3] =
    [(None, None), (Some("lora"), None), (None, Some("salt"))];
const MEDIA: [Medium; 3] = [Medium::Gpu, Medium::Cpu, Medium::Storage];
const WORDS: u32 = 48;

pub(super) struct World {
    pub(super) block_size: usize,
    chunk_bytes: u16,
    names: Names,
    counted: BTreeMap<(u32, Path), u64>,
    /// By slot: copies in each medium.
    pub(super) engines: Vec<BTreeMap<Path, [u32; 3]>>,
}

pub(super) fn slot(index: u32) -> Slot {
    Slot::new(index).unwrap()
}

pub(super) fn at(seconds: f64) -> Timestamp {
    Timestamp::from_secs_f64(seconds)
}

pub(super) fn draw(seed: u64) -> u64 {
    super::sets::fold(super::sets::fold(seed ^ 0xABCD_EF01))
}

/// What `token` stands for: words of 1 to 12 letters, then single letters.
pub(super) fn spelled(token: u32) -> Vec<u8> {
    match token {
        0..WORDS => (0..=u64::from(token % 12)).map(|i| b'a' + (draw(u64::from(token) << 8 | i) % 3) as u8).collect(),
        _ => vec![b'a' + (token - WORDS) as u8],
    }
}

pub(super) fn vocabulary() -> TokenTable {
    let words: Vec<Vec<u8>> = (0..WORDS + 3).map(spelled).collect();
    TokenTable::new(words.iter().map(|word| Some(&word[..])))
}

pub(super) fn text(tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|&token| spelled(token)).collect()
}

/// Prompts in threes share a beginning; every fourth spells the text of the one before letter by letter.
pub(super) fn prompt(number: usize, length: usize) -> Vec<u32> {
    if number % 4 == 3 {
        let letters = text(&prompt(number - 1, length));
        return letters.into_iter().take(length).map(|letter| WORDS + u32::from(letter - b'a')).collect();
    }
    let shared = length * (number % 3) / 3;
    let token = |i: usize| draw((if i < shared { 0 } else { number as u64 + 1 }) << 32 | i as u64) % u64::from(WORDS);
    (0..length).map(|i| token(i) as u32).collect()
}

impl World {
    pub(super) fn new(engines: usize, block_size: usize, chunk_bytes: u16, names: Names) -> Self {
        Self { block_size, chunk_bytes, names, counted: BTreeMap::new(), engines: vec![BTreeMap::new(); engines] }
    }

    pub(super) fn index(&self) -> ExactResidency {
        let scope = Scope { model: "m".into(), chunk_bytes: self.chunk_bytes, budget_bytes: 1 << 30, secret: 5 };
        ExactResidency::new(scope, vocabulary())
    }

    pub(super) fn chunk_bytes(&self) -> usize {
        usize::from(self.chunk_bytes)
    }

    /// The paths of the prompt's blocks.
    pub(super) fn paths(&self, number: usize, blocks: usize) -> Vec<Path> {
        let tokens = prompt(number, 12 * self.block_size);
        (1..=blocks.min(12)).map(|i| (number % 3, tokens[..(i * self.block_size).min(tokens.len())].to_vec())).collect()
    }

    pub(super) fn name(&mut self, slot: u32, path: &Path) -> BlockHash {
        let mix =
            |seed: u64| path.1.iter().fold(draw(seed + path.0 as u64), |hash, &token| draw(hash ^ u64::from(token)));
        BlockHash(match self.names {
            Names::Digests => mix(1),
            Names::Seeded => mix(1000 + u64::from(slot) * 10),
            Names::Counted => {
                let next = self.counted.keys().filter(|(s, _)| *s == slot).count() as u64 + 1;
                *self.counted.entry((slot, path.clone())).or_insert(next)
            }
        })
    }

    pub(super) fn parent(&self, path: &Path) -> Option<Path> {
        let before = path.1.len() - self.block_size;
        (before > 0).then(|| (path.0, path.1[..before].to_vec()))
    }

    /// The engine says what the blocks (a chain's next ones) are; changes nothing.
    pub(super) fn describe(&mut self, slot: u32, blocks: &[Path], medium: Medium) -> KvEvent {
        let (adapter, salt) = NAMESPACES[blocks[0].0];
        let parent = self.parent(&blocks[0]);
        let extra = |first: bool| {
            let texts = adapter.into_iter().chain(salt.filter(|_| first));
            texts.map(|text| ExtraKey::Text(text.to_owned())).collect::<Vec<_>>()
        };
        KvEvent::Stored(BlockStored {
            hashes: blocks.iter().map(|path| self.name(slot, path)).collect(),
            tokens: blocks.iter().flat_map(|path| path.1[path.1.len() - self.block_size..].to_vec()).collect(),
            block_size: self.block_size as u32,
            lora_name: adapter.map(str::to_owned),
            medium,
            extra_keys: (0..blocks.len()).map(|i| extra(i == 0 && parent.is_none())).collect(),
            parent: parent.map(|path| self.name(slot, &path)),
            ..BlockStored::default()
        })
    }

    /// The engine takes the blocks into `medium`, one more copy of each.
    pub(super) fn take(&mut self, slot: u32, blocks: &[Path], medium: Medium) {
        for path in blocks {
            self.engines[slot as usize].entry(path.clone()).or_default()[medium as usize] += 1;
        }
    }

    pub(super) fn store(&mut self, slot: u32, blocks: &[Path]) -> KvEvent {
        self.take(slot, blocks, Medium::Gpu);
        self.describe(slot, blocks, Medium::Gpu)
    }

    /// An event that only names the block.
    pub(super) fn place(&mut self, slot: u32, path: &Path, medium: Medium) -> KvEvent {
        self.take(slot, core::slice::from_ref(path), medium);
        let hashes = vec![self.name(slot, path)];
        KvEvent::Stored(BlockStored { hashes, medium, ..BlockStored::default() })
    }

    /// One copy goes; `None` when there is none.
    pub(super) fn evict(&mut self, slot: u32, path: &Path, medium: Medium) -> Option<KvEvent> {
        let copies = self.engines[slot as usize].get_mut(path)?;
        copies[medium as usize] = copies[medium as usize].checked_sub(1)?;
        if *copies == [0; 3] {
            self.engines[slot as usize].remove(path);
        }
        let hashes = vec![self.name(slot, path)];
        Some(KvEvent::Removed(BlockRemoved { hashes, medium, group: 0 }))
    }

    /// What must be published: every chunk whose last byte lies in a held block with no hole before it.
    pub(super) fn published(&self) -> Published {
        let mut published = Published::new();
        for (slot, held) in (0u32..).zip(&self.engines) {
            for (path, copies) in held {
                let mut above = self.parent(path);
                while above.as_ref().is_some_and(|path| held.contains_key(path)) {
                    above = self.parent(&above.unwrap());
                }
                if above.is_some() {
                    continue;
                }
                let (adapter, salt) = NAMESPACES[path.0];
                let (whole, mut keys) = (text(&path.1), Vec::new());
                let chunk = usize::from(self.chunk_bytes);
                chain(ChainRoot::new("m", adapter, salt), chunk, [&whole[..]], &mut keys);
                let mut ends = vec![0];
                ends.extend(path.1.iter().scan(0, |end, &token| {
                    *end += spelled(token).len();
                    Some(*end)
                }));
                let before = ends[path.1.len() - self.block_size];
                for (i, &key) in keys.iter().enumerate().filter(|(i, _)| (i + 1) * chunk > before) {
                    let tokens = ends.partition_point(|&end| end <= (i + 1) * chunk) as u32 - 1;
                    let entry = published.entry(key).or_insert((BTreeSet::new(), tokens));
                    entry.1 = entry.1.min(tokens);
                    for (copies, tier) in copies.iter().zip([Tier::Gpu, Tier::Cpu, Tier::Storage]) {
                        if *copies > 0 {
                            entry.0.insert(Holder::new(Slot::new(slot).unwrap(), tier).wire());
                        }
                    }
                }
            }
        }
        published
    }
}

pub(super) fn medium(number: usize) -> Medium {
    MEDIA[number % 3]
}

/// What a gateway makes of groups.
pub(super) fn fold_groups(published: &mut Published, groups: &[ResidencyGroup]) {
    for group in groups {
        for (i, &key) in group.keys.iter().enumerate() {
            if group.holders.is_empty() {
                published.remove(&key);
            } else {
                published.insert(key, (group.holders.iter().copied().collect(), group.tokens[i]));
            }
        }
    }
}

pub(super) fn content(index: &ExactResidency) -> Published {
    let mut published = Published::new();
    fold_groups(&mut published, &index.content());
    published
}
