//! Where engines with several cache groups can go on: the boundaries at which every group has what it needs.
//!
//! Events list blocks to look at (`aside`); a drain works out their boundaries, each group's unbroken run of blocks
//! once. What comes out is a holder of the block (`Tier::Checkpoint`), so it follows reach down the chains like the rest.

use shared::identity::Slot;

use super::block::{Block, RELEASED, Text};
use super::sets::{SetId, WordMap};
use super::sides::{Group, Need, Place, Side};
use super::{ExactResidency, Holder, Tier};

/// A run of blocks without a hole that begins where the prompt does.
const TO_THE_ROOT: u32 = u32::MAX;

/// (group, block) -> length of the run that ends in the block; at least so much where a walk had seen enough.
type Runs = WordMap<u32>;

impl ExactResidency {
    /// Works out the boundaries that were listed.
    pub(super) fn settle_checkpoints(&mut self) {
        for slot in self.sides.slots().collect::<Vec<_>>() {
            let Some(side) = self.sides.get_mut(slot.index()) else { continue };
            if side.own.is_empty() && side.spread.is_empty() {
                continue;
            }
            let (own, spread) = (core::mem::take(&mut side.own), core::mem::take(&mut side.spread));
            let mut runs = Runs::default();
            let mut done = WordMap::default();
            self.settle_behind(slot, &spread, &mut runs, &mut done);
            for number in own {
                if !done.contains_key(&u64::from(number)) {
                    self.settle_boundary(slot, number, &mut runs);
                }
            }
        }
    }

    /// The listed blocks and those behind them, each as far as it has influence. `done` gets the blocks seen.
    fn settle_behind(&mut self, slot: Slot, spread: &[(u32, u32)], runs: &mut Runs, done: &mut WordMap<u32>) {
        let mut listed: WordMap<u32> = WordMap::default();
        for &(number, influence) in spread {
            let most = listed.entry(u64::from(number)).or_insert(0);
            *most = influence.max(*most);
        }
        let mut below = Vec::new();
        for &(number, _) in spread {
            below.push((number, 0));
            while let Some((number, inherited)) = below.pop() {
                let Some(block) = self.blocks.get(number).filter(|block| block.text() == Text::Chained) else {
                    continue;
                };
                let (own, tokens) = (listed.get(&u64::from(number)).copied().unwrap_or(0), block.tokens);
                let until = inherited.max(tokens.saturating_add(own));
                if done.get(&u64::from(number)).is_some_and(|&before| before >= until) {
                    continue;
                }
                if done.insert(u64::from(number), until).is_none() {
                    self.settle_boundary(slot, number, runs);
                }
                if tokens < until {
                    below.extend(self.blocks.children(number).iter().map(|&child| (child, until)));
                }
            }
        }
    }

    /// Says whether the engine can go on from the end of the block.
    fn settle_boundary(&mut self, slot: Slot, number: u32, runs: &mut Runs) {
        let before = self.sets_of(number).held;
        let has_it = self.sets.holders(before).iter().any(|h| h.slot_index() == slot.index() && !h.is_checkpoint());
        if !has_it {
            return;
        }
        let resumes = self
            .sides
            .get(slot.index())
            .is_some_and(|side| side.groups().all(|(place, group)| self.suffices(side, (place, group), number, runs)));
        let checkpoint = Holder::new(slot, Tier::Checkpoint);
        let held = if resumes { self.sets.with(before, checkpoint) } else { self.sets.without(before, checkpoint) };
        if held != before {
            self.set_held(number, held);
        }
    }

    /// Has the group what it needs at the end of the block?
    fn suffices(&self, side: &Side, (place, group): (Place, &Group), number: u32, runs: &mut Runs) -> bool {
        let Some(block) = self.blocks.get(number).filter(|block| block.text() == Text::Chained) else { return false };
        let size = group.block_tokens;
        let needed = match group.need {
            Need::Last => return side.has(block.block_hash(), place),
            Need::Window { window: 1 } => return true,
            Need::Chunk { chunk } if block.tokens.is_multiple_of(chunk) => return true,
            _ if size == 0 || !block.tokens.is_multiple_of(size) => return false,
            Need::Window { window } => (window - 1).div_ceil(size),
            Need::Chunk { chunk } => block.tokens / size - block.tokens / chunk * chunk / size,
            Need::Everything => TO_THE_ROOT,
        };
        self.run(side, (place, group), number, runs) >= needed
    }

    /// Blocks of the group that end in the block and before it, without a hole; at least as many as anyone needs.
    fn run(&self, side: &Side, (place, group): (Place, &Group), number: u32, runs: &mut Runs) -> u32 {
        let enough = group.enough();
        let mut passed = Vec::new();
        let mut at = number;
        let beyond = loop {
            if let Some(&known) = runs.get(&place.with(at)) {
                break known;
            }
            let Some(block) = self.blocks.get(at).filter(|block| side.has(block.block_hash(), place)) else {
                runs.insert(place.with(at), 0);
                break 0;
            };
            passed.push(at);
            let length = u32::try_from(passed.len()).unwrap_or(u32::MAX);
            if length >= enough {
                runs.insert(place.with(number), length);
                return length;
            }
            match block.tokens.checked_sub(group.block_tokens) {
                None => break 0,
                Some(0) => break TO_THE_ROOT,
                Some(end) => match self.ancestor_ending_at(block.parent, end) {
                    Some(before) => at = before,
                    None => break 0,
                },
            }
        };
        let mut length = beyond;
        for &block in passed.iter().rev() {
            length = length.saturating_add(1);
            runs.insert(place.with(block), length);
        }
        length
    }

    /// `number` or the block before it that ends after `tokens`; `None` if none does.
    fn ancestor_ending_at(&self, mut number: u32, tokens: u32) -> Option<u32> {
        loop {
            let block = self.blocks.get(number)?;
            if block.tokens <= tokens {
                return (block.tokens == tokens && block.text() == Text::Chained).then_some(number);
            }
            number = block.parent;
        }
    }

    /// The nearest block, from `number` towards the root, that ends a chunk.
    pub(super) fn anchor(&self, mut number: u32) -> Option<u32> {
        loop {
            let block = self.blocks.get(number).filter(|block| !block.has(RELEASED))?;
            if block.ends > 0 {
                return Some(number);
            }
            number = block.parent;
        }
    }

    /// The last chunk that ends before the block, which ends none.
    pub(super) fn chunk_before(&self, number: u32) -> Option<u64> {
        let block = self.blocks.get(self.anchor(self.blocks.get(number)?.parent)?)?;
        super::chunks::ends(block, &self.tails).last().map(|end| end.key)
    }

    /// Who is to be named for end `nth` of the block, where that is not who reaches it. A checkpoint counts for the last
    /// chunk that ends before it: one at the block's end not for the block's earlier chunks, one behind the block, before any
    /// other chunk ends, for the block's last. Nobody compares the bytes between chunk and checkpoint, so where known prompts
    /// part there it counts for the first chunks behind it instead: who has that in common has the checkpoint in common.
    pub(super) fn named(&self, number: u32, nth: u8) -> Option<Vec<Holder>> {
        if !self.sides.any() {
            return None;
        }
        let block = self.blocks.get(number)?;
        let reach = self.sets.holders(self.standings.get(block.standing).reach);
        let mut named: Vec<Holder> = reach.iter().copied().filter(|holder| !holder.is_checkpoint()).collect();
        let places = named.len();
        if nth + 1 == block.ends {
            let mut around = vec![number];
            while let Some(at) = around.pop() {
                if self.has_checkpoint(at) && !self.parts_before(at, number) {
                    named.extend(self.reach_of(at).iter().filter(|holder| holder.is_checkpoint()));
                }
                around.extend(self.blocks.children(at).iter().filter(|&&child| self.ends_none(child)));
            }
        }
        if nth == 0
            && let Some(anchor) = self.anchor(block.parent)
        {
            let mut at = block.parent;
            loop {
                if self.has_checkpoint(at) && self.parts_before(at, anchor) {
                    let has_this = |of: &Holder| reach.iter().any(|holder| holder.slot_index() == of.slot_index());
                    named.extend(self.reach_of(at).iter().filter(|holder| holder.is_checkpoint() && has_this(holder)));
                }
                if at == anchor {
                    break;
                }
                at = self.blocks.get(at)?.parent;
            }
        }
        if named.len() > places {
            named.sort_unstable();
            named.dedup();
        }
        (named != reach).then_some(named)
    }

    /// Do known prompts part between the last chunk that ends in `anchor` and the end of block `at`, which is it or behind it?
    fn parts_before(&self, mut at: u32, anchor: u32) -> bool {
        let reached = |number: u32| self.sets_of(number).reach != SetId::EMPTY;
        let Some(block) = self.blocks.get(anchor) else { return true };
        if self.chunks.has_repeated() && self.twins(block).any(reached) {
            return true;
        }
        while at != anchor {
            let Some(block) = self.blocks.get(at) else { return true };
            at = block.parent;
            let children = self.blocks.children(at);
            if children.len() > 1 && children.iter().filter(|&&child| reached(child)).nth(1).is_some() {
                return true;
            }
        }
        false
    }

    /// Blocks of other tokens that end the same chunk as the last one of `block`.
    fn twins(&self, block: &Block) -> impl Iterator<Item = u32> {
        let key = super::chunks::ends(block, &self.tails).last().map(|end| end.key);
        let all = key.into_iter().flat_map(|key| self.chunks.blocks_of(key, &self.blocks, &self.tails));
        let check = block.check;
        all.filter(move |&twin| self.blocks.get(twin).is_some_and(|twin| twin.check != check))
    }

    /// Blocks of which `named` may say something else now that the reach of `changed` is another, unless they are among them:
    /// those with the chunks around their checkpoints, and around those of the prompts that they part from.
    pub(super) fn neighbours(&mut self) -> Vec<u32> {
        let mut roots: Vec<u32> =
            core::mem::take(&mut self.parted).into_iter().filter_map(|at| self.anchor(at)).collect();
        for &number in &self.changed {
            let Some(block) = self.blocks.get(number) else { continue };
            if block.ends > 0 {
                roots.push(number);
                if self.chunks.has_repeated() {
                    roots.extend(self.twins(block));
                }
            }
            if block.ends == 0 || self.blocks.children(block.parent).len() > 1 {
                roots.extend(self.anchor(block.parent));
            }
        }
        for &key in &self.gone {
            roots.extend(self.chunks.blocks_of(key, &self.blocks, &self.tails));
        }
        roots.sort_unstable();
        roots.dedup();
        let mut all = roots.clone();
        let mut below: Vec<u32> = roots.iter().flat_map(|&root| self.blocks.children(root)).copied().collect();
        while let Some(number) = below.pop() {
            if self.ends_none(number) {
                below.extend_from_slice(self.blocks.children(number));
            } else {
                all.push(number);
            }
        }
        all
    }

    fn ends_none(&self, number: u32) -> bool {
        self.blocks.get(number).is_some_and(|block| block.ends == 0)
    }

    fn has_checkpoint(&self, number: u32) -> bool {
        self.reach_of(number).iter().any(|holder| holder.is_checkpoint())
    }

    fn reach_of(&self, number: u32) -> &[Holder] {
        self.sets.holders(self.sets_of(number).reach)
    }

    /// The endpoints that go on only from checkpoints, as the table names them.
    pub(super) fn resuming(&self) -> Vec<Holder> {
        self.sides.slots().map(|slot| Holder::new(slot, Tier::Checkpoint)).collect()
    }
}
