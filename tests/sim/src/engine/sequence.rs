//! A request inside the engine. `computed` counts tokens whose KV exists; the newest generated token is never among them, which
//! is why a finished sequence leaves one token less in the cache than it produced.

use std::sync::Arc;

use super::chain::{BlockHash, ChainBuilder};
use super::contents::BlockContents;
use super::event::Usage;
use super::kv_cache::BlockId;

/// The caller's name for a request; unique among unfinished ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A request as the engine sees it: lengths and block identities, no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptSpec {
    /// Tokens of the prompt, at least 1.
    pub prompt_tokens: u32,
    /// Tokens to generate; 0 for an embedding.
    pub output_tokens: u32,
    /// Identities of the full blocks of prompt and output together (the output of a simulated model is known beforehand).
    /// Blocks beyond the end of this list are computed but never shared.
    pub blocks: Arc<[BlockHash]>,
}

impl PromptSpec {
    /// `prompt`, answered by `output_tokens` tokens of the imaginary text `answer` (see [`ChainBuilder::push_span`]): a next
    /// turn that pushes the same span after the same prompt finds them cached.
    #[must_use]
    pub fn answered(prompt: &ChainBuilder, answer: u64, output_tokens: u32) -> Self {
        let mut chain = prompt.clone();
        chain.push_span(answer, 0, output_tokens);
        Self { prompt_tokens: prompt.tokens(), output_tokens, blocks: chain.into_blocks() }
    }
}

/// What the next step does with a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Prefill,
    Decode,
}

#[derive(Debug, Clone)]
pub(super) struct Sequence {
    pub(super) id: RequestId,
    pub(super) spec: PromptSpec,
    /// What events tell about its blocks.
    pub(super) contents: Option<Arc<BlockContents>>,
    pub(super) phase: Phase,
    /// Tokens whose KV is in `blocks`.
    pub(super) computed: u32,
    /// Tokens the step under way computes.
    pub(super) scheduled: u32,
    pub(super) generated: u32,
    /// Leading blocks with a published identity.
    pub(super) sealed: usize,
    /// Blocks of a prefix that full attention had and other groups could not go on from; 0: none.
    pub(super) junction: usize,
    /// Blocks from which the same prompt would go on.
    pub(super) resumes_at: usize,
    pub(super) blocks: Vec<BlockId>,
    pub(super) ready_at: f64,
    pub(super) admitted: bool,
    /// The account so far.
    pub(super) usage: Usage,
}

impl Sequence {
    pub(super) fn new(id: RequestId, spec: PromptSpec, submitted_at: f64, ready_at: f64) -> Self {
        let usage = Usage { prompt_tokens: spec.prompt_tokens, submitted_at, queued_at: ready_at, ..Usage::default() };
        Self {
            id,
            spec,
            contents: None,
            phase: Phase::Prefill,
            computed: 0,
            scheduled: 0,
            generated: 0,
            sealed: 0,
            junction: 0,
            resumes_at: 0,
            blocks: Vec::new(),
            ready_at,
            admitted: false,
            usage,
        }
    }

    /// Prompt and generated tokens: what must be computed before the next token can be sampled.
    pub(super) fn known(&self) -> u32 {
        self.spec.prompt_tokens + self.generated
    }

    /// Identities the cache may answer for: never the whole sequence, its last token must be computed.
    pub(super) fn reusable_blocks(&self, block_size: u32) -> &[BlockHash] {
        let limit = blocks_for(self.known().saturating_sub(1), block_size, Rounding::Down);
        self.spec.blocks.get(..limit.min(self.spec.blocks.len())).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    Down,
    Up,
}

/// Blocks that `tokens` fill (down) or touch (up).
pub(super) fn blocks_for(tokens: u32, block_size: u32, rounding: Rounding) -> usize {
    let blocks = match rounding {
        Rounding::Down => tokens / block_size,
        Rounding::Up => tokens.div_ceil(block_size),
    };
    usize::try_from(blocks).unwrap_or(usize::MAX)
}

/// Index of a live sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotId(usize);

/// Live sequences; slots of finished ones are reused.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots {
    slots: Vec<Option<Sequence>>,
    vacant: Vec<usize>,
}

#[expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "slot ids are minted by insert and used until remove; a stale one is a bug of the simulator"
)]
impl Slots {
    pub(super) fn insert(&mut self, sequence: Sequence) -> SlotId {
        match self.vacant.pop() {
            Some(index) => {
                self.slots[index] = Some(sequence);
                SlotId(index)
            }
            None => {
                self.slots.push(Some(sequence));
                SlotId(self.slots.len() - 1)
            }
        }
    }

    pub(super) fn get(&self, slot: SlotId) -> &Sequence {
        self.slots[slot.0].as_ref().expect("live slot")
    }

    pub(super) fn get_mut(&mut self, slot: SlotId) -> &mut Sequence {
        self.slots[slot.0].as_mut().expect("live slot")
    }

    pub(super) fn remove(&mut self, slot: SlotId) -> Sequence {
        self.vacant.push(slot.0);
        self.slots[slot.0].take().expect("live slot")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Sequence> {
        self.slots.iter().flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }
}
