//! The exact residency, fed and measured.

use std::hint::black_box;
use std::time::{Duration, Instant};

use controlplane::events::event::{BlockHash, BlockRemoved, BlockStored, KvEvent};
use controlplane::residency::exact::{ExactResidency, ExactSize, Scope};
use controlplane::vocabulary::table::TokenTable;
use shared::clock::Timestamp;
use shared::identity::Slot;
use shared::prefix::{ChainRoot, chain};
use shared::table::holders::Holder;
use shared::table::residency::{Depth, Residency};

use super::corpus::{BLOCK, Change, Corpus, draw, words};

pub(super) const EVENTS_PER_DRAIN: usize = 64;
const ROUNDS: usize = 3;

pub(super) fn events(corpus: &Corpus) -> Vec<(Slot, KvEvent)> {
    let named = |hashes: &[u64]| hashes.iter().map(|&hash| BlockHash(hash)).collect();
    let event = |change: &Change| match change {
        Change::Stored { hashes, parent, tokens } => KvEvent::Stored(BlockStored {
            hashes: named(hashes),
            parent: parent.map(BlockHash),
            tokens: tokens.clone(),
            block_size: BLOCK as u32,
            ..BlockStored::default()
        }),
        Change::Removed { hashes } => {
            KvEvent::Removed(BlockRemoved { hashes: named(hashes), ..BlockRemoved::default() })
        }
    };
    corpus.events.iter().map(|(pod, change)| (Slot::new(*pod as u32).unwrap(), event(change))).collect()
}

pub(super) fn index(chunk_bytes: u16) -> ExactResidency {
    let words = words();
    let vocabulary = TokenTable::new(words.iter().map(|word| Some(&word[..])));
    ExactResidency::new(Scope { model: "m".into(), chunk_bytes, budget_bytes: 1 << 33, secret: 3 }, vocabulary)
}

/// CPU time of this thread so far, which is what a busy machine leaves comparable; wall time where there is no Linux.
pub(super) fn cpu_time(started: Instant) -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = told.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.map_or_else(|| started.elapsed(), Duration::from_nanos)
}

/// The best of `ROUNDS`, and what is held at the end.
pub(super) fn measure(name: &str, corpus: &Corpus, chunk_bytes: u16) {
    let events = events(corpus);
    let started = Instant::now();
    let mut best = Duration::MAX;
    let mut size = ExactSize::default();
    for _ in 0..ROUNDS {
        let mut index = index(chunk_bytes);
        let before = cpu_time(started);
        for events in events.chunks(EVENTS_PER_DRAIN) {
            for (slot, event) in events {
                index.apply(*slot, event, Timestamp::from_secs_f64(1.0)).unwrap();
            }
            black_box(index.drain());
        }
        best = best.min(cpu_time(started) - before);
        size = index.size();
    }
    println!(
        "{name:<34} {chunk_bytes:>5} {:>9.2} {:>9.1} {:>8} {:>7} {:>7}",
        corpus.block_events as f64 / best.as_secs_f64() / 1e6,
        size.bytes as f64 / size.memberships as f64,
        size.memberships,
        size.blocks,
        size.chunks
    );
}

/// A prompt of 2,000 chunks, in the tables as a gateway has them: held to different depths by eight endpoints.
pub(super) fn measure_lookup() {
    let mut seed = 9;
    let text: Vec<u8> = (0..2_000 * 128).map(|_| draw(&mut seed) as u8).collect();
    let mut keys = Vec::new();
    chain(ChainRoot::new("m", None, None), 128, [&text[..]], &mut keys);
    let mut table = Residency::default();
    for depth in 0..8usize {
        let holders: Vec<Holder> = (depth as u32..8).map(|slot| Holder::from_wire(slot * 4).unwrap()).collect();
        table.set(&holders, &keys[depth * 250..(depth + 1) * 250], &[]);
    }
    for _ in 0..200_000 {
        table.set(&[Holder::from_wire(0).unwrap()], &[draw(&mut seed)], &[]);
    }
    let mut times: Vec<Duration> = (0..2_000)
        .map(|_| {
            let mut depths = [Depth::default(); 8];
            let started = Instant::now();
            table.match_prefix(black_box(&keys), &mut depths);
            let time = started.elapsed();
            assert_eq!(black_box(depths)[7].any_chunks, 2_000);
            time
        })
        .collect();
    times.sort_unstable();
    println!(
        "lookup of a 2,000-chunk chain among 8 endpoints (filter side): {:.2} us",
        times[1_000].as_secs_f64() * 1e6
    );
}
