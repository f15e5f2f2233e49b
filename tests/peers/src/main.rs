//! The same KV events through the prefix indexes of other routers: block events per second on one core and the lookup of
//! a long chat.
//!
//! Each index runs in a process of its own. The others keep token hashes and leave the tokenizing of every request to the
//! router; Kvasir's time includes decoding the tokens and telling the gateways, theirs includes hashing the tokens.
#![forbid(unsafe_code)]

#[path = "../../../controlplane/benches/residency/corpus.rs"]
mod corpus;
#[path = "../../../controlplane/benches/residency/exact.rs"]
mod exact;

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use corpus::{BLOCK, Change, Corpus, Shape, corpus};
use dynamo_kv_router::RadixTree as DynamoTree;
use dynamo_kv_router::protocols::{
    BlockHashOptions, ExternalSequenceBlockHash, KvCacheEvent, KvCacheEventData, KvCacheRemoveData, KvCacheStoreData,
    KvCacheStoredBlockData, RouterEvent, compute_block_hash_for_seq,
};
use kv_index::{
    ChainBlockMap, ChainIndex, SequenceHash, StoredBlock, compute_content_hash, compute_request_content_hashes,
};
use radix_tree::RadixTree as SmgTree;
use radix_tree::{Config, HolderId, OverlapScratch};
use shared::clock::Timestamp;

const NAMES: [&str; 4] = ["kvasir", "kv-index", "smg-radix-tree", "dynamo-kv-router"];

fn main() {
    match std::env::args().nth(1) {
        Some(name) => run(&name),
        None => {
            println!("{:<18} {:>8} {:>12}", "", "M ev/s", "lookup us");
            for name in NAMES {
                let this = std::env::current_exe().expect("the path of this program");
                let status = Command::new(this).arg(name).status().expect("a process per index");
                assert!(status.success(), "{name} failed");
            }
        }
    }
}

fn run(name: &str) {
    let shape = Shape {
        pods: 8,
        pod_blocks: 20_000,
        system_prompts: 40,
        system_blocks: 400,
        requests: 12_000,
        same_names: true,
    };
    let corpus = corpus(shape);
    match name {
        "kvasir" => kvasir(&corpus),
        "kv-index" => kv_index(&corpus),
        "smg-radix-tree" => smg_radix_tree(&corpus),
        "dynamo-kv-router" => dynamo(&corpus),
        other => panic!("no index is called {other}"),
    }
}

/// Feeds every change to `apply`, then times `lookup`.
fn report<S>(name: &str, corpus: &Corpus, state: &mut S, apply: impl Fn(&mut S, usize), lookup: impl Fn(&S)) {
    let started = Instant::now();
    let before = exact::cpu_time(started);
    for at in 0..corpus.events.len() {
        apply(state, at);
    }
    let seconds = (exact::cpu_time(started) - before).as_secs_f64();
    let mut times: Vec<Duration> = (0..1_000)
        .map(|_| {
            let started = Instant::now();
            lookup(state);
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let rate = corpus.block_events as f64 / seconds / 1e6;
    println!("{name:<18} {rate:>8.2} {:>12.2}", times[500].as_secs_f64() * 1e6);
}

fn kvasir(corpus: &Corpus) {
    let events = exact::events(corpus);
    let mut index = exact::index(128);
    let apply = |index: &mut controlplane::residency::exact::ExactResidency, at: usize| {
        let (slot, event) = &events[at];
        index.apply(*slot, event, Timestamp::from_secs_f64(1.0)).expect("full attention only");
        if at % exact::EVENTS_PER_DRAIN == 0 {
            black_box(index.drain());
        }
    };
    // The lookup happens in the gateways' tables, and is measured there.
    report("kvasir", corpus, &mut index, apply, |_| ());
    exact::measure_lookup();
}

fn kv_index(corpus: &Corpus) {
    let index = ChainIndex::new();
    let workers: Vec<u32> = (0..8).map(|pod| index.intern_worker(&format!("w{pod}")).expect("few workers")).collect();
    let mut state = (index, (0..8).map(|_| ChainBlockMap::new()).collect::<Vec<_>>());
    let apply = |(index, maps): &mut (ChainIndex, Vec<ChainBlockMap>), at: usize| match &corpus.events[at] {
        (pod, Change::Stored { hashes, parent, tokens }) => {
            let blocks: Vec<StoredBlock> = hashes
                .iter()
                .zip(tokens.chunks_exact(BLOCK))
                .map(|(&hash, tokens)| StoredBlock {
                    seq_hash: SequenceHash(hash),
                    content_hash: compute_content_hash(tokens),
                })
                .collect();
            index
                .apply_stored(workers[*pod], &blocks, parent.map(SequenceHash), &mut maps[*pod])
                .expect("known parent");
        }
        (pod, Change::Removed { hashes }) => {
            let hashes: Vec<SequenceHash> = hashes.iter().map(|&hash| SequenceHash(hash)).collect();
            index.apply_removed(workers[*pod], &hashes, &mut maps[*pod]);
        }
    };
    let query = compute_request_content_hashes(&corpus.last, BLOCK);
    report("kv-index", corpus, &mut state, apply, |(index, _)| drop(black_box(index.find_matches(&query, false))));
}

fn smg_radix_tree(corpus: &Corpus) {
    let mut tree = SmgTree::new(Config::default());
    let holders: Vec<HolderId> = (0..8).map(|pod| tree.create_holder(&format!("w{pod}"))).collect();
    let apply = |tree: &mut SmgTree, at: usize| match &corpus.events[at] {
        (pod, Change::Stored { hashes, parent, tokens }) => {
            let contents = tokens.chunks_exact(BLOCK).map(|tokens| compute_content_hash(tokens).0);
            let blocks: Vec<(u64, u64)> = hashes.iter().copied().zip(contents).collect();
            tree.store(holders[*pod], *parent, &blocks).expect("known parent");
        }
        (pod, Change::Removed { hashes }) => drop(tree.remove(holders[*pod], hashes)),
    };
    let query: Vec<u64> = compute_request_content_hashes(&corpus.last, BLOCK).into_iter().map(|hash| hash.0).collect();
    report("smg-radix-tree", corpus, &mut tree, apply, |tree| {
        let (mut scratch, mut found) = (OverlapScratch::default(), Vec::new());
        tree.overlap(&query, &mut scratch, &mut found);
        black_box(found);
    });
}

fn dynamo(corpus: &Corpus) {
    let local = |tokens: &[u32]| compute_block_hash_for_seq(tokens, BLOCK as u32, BlockHashOptions::default());
    let apply = |tree: &mut DynamoTree, at: usize| {
        let (pod, change) = &corpus.events[at];
        let data = match change {
            Change::Stored { hashes, parent, tokens } => KvCacheEventData::Stored(KvCacheStoreData {
                parent_hash: parent.map(ExternalSequenceBlockHash),
                start_position: None,
                blocks: hashes
                    .iter()
                    .zip(local(tokens))
                    .map(|(&hash, tokens_hash)| KvCacheStoredBlockData {
                        block_hash: ExternalSequenceBlockHash(hash),
                        tokens_hash,
                        mm_extra_info: None,
                    })
                    .collect(),
            }),
            Change::Removed { hashes } => KvCacheEventData::Removed(KvCacheRemoveData {
                block_hashes: hashes.iter().map(|&hash| ExternalSequenceBlockHash(hash)).collect(),
            }),
        };
        let event = KvCacheEvent { event_id: at as u64, data, dp_rank: 0 };
        tree.apply_event(RouterEvent::new(*pod as u64, event)).expect("known parent");
    };
    let query = local(&corpus.last);
    report("dynamo-kv-router", corpus, &mut DynamoTree::new(), apply, |tree| {
        drop(black_box(tree.find_matches(query.clone(), false)));
    });
}
