//! KV events as a small fleet would publish them: chats over system prompts on engines that evict the least recently used
//! block, tails first. The same seed gives the same events.

use std::collections::{BTreeMap, HashMap, VecDeque};

use xxhash_rust::xxh64::xxh64;

pub(super) const BLOCK: usize = 16;
pub(super) const VOCABULARY: u32 = 150_000;

/// What distinguishes one corpus from another.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) pods: usize,
    /// Blocks that fit into a pod.
    pub(super) pod_blocks: usize,
    pub(super) system_prompts: u64,
    /// Blocks in the longest system prompt; the shortest has a quarter.
    pub(super) system_blocks: u64,
    pub(super) requests: u64,
    /// Do all pods name equal blocks alike?
    pub(super) same_names: bool,
}

/// One change of one pod's cache.
pub(super) enum Change {
    Stored { hashes: Vec<u64>, parent: Option<u64>, tokens: Vec<u32> },
    Removed { hashes: Vec<u64> },
}

pub(super) struct Corpus {
    /// (pod, change), in order.
    pub(super) events: Vec<(usize, Change)>,
    /// Blocks named in all events.
    pub(super) block_events: usize,
    /// Tokens of one chat, all of whose blocks are held at the end.
    pub(super) last: Vec<u32>,
}

pub(super) fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Bytes of every token, about four each.
pub(super) fn words() -> Vec<Vec<u8>> {
    let mut seed = 11;
    let word = |seed: &mut u64| {
        let length = 1 + (draw(seed) % 3 + draw(seed) % 3 + draw(seed) % 5) as usize;
        (0..length).map(|_| b' ' + (draw(seed) % 95) as u8).collect()
    };
    (0..VOCABULARY).map(|_| word(&mut seed)).collect()
}

/// Frequent tokens are frequent: the cube of a uniform draw.
fn token(seed: &mut u64) -> u32 {
    let u = (draw(seed) >> 40) as f64 / (1u64 << 24) as f64;
    (u * u * u * f64::from(VOCABULARY - 1)) as u32
}

struct Pod {
    name_seed: u64,
    /// Name -> when it was last used.
    used: HashMap<u64, u64>,
    /// (when, name), oldest first, with entries that are out of date.
    queue: VecDeque<(u64, u64)>,
}

struct Fleet {
    shape: Shape,
    pods: Vec<Pod>,
    events: Vec<(usize, Change)>,
    block_events: usize,
    clock: u64,
}

impl Fleet {
    fn push(&mut self, pod: usize, change: Change) {
        self.block_events += match &change {
            Change::Stored { hashes, .. } | Change::Removed { hashes } => hashes.len(),
        };
        self.events.push((pod, change));
    }

    /// The pod computes the whole `tokens`, of which the first `prompt` came in one step.
    fn run(&mut self, pod: usize, tokens: &[u32], prompt: usize) {
        let mut name = self.pods[pod].name_seed;
        let mut names = Vec::new();
        for block in tokens.chunks_exact(BLOCK) {
            let bytes: Vec<u8> = block.iter().flat_map(|token| token.to_le_bytes()).collect();
            name = xxh64(&bytes, name);
            names.push(name);
        }
        let hit = names.iter().take_while(|name| self.pods[pod].used.contains_key(name)).count();
        // Freed in reverse: the tail is the oldest.
        for name in names.iter().rev() {
            self.clock += 1;
            self.pods[pod].used.insert(*name, self.clock);
            self.pods[pod].queue.push_back((self.clock, *name));
        }
        self.evict(pod);
        let in_one = (prompt / BLOCK).max(hit).min(names.len());
        let mut steps = vec![(hit, in_one)];
        steps.extend((in_one..names.len()).map(|at| (at, at + 1)));
        for (from, to) in steps.into_iter().filter(|(from, to)| from < to) {
            let parent = from.checked_sub(1).map(|before| names[before]);
            let tokens = tokens[from * BLOCK..to * BLOCK].to_vec();
            self.push(pod, Change::Stored { hashes: names[from..to].to_vec(), parent, tokens });
        }
    }

    fn evict(&mut self, pod: usize) {
        while self.pods[pod].used.len() > self.shape.pod_blocks {
            let Some((when, name)) = self.pods[pod].queue.pop_front() else { return };
            if self.pods[pod].used.get(&name) == Some(&when) {
                self.pods[pod].used.remove(&name);
                self.push(pod, Change::Removed { hashes: vec![name] });
            }
        }
    }
}

pub(super) fn corpus(shape: Shape) -> Corpus {
    let name_seed = |pod: usize| if shape.same_names { 1 } else { 1000 + pod as u64 };
    let pod = |pod| Pod { name_seed: name_seed(pod), used: HashMap::new(), queue: VecDeque::new() };
    let pods = (0..shape.pods).map(pod).collect();
    let mut fleet = Fleet { shape, pods, events: Vec::new(), block_events: 0, clock: 0 };
    let mut seed = 42;
    let system = |number: u64| -> Vec<u32> {
        let mut seed = 7_000_000 + number;
        let blocks = shape.system_blocks / 4 + draw(&mut seed) % (shape.system_blocks * 3 / 4 + 1);
        (0..blocks * BLOCK as u64 + 5).map(|_| token(&mut seed)).collect()
    };
    // Open chats: tokens so far and the pod that has them.
    let mut chats: BTreeMap<u64, (usize, Vec<u32>)> = BTreeMap::new();
    let mut last = Vec::new();
    for request in 0..shape.requests {
        let fresh = chats.len() < 60 || draw(&mut seed).is_multiple_of(5);
        let id =
            if fresh { request } else { *chats.keys().nth((draw(&mut seed) % chats.len() as u64) as usize).unwrap() };
        let number = draw(&mut seed) % shape.system_prompts;
        let any_pod = (draw(&mut seed) % shape.pods as u64) as usize;
        let (mut pod, mut tokens) = chats.remove(&id).unwrap_or_else(|| (any_pod, system(number)));
        if draw(&mut seed).is_multiple_of(10) {
            pod = any_pod;
        }
        tokens.extend((0..50 + draw(&mut seed) % 350).map(|_| token(&mut seed)));
        let prompt = tokens.len();
        tokens.extend((0..100 + draw(&mut seed) % 700).map(|_| token(&mut seed)));
        fleet.run(pod, &tokens, prompt);
        last.clone_from(&tokens);
        if tokens.len() < 12_000 && !draw(&mut seed).is_multiple_of(8) {
            chats.insert(id, (pod, tokens));
        }
    }
    Corpus { events: fleet.events, block_events: fleet.block_events, last }
}
