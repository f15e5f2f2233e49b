//! A stored event: names become blocks, tokens become bytes, bytes go on the parent's chain and end chunks.
//!
//! A block of known name is not decoded again, whichever engine announces it; its tokens are only compared.

use shared::identity::Slot;
use shared::prefix::ChainRoot;

use super::block::{Block, Naming, Text};
use super::chunks::ends;
use super::hold::mark_dirty;
use super::rolling::Chain;
use super::sets::{WordMap, fold};
use super::standing::Standing;
use super::verdict::{BlockId, Continuation};
use super::{ExactResidency, Holder, tier};
use crate::events::event::{BlockHash, BlockStored, ExtraKey, Medium};
use crate::residency::slab::NONE;

/// Tokens of blocks that wait for their parent, over all.
const MOST_WAITING_TOKENS: usize = 4 << 20;

/// Tokens of blocks whose parent's text is not known.
#[derive(Default)]
pub(super) struct Waiting {
    tokens: WordMap<Box<[u32]>>,
    count: usize,
}

impl Waiting {
    /// Returns whether there was room.
    pub(super) fn put(&mut self, block: u32, tokens: &[u32]) -> bool {
        if self.count + tokens.len() > MOST_WAITING_TOKENS {
            return false;
        }
        self.take(block);
        self.count += tokens.len();
        self.tokens.insert(u64::from(block), tokens.into());
        true
    }

    pub(super) fn take(&mut self, block: u32) -> Option<Box<[u32]>> {
        if self.tokens.is_empty() {
            return None;
        }
        let tokens = self.tokens.remove(&u64::from(block))?;
        self.count -= tokens.len();
        Some(tokens)
    }

    pub(super) fn get(&self, block: u32) -> Option<&[u32]> {
        self.tokens.get(&u64::from(block)).map(|tokens| &**tokens)
    }

    pub(super) fn bytes(&self) -> usize {
        self.tokens.allocation_size() + self.count * 4
    }
}

/// Buffers, empty between events.
#[derive(Default)]
pub(super) struct Scratch {
    text: Vec<u8>,
    tail: Vec<u8>,
    keys: Vec<u64>,
}

/// Where an event's next block goes on.
struct Cursor<'a> {
    slot: Slot,
    holder: Holder,
    event: &'a BlockStored,
    naming: Naming,
    parent: Option<u32>,
    /// The chain after `parent`, if it is at hand.
    chain: Option<Chain>,
    now: u16,
}

/// One block of the event.
struct Told<'a> {
    tokens: &'a [u32],
    before: &'a [u32],
    more: bool,
    extra: &'a [ExtraKey],
    check: u32,
}

/// A block's tokens where its event has them.
#[derive(Clone, Copy)]
struct Said<'a> {
    before: &'a [u32],
    tokens: &'a [u32],
    more: bool,
}

impl ExactResidency {
    pub(super) fn learn(&mut self, slot: Slot, event: &BlockStored, now: u16) {
        let Some(engine) = self.engines.get_mut(slot) else { return };
        if event.describes_blocks() {
            engine.full_tokens = event.block_size;
        }
        self.repeats.offloads |= event.medium != Medium::Gpu;
        let naming = self.engines.naming(slot);
        let holder = Holder::new(slot, tier(event.medium));
        if !event.describes_blocks() {
            for &name in &event.hashes {
                if let Some(block) = self.find_or_add(naming, name) {
                    self.hold(block, holder, now);
                }
            }
            return;
        }
        let parent = event.parent.and_then(|name| self.find_or_add(naming, name));
        let mut cursor = Cursor { slot, holder, event, naming, parent, chain: None, now };
        let size = usize::try_from(event.block_size).unwrap_or(usize::MAX);
        for (index, tokens) in event.tokens.chunks_exact(size).enumerate() {
            let told = Told {
                tokens,
                before: event.tokens.get(..index * size).unwrap_or_default(),
                more: index + 1 < event.hashes.len(),
                extra: event.extra_keys.get(index).map_or(&[], Vec::as_slice),
                check: check(tokens),
            };
            if self.learn_block(&mut cursor, index, &told).is_none() {
                break;
            }
        }
        if let Some(parent) = parent {
            self.forget_unused(parent);
        }
    }

    fn find_or_add(&mut self, naming: Naming, name: BlockHash) -> Option<u32> {
        self.blocks.find(naming, name).or_else(|| self.blocks.add(naming, name))
    }

    fn learn_block(&mut self, cursor: &mut Cursor<'_>, index: usize, told: &Told<'_>) -> Option<()> {
        let name = *cursor.event.hashes.get(index)?;
        let mut found = self.blocks.find(cursor.naming, name);
        if let Some(block) = found
            && !self.agrees(block, cursor, told)
        {
            let parent = cursor.parent.and_then(|parent| self.blocks.get(parent)).map(Block::block_hash);
            cursor.naming = self.part_from_others(cursor.slot, block);
            cursor.parent = parent.and_then(|name| self.find_or_add(cursor.naming, name));
            found = self.blocks.find(cursor.naming, name);
            if let Some(block) = found
                && !self.agrees(block, cursor, told)
            {
                self.rename(block);
                // The parent may have been there for that block only.
                cursor.parent = parent.and_then(|name| self.find_or_add(cursor.naming, name));
                found = self.blocks.find(cursor.naming, name);
            }
        }
        let block = match found {
            Some(block) => block,
            None => self.blocks.add(cursor.naming, name)?,
        };
        if self.blocks.get(block)?.text() == Text::Unknown {
            self.describe(block, cursor, told);
        } else {
            cursor.chain = None;
        }
        self.hold(block, cursor.holder, cursor.now);
        cursor.parent = Some(block);
        Some(())
    }

    /// Is what the event tells of the block what is known of it? Copies outside the device are told less exactly.
    fn agrees(&self, number: u32, cursor: &Cursor<'_>, told: &Told<'_>) -> bool {
        let Some(block) = self.blocks.get(number) else { return true };
        if block.text() == Text::Unknown || cursor.event.medium != Medium::Gpu {
            return true;
        }
        let same_parent = cursor.parent.is_none_or(|parent| parent == block.parent);
        same_parent && block.check == self.mark(cursor, told, block.parent == NONE)
    }

    /// What tells the block from others of its name: its tokens, and the namespace where a prompt starts.
    fn mark(&self, cursor: &Cursor<'_>, told: &Told<'_>, first: bool) -> u32 {
        if !first {
            return told.check;
        }
        let seed = self.root(cursor.event, told.extra).seed();
        told.check ^ u32::try_from(seed >> 32).unwrap_or(0)
    }

    /// The block gets its tokens and, if its parent has one, its chain.
    fn describe(&mut self, number: u32, cursor: &mut Cursor<'_>, told: &Told<'_>) {
        let chain = cursor.chain.take();
        let mark = self.mark(cursor, told, cursor.parent.is_none());
        let Some(block) = self.blocks.get_mut(number) else { return };
        block.check = mark;
        let adopts = block.child != NONE;
        let is_held = block.standing != Standing::NOBODY;
        if let Some(parent) = cursor.parent {
            if adopts && self.descends(parent, number) || parent == number {
                return self.stop(number);
            }
            self.blocks.link(number, parent);
        }
        let above = match cursor.parent {
            None => Ok(Chain::start(self.root(cursor.event, told.extra))),
            Some(parent) => match self.blocks.get(parent).map_or(Text::Stopped, |above| above.text()) {
                Text::Chained => chain.or_else(|| self.chain_after(parent)).ok_or(Text::Stopped),
                Text::Stopped => Err(Text::Stopped),
                Text::Unknown | Text::Waiting => Err(Text::Waiting),
            },
        };
        if !continues_text(cursor.event, told.extra, cursor.parent.is_none()) {
            self.stop(number);
        } else {
            match above {
                Ok(chain) => {
                    let said = Said { before: told.before, tokens: told.tokens, more: told.more };
                    cursor.chain = self.continue_chain(number, chain, said);
                }
                Err(Text::Waiting) => self.wait(number, told.tokens),
                Err(_) => self.stop(number),
            }
        }
        if adopts {
            self.ripen(number);
        }
        if (adopts || is_held) && self.sides.any() {
            self.look_behind_everywhere(number);
        }
    }

    fn wait(&mut self, number: u32, tokens: &[u32]) {
        self.counters.orphans += 1;
        let kept = self.waiting.put(number, tokens);
        self.counters.forsaken += u64::from(!kept);
        if let Some(block) = self.blocks.get_mut(number) {
            block.set_text(Text::Waiting);
        }
    }

    pub(super) fn stop(&mut self, number: u32) {
        self.counters.stopped += 1;
        if let Some(block) = self.blocks.get_mut(number) {
            block.set_text(Text::Stopped);
        }
    }

    /// Puts the block's tokens on `chain`. Returns the chain after the block, or `None` if it stopped there.
    fn continue_chain(&mut self, number: u32, mut chain: Chain, said: Said<'_>) -> Option<Chain> {
        let goes_on = self.verdict.is_none() || self.ask(number, said);
        let tokens = said.tokens;
        let tail = if goes_on { self.write_tail(&mut chain, tokens) } else { None };
        let place = match tail {
            Some(_) => self.tails.insert(&self.scratch.tail),
            None => None,
        };
        let (Some(tail), Some((ends, filled))) = (place, tail) else {
            self.stop(number);
            return None;
        };
        let above =
            self.blocks.get(number).and_then(|block| self.blocks.get(block.parent)).map_or(0, |above| above.tokens);
        let block = self.blocks.get_mut(number)?;
        block.tail = tail;
        block.ends = ends;
        block.filled = filled;
        block.tokens = above.saturating_add(u32::try_from(tokens.len()).unwrap_or(u32::MAX));
        block.set_text(Text::Chained);
        mark_dirty(block, number, &mut self.dirty);
        for (nth, &key) in (0..).zip(&self.scratch.keys) {
            self.chunks.insert(key, number, nth, &self.blocks, &self.tails);
        }
        Some(chain)
    }

    /// What the verdict says of the block.
    fn ask(&mut self, number: u32, said: Said<'_>) -> bool {
        let Said { before, tokens, more } = said;
        let parent = self.blocks.get(number).map_or(NONE, |block| block.parent);
        let (Some(block), parent) = (self.id_of(number), self.id_of(parent)) else { return true };
        let next = Continuation { parent, block, before, tokens, more };
        self.verdict.as_mut().is_none_or(|verdict| verdict.goes_on(&next))
    }

    /// Writes what the block is to remember; returns the chunks that it ends and the bytes of the unfinished one.
    fn write_tail(&mut self, chain: &mut Chain, tokens: &[u32]) -> Option<(u8, u16)> {
        let Scratch { text, tail, keys } = &mut self.scratch;
        tail.clear();
        keys.clear();
        let length = self.decoder.decode(tokens, text)?;
        let text = text.get_mut(..length)?;
        let decoder = &self.decoder;
        chain.absorb(text, usize::from(self.scope.chunk_bytes.max(1)), |key, taken| {
            let after = tokens.len() - decoder.tokens_within(tokens, taken);
            tail.extend_from_slice(&key.to_le_bytes());
            tail.extend_from_slice(&u16::try_from(after).unwrap_or(u16::MAX).to_le_bytes());
            keys.push(key);
        });
        // The text is prompt: it stays nowhere.
        text.fill(0);
        chain.save(!keys.is_empty(), tail);
        Some((u8::try_from(keys.len()).ok()?, u16::try_from(chain.filled()).ok()?))
    }

    /// The block got a chain, or never will: its descendants that waited for it follow.
    pub(super) fn ripen(&mut self, number: u32) {
        let mut above = vec![number];
        while let Some(parent) = above.pop() {
            let Some(text) = self.blocks.get(parent).map(|block| block.text()) else { continue };
            let chain = match text {
                Text::Chained => self.chain_after(parent),
                Text::Stopped => None,
                Text::Unknown | Text::Waiting => continue,
            };
            for child in self.blocks.children(parent).to_vec() {
                if self.blocks.get(child).is_none_or(|block| block.text() != Text::Waiting) {
                    continue;
                }
                let tokens = self.waiting.take(child);
                match (&chain, tokens) {
                    (Some(chain), Some(tokens)) => {
                        self.counters.adopted += 1;
                        let said = Said { before: &[], tokens: &tokens, more: false };
                        self.continue_chain(child, chain.clone(), said);
                    }
                    _ => self.stop(child),
                }
                above.push(child);
            }
        }
    }

    /// Is `ancestor` on the way from `number` to the root?
    fn descends(&self, mut number: u32, ancestor: u32) -> bool {
        while let Some(block) = self.blocks.get(number) {
            if number == ancestor {
                return true;
            }
            number = block.parent;
        }
        false
    }

    fn id_of(&self, number: u32) -> Option<BlockId> {
        self.blocks.get(number).map(|block| BlockId::new(number, block.block_hash()))
    }

    fn chain_after(&self, number: u32) -> Option<Chain> {
        let block = self.blocks.get(number)?;
        let tail = self.tails.get(block.tail, block.tail_len())?;
        let last_key = ends(block, &self.tails).last().map(|end| end.key);
        Chain::load(usize::from(block.filled), last_key, tail.get(block.ends_len()..)?)
    }

    fn root(&self, event: &BlockStored, extra: &[ExtraKey]) -> ChainRoot {
        ChainRoot::new(&self.scope.model, event.lora_name.as_deref(), salt(event, extra))
    }
}

/// The cache salt among a first block's extra keys: the text that is not the adapter.
fn salt<'a>(event: &BlockStored, extra: &'a [ExtraKey]) -> Option<&'a str> {
    texts(event, extra).next()
}

/// The texts among `extra` that are not the adapter.
fn texts<'a>(event: &BlockStored, extra: &'a [ExtraKey]) -> impl Iterator<Item = &'a str> {
    let all = extra.iter().filter_map(|key| match key {
        ExtraKey::Text(text) => Some(text.as_str()),
        ExtraKey::Multimodal(..) | ExtraKey::Opaque => None,
    });
    all.skip(usize::from(event.lora_name.is_some()))
}

/// Is the block what the template rendered? Images and embeddings are not; neither is a text that nobody knows.
fn continues_text(event: &BlockStored, extra: &[ExtraKey], first: bool) -> bool {
    let known_texts = usize::from(first);
    extra.iter().all(|key| matches!(key, ExtraKey::Text(_))) && texts(event, extra).count() <= known_texts
}

/// Two lanes, so that the multiplications of one do not wait for the other's.
fn check(tokens: &[u32]) -> u32 {
    let (mut even, mut odd) = (1u64, 2u64);
    let (fours, rest) = tokens.as_chunks::<4>();
    for &[a, b, c, d] in fours {
        even = fold(even ^ (u64::from(a) << 32 | u64::from(b)));
        odd = fold(odd ^ (u64::from(c) << 32 | u64::from(d)));
    }
    for &token in rest {
        even = fold(even ^ u64::from(token));
    }
    u32::try_from(fold(even ^ odd.rotate_left(32)) >> 32).unwrap_or(0)
}
