//! What eight busy engines would announce, without engines: chats with shared system prompts and documents, answers that grow
//! block by block, and an LRU cache that is full. Pure; one [`Traffic::step`] is one engine step of one pod.
//!
//! A block that a pod already holds is a hit and is not announced, as in vLLM; a removed chat goes from its end, one event a
//! block, and leaves what other chats of the pod still hold.

use crate::draw::Draw;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use vllm_sim::engine::{BlockContents, CacheChange, Digest, Medium, ReportMode};
use vllm_sim::kv_events::{BlockHasher, HashAlgorithm};
use vllm_sim::language::vocabulary::encode;

/// vLLM's default.
pub(crate) const BLOCK_TOKENS: usize = 16;
/// Chats that a pod decodes at a time.
const RUNNING: usize = 12;
/// System prompts, and documents that chats are about; shared by all pods.
const SYSTEMS: usize = 16;
const DOCUMENTS: usize = 400;
/// Blocks of a system prompt, of a document, of a user's turn, of an answer.
const SYSTEM: usize = 20;
const DOCUMENT: usize = 40;
const QUESTION: usize = 10;
const ANSWER: usize = 16;
/// Turns of a chat.
const TURNS: usize = 3;
/// Blocks of a marker, a prompt that nobody else has.
const MARKER: usize = 24;

/// One chat on one pod, as far as it got.
#[derive(Debug)]
struct Chat {
    contents: Arc<BlockContents>,
    /// Blocks computed so far.
    done: usize,
}

/// One pod's cache.
#[derive(Debug, Default)]
struct Pod {
    running: VecDeque<Chat>,
    /// Finished, coldest first.
    finished: VecDeque<Chat>,
    /// Chats that hold a block.
    uses: HashMap<Digest, u32>,
    /// Blocks it may still store in this step.
    credit: f64,
}

/// A prompt whose way to the workers is timed.
#[derive(Debug, Clone)]
pub(crate) struct Marker {
    /// What a client would send.
    pub(crate) prompt: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Traffic {
    draw: Draw,
    hasher: BlockHasher,
    systems: Vec<String>,
    documents: Vec<String>,
    pods: Vec<Pod>,
    capacity: usize,
}

impl Traffic {
    /// `capacity`: blocks of one pod's cache.
    pub(crate) fn new(pods: usize, capacity: usize, seed: u64) -> Traffic {
        let mut draw = Draw::new(seed);
        let systems = (0..SYSTEMS).map(|_| text(&mut draw, SYSTEM)).collect();
        let documents = (0..DOCUMENTS).map(|_| text(&mut draw, DOCUMENT)).collect();
        let hasher = BlockHasher::new(HashAlgorithm::XxhashCbor, None);
        let pods = std::iter::repeat_with(Pod::default).take(pods).collect();
        Traffic { draw, hasher, systems, documents, pods, capacity }
    }

    /// One step of a pod that may store `blocks` more, on the average; a full cache removes as many.
    pub(crate) fn step(&mut self, pod: usize, blocks: f64) -> Vec<CacheChange> {
        let Some(at) = self.pods.get_mut(pod) else { return Vec::new() };
        at.credit += blocks;
        let mut changes = Vec::new();
        while let Some(at) = self.pods.get_mut(pod)
            && at.credit >= 1.0
        {
            if at.running.len() < RUNNING {
                let chat = self.chat();
                if let Some(at) = self.pods.get_mut(pod) {
                    at.running.push_back(chat);
                }
                continue;
            }
            at.advance(&mut changes);
        }
        if let Some(at) = self.pods.get_mut(pod) {
            at.evict(self.capacity, &mut changes);
        }
        changes
    }

    /// A prompt of nobody else, computed by `pod` in a step of its own.
    pub(crate) fn marker(&mut self, pod: usize) -> (Marker, Vec<CacheChange>) {
        let prompt = text(&mut self.draw, MARKER);
        let mut chat = Chat { contents: self.contents(&prompt), done: 0 };
        let mut changes = Vec::new();
        if let Some(at) = self.pods.get_mut(pod) {
            at.compute(&mut chat, MARKER, &mut changes);
            at.finished.push_back(chat);
            at.evict(self.capacity, &mut changes);
        }
        (Marker { prompt }, changes)
    }

    /// Is every pod's cache full?
    pub(crate) fn is_full(&self) -> bool {
        self.pods.iter().all(|pod| pod.uses.len() + MARKER + RUNNING >= self.capacity)
    }

    /// Blocks over all pods that are held now.
    pub(crate) fn held(&self) -> usize {
        self.pods.iter().map(|pod| pod.uses.len()).sum()
    }

    /// Distinct blocks that are held now.
    pub(crate) fn distinct(&self) -> usize {
        let all: std::collections::HashSet<&Digest> = self.pods.iter().flat_map(|pod| pod.uses.keys()).collect();
        all.len()
    }

    fn chat(&mut self) -> Chat {
        let (system, document) = (self.draw.below(SYSTEMS), self.draw.below(DOCUMENTS));
        let own = text(&mut self.draw, TURNS * (QUESTION + ANSWER));
        let parts = [self.systems.get(system), self.documents.get(document), Some(&own)];
        let prompt: String = parts.into_iter().flatten().map(String::as_str).collect();
        Chat { contents: self.contents(&prompt), done: 0 }
    }

    fn contents(&self, prompt: &str) -> Arc<BlockContents> {
        let mut contents = BlockContents {
            block_size: u32::try_from(BLOCK_TOKENS).unwrap_or(u32::MAX),
            tokens: encode(prompt),
            digests: Vec::new(),
            adapter: None,
            cache_salt: None,
            session_id: None,
            report: ReportMode::Changes,
        };
        contents.digests = self.hasher.chain(&contents, "");
        Arc::new(contents)
    }
}

impl Pod {
    /// The next chat in turn computes what is due: a whole prompt, or one block of an answer.
    fn advance(&mut self, changes: &mut Vec<CacheChange>) {
        let Some(mut chat) = self.running.pop_front() else { return };
        let due = due(chat.done);
        let stored = self.compute(&mut chat, due, changes);
        self.credit -= f64::from(u32::try_from(stored).unwrap_or(u32::MAX));
        if chat.done < chat.contents.digests.len() {
            self.running.push_back(chat);
        } else {
            self.finished.push_back(chat);
        }
    }

    /// Computes `count` more blocks of `chat`; the number that was not a hit.
    fn compute(&mut self, chat: &mut Chat, count: usize, changes: &mut Vec<CacheChange>) -> usize {
        let end = (chat.done + count).min(chat.contents.digests.len());
        let due = chat.contents.digests.get(chat.done..end).unwrap_or_default();
        let hits = due.iter().take_while(|digest| self.uses.contains_key(*digest)).count();
        for digest in due {
            *self.uses.entry(*digest).or_default() += 1;
        }
        let first = chat.done + hits;
        if first < end {
            let contents = Arc::clone(&chat.contents);
            changes.push(CacheChange::Stored { contents, first, count: end - first, medium: Medium::Gpu });
        }
        chat.done = end;
        end - first
    }

    /// Drops the coldest chats' ends until the rest fits.
    fn evict(&mut self, capacity: usize, changes: &mut Vec<CacheChange>) {
        while self.uses.len() > capacity {
            let Some(chat) = self.finished.front_mut() else { return };
            let last = chat.done.checked_sub(1).and_then(|last| Some((last, *chat.contents.digests.get(last)?)));
            let Some((last, digest)) = last else {
                self.finished.pop_front();
                continue;
            };
            chat.done = last;
            if let Some(uses) = self.uses.get_mut(&digest) {
                *uses -= 1;
                if *uses == 0 {
                    self.uses.remove(&digest);
                    changes.push(CacheChange::Removed { digest, medium: Medium::Gpu });
                }
            }
        }
    }
}

/// How much a chat that has computed `done` blocks computes next.
fn due(done: usize) -> usize {
    let Some(own) = done.checked_sub(SYSTEM + DOCUMENT) else { return SYSTEM + DOCUMENT + QUESTION };
    let turn = own % (QUESTION + ANSWER);
    if turn < QUESTION { QUESTION - turn } else { 1 }
}

/// Words that are exactly `blocks` blocks of the simulator's built-in tokens: three letters and a space are one.
fn text(draw: &mut Draw, blocks: usize) -> String {
    let mut text = String::with_capacity(blocks * BLOCK_TOKENS * 4);
    for _ in 0..blocks * BLOCK_TOKENS {
        for _ in 0..3 {
            text.push(char::from(b'a' + u8::try_from(draw.below(26)).unwrap_or(0)));
        }
        text.push(' ');
    }
    text
}

/// Block events in `changes`: one for each block stored or removed.
pub(crate) fn block_events(changes: &[CacheChange]) -> usize {
    let count = |change: &CacheChange| match change {
        CacheChange::Stored { count, .. } => *count,
        CacheChange::Placeholder { .. }
        | CacheChange::Removed { .. }
        | CacheChange::StoredAside { .. }
        | CacheChange::RemovedAside { .. }
        | CacheChange::Cleared => 1,
    };
    changes.iter().map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a listener makes of it.
    fn fold(held: &mut HashMap<Digest, u32>, changes: &[CacheChange]) {
        for change in changes {
            match change {
                CacheChange::Stored { contents, first, count, .. } => {
                    for digest in contents.digests.iter().skip(*first).take(*count) {
                        *held.entry(*digest).or_default() += 1;
                    }
                }
                CacheChange::Removed { digest, .. } => assert_eq!(held.remove(digest), Some(1), "never stored"),
                CacheChange::Placeholder { .. }
                | CacheChange::StoredAside { .. }
                | CacheChange::RemovedAside { .. }
                | CacheChange::Cleared => panic!("not announced by this traffic"),
            }
        }
    }

    #[test]
    fn a_listener_knows_what_a_pod_holds_and_the_cache_stays_within_its_capacity() {
        let mut traffic = Traffic::new(1, 2_000, 7);
        let mut held = HashMap::new();
        let mut events = 0;
        for step in 0..2_000 {
            let changes = if step % 100 == 99 { traffic.marker(0).1 } else { traffic.step(0, 6.0) };
            events += block_events(&changes);
            fold(&mut held, &changes);
            assert_eq!(held.len(), traffic.held());
            assert!(held.values().all(|uses| *uses == 1) && held.len() <= 2_000);
        }
        assert!(traffic.is_full());
        // Twice what it may store, less what filled the cache.
        assert!((20_000..=24_500).contains(&events), "{events}");
    }

    #[test]
    fn a_marker_is_whole_blocks_of_a_prompt_that_nobody_has() {
        let mut traffic = Traffic::new(2, 1_000, 1);
        let (marker, changes) = traffic.marker(1);
        assert_eq!(encode(&marker.prompt).len(), MARKER * BLOCK_TOKENS);
        assert_eq!(block_events(&changes), MARKER);
        assert_eq!(marker.prompt.len(), MARKER * BLOCK_TOKENS * 4);
    }
}
