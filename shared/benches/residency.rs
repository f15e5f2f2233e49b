//! The residency index at a million chunks: filling, single lookups in random order, and whole matches of prompts whose
//! first half is held by eight endpoints, the first quarter by all of them.
//!
//! `cargo bench -p shared --bench residency`; plain text, minima over rounds.

#![expect(clippy::print_stdout, reason = "the report is the purpose")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures wall time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use shared::draw::Draw;
use shared::table::holders::Holder;
use shared::table::residency::{Depth, Residency};

const CHUNKS: usize = 1_000_000;
/// Chunks of a prompt: 256 KB at 128 bytes.
const PROMPT: usize = 2_000;
const LOOKUPS: usize = 1_000_000;
const ROUNDS: usize = 7;

fn main() {
    let mut draw = Draw::from_seed(1);
    let chains: Vec<Vec<u64>> =
        (0..CHUNKS / (PROMPT / 2)).map(|_| (0..PROMPT).map(|_| draw.next_u64().max(1)).collect()).collect();
    let everybody: Vec<Holder> = (0..8).filter_map(|slot| Holder::from_wire(slot * 4)).collect();
    let fill = || {
        let mut index = Residency::default();
        for (number, chain) in chains.iter().enumerate() {
            let some = everybody.get(..1 + number % 3).unwrap_or_default();
            index.set(&everybody, chain.get(..PROMPT / 4).unwrap_or_default(), &[]);
            index.set(some, chain.get(PROMPT / 4..PROMPT / 2).unwrap_or_default(), &[]);
        }
        index
    };
    let filling = best(|| {
        black_box(fill());
        CHUNKS
    });
    let index = fill();
    let keys: Vec<u64> = (0..LOOKUPS)
        .filter_map(|_| {
            let chain = chains.get(draw.below(u32::try_from(chains.len()).unwrap_or(1)) as usize)?;
            chain.get(draw.below(u32::try_from(PROMPT).unwrap_or(1)) as usize).copied()
        })
        .collect();
    let looking = best(|| {
        black_box(keys.iter().filter(|&&key| !index.holders(key).is_empty()).count());
        keys.len()
    });
    let matching = best(|| {
        for chain in &chains {
            let mut depths = [Depth::default(); 8];
            index.match_prefix(chain, &mut depths);
            black_box(depths);
        }
        chains.len()
    });
    println!(
        "{} chunks: fill {filling:?} a chunk, lookup {looking:?} (half are held), match {matching:?}",
        index.len()
    );
}

/// The least time of one of what `work` does and counts.
fn best(mut work: impl FnMut() -> usize) -> Duration {
    let rounds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        let count = work().max(1);
        start.elapsed() / u32::try_from(count).unwrap_or(u32::MAX)
    });
    rounds.min().unwrap_or_default()
}
