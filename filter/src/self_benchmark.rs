//! What a decision costs here: asked for in the plugin configuration, run once at start, inside the host's own VM, and
//! logged. It builds a table of its own and touches nothing else.

use core::time::Duration;

use prost::Message;
use serde::{Deserialize, Serialize};
use shared::api::{ApiKind, BodyScanner, PromptView};
use shared::brain::{Brain, Prompt};
use shared::clock::Timestamp;
use shared::draw::Draw;
use shared::prefix::{ChainRoot, chain};
use shared::scheduling::Request;
use shared::scheduling::cost::Demand;
use shared::wire;

/// Size of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfBenchmark {
    /// Endpoints in the pool, at most 1,024.
    pub endpoints: u32,
    /// Resident prefix chunks.
    pub chunks: u32,
    /// Decisions to time.
    pub decisions: u32,
}

/// Times of one decision with the prompt's chain already computed: match, weigh every endpoint, pick, book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timings {
    /// Median, microseconds.
    pub p50_us: u128,
    /// 99th percentile, microseconds.
    pub p99_us: u128,
    /// Mean, nanoseconds.
    pub mean_ns: u128,
    /// Resident chunks that were really there.
    pub chunks: usize,
    /// Reading a 32 KB chat body, mean, nanoseconds.
    pub scan_ns: u128,
    /// Hashing its prompt into a chain, mean, nanoseconds.
    pub chain_ns: u128,
}

const POOL: &str = "self-benchmark";
/// A 32 KB prompt in chunks half the default size: the harder case.
const CHAIN: u32 = 256;
/// Chunks that all chains share: a system prompt.
const STEM: u32 = 64;
const SEGMENT_KEYS: u32 = 4096;

/// Runs the measurement with the host's clock. `None` when the table cannot be built (no endpoints, or too many).
pub fn run(size: SelfBenchmark, clock: impl Fn() -> Timestamp) -> Option<Timings> {
    if size.endpoints == 0 {
        return None;
    }
    let mut draw = Draw::from_seed(1);
    let mut brain = Brain::default();
    let chains = size.chunks.saturating_sub(STEM).div_ceil(CHAIN - STEM).max(1);
    build(&mut brain, size, chains, clock())?;
    let mut times = Vec::new();
    let mut chain = Vec::with_capacity(CHAIN as usize);
    for seed in 0..u64::from(size.decisions) {
        chain.clear();
        let number = draw.below(chains);
        // The last quarter of the prompt is new: nobody holds it.
        chain.extend((0..CHAIN * 3 / 4).map(|depth| key(number, depth)));
        chain.extend((0..CHAIN / 4).map(|_| draw.next_u64().max(1)));
        let demand = Demand { prompt_tokens: 8192.0, output_tokens: 300.0, slo_ttft: 2.0, slo_tpot: 0.05 };
        let request = Request { model: None, demand, session: None, subset: None, seed };
        let prompt = Prompt { chain: &chain, bytes: 32_768, tokens: None, rendered: false };
        let started = clock();
        let routed = brain.route(POOL, &prompt, &request, false, started)?.ok()?;
        times.push(clock().since(started));
        brain.ledger.release(routed.ticket);
        brain.outbox.take();
    }
    let (scan_ns, chain_ns) = read_a_body(&clock)?;
    let chunks = brain.pool(POOL)?.residency.len();
    summary(times).map(|timings| Timings { chunks, scan_ns, chain_ns, ..timings })
}

const BODY_REPEATS: u32 = 2000;

/// Mean nanoseconds of scanning a 32 KB chat body and of hashing its prompt.
fn read_a_body(clock: &impl Fn() -> Timestamp) -> Option<(u128, u128)> {
    // Text as chats have it: escapes every few dozen bytes.
    let prose =
        r#"The gateway reads each \"request\",\n hashes its prompt at a caf\u00e9 and picks the pod. "#.repeat(400);
    let body = format!(r#"{{"model":"m","stream":true,"messages":[{{"role":"user","content":"{prose}"}}]}}"#);
    let mut scanner = BodyScanner::new(ApiKind::ChatCompletions);
    let (mut scan, mut hash) = (Duration::ZERO, Duration::ZERO);
    let mut keys = Vec::new();
    for _ in 0..BODY_REPEATS {
        let started = clock();
        scanner.restart(ApiKind::ChatCompletions);
        scanner.push(body.as_bytes()).ok()?;
        let view = scanner.finish().ok()?;
        let scanned = clock();
        let PromptView::Text(text) = view.prompt else { return None };
        keys.clear();
        chain(ChainRoot::new(view.model.unwrap_or_default(), None, None), 128, text.pieces(), &mut keys);
        scan += scanned.since(started);
        hash += clock().since(scanned);
    }
    Some(((scan / BODY_REPEATS).as_nanos(), (hash / BODY_REPEATS).as_nanos()))
}

fn summary(mut times: Vec<Duration>) -> Option<Timings> {
    times.sort_unstable();
    let at = |per_cent: usize| times.get((times.len() * per_cent / 100).min(times.len().checked_sub(1)?));
    let total: Duration = times.iter().sum();
    Some(Timings {
        p50_us: at(50)?.as_micros(),
        p99_us: at(99)?.as_micros(),
        mean_ns: total.as_nanos() / u128::try_from(times.len()).ok()?,
        chunks: 0,
        scan_ns: 0,
        chain_ns: 0,
    })
}

/// The key of chain `number` at `depth`: the stem is everybody's.
fn key(number: u32, depth: u32) -> u64 {
    let owner = if depth < STEM { 0 } else { u64::from(number) + 1 };
    Draw::from_seed(owner << 32 | u64::from(depth)).next_u64().max(1)
}

fn build(brain: &mut Brain, size: SelfBenchmark, chains: u32, now: Timestamp) -> Option<()> {
    let settings = wire::PoolSettings {
        chunk_bytes: 128,
        slo_ttft_seconds: 2.0,
        slo_tpot_seconds: 0.05,
        choices: 3,
        ..wire::PoolSettings::default()
    };
    let endpoints = (0..size.endpoints)
        .map(|slot| wire::Endpoint {
            slot,
            address: format!("10.0.{}.{}:8000", slot / 250, slot % 250),
            ..wire::Endpoint::default()
        })
        .collect();
    let everybody = (0..size.endpoints).map(|slot| slot * 4).collect();
    let stem =
        wire::ResidencyGroup { holders: everybody, keys: (0..STEM).map(|at| key(0, at)).collect(), tokens: vec![] };
    let first = wire::PoolChange {
        name: POOL.to_owned(),
        settings: Some(settings),
        endpoints,
        residency: vec![stem],
        ..wire::PoolChange::default()
    };
    fold(brain, 1, 1, vec![first], now)?;
    let mut version = 1;
    let mut groups = Vec::new();
    let mut keys = 0;
    for number in 0..chains {
        // One to three holders, as popular prefixes have.
        let mut holders: Vec<u32> = (0..=number % 3).map(|nth| (number * 7 + nth * 5) % size.endpoints * 4).collect();
        holders.sort_unstable();
        holders.dedup();
        groups.push(wire::ResidencyGroup {
            holders,
            keys: (STEM..CHAIN).map(|at| key(number, at)).collect(),
            tokens: vec![],
        });
        keys += CHAIN - STEM;
        if keys >= SEGMENT_KEYS || number + 1 == chains {
            version += 1;
            keys = 0;
            let change = wire::PoolChange {
                name: POOL.to_owned(),
                residency: core::mem::take(&mut groups),
                ..wire::PoolChange::default()
            };
            fold(brain, version, 0, vec![change], now)?;
        }
    }
    brain.set_live(wire::Live { epoch: 1, pools: vec![live(size)], counted: Vec::new() }, now).ok()
}

/// Everybody has some work.
fn live(size: SelfBenchmark) -> wire::LivePool {
    let row = |slot: u32| wire::LiveEndpoint {
        slot,
        slowness: 1.0,
        others: Some(wire::Bookings {
            waiting: slot % 3,
            decoding: slot % 40,
            queued_tokens: 900,
            context_tokens: 40_000,
        }),
        scrape: Some(wire::Scrape { kv_used: 0.5, kv_capacity_tokens: 288_000, ..wire::Scrape::default() }),
        failing: false,
    };
    wire::LivePool {
        name: POOL.to_owned(),
        gateways: 4,
        arrivals_per_second: 100.0,
        endpoints: (0..size.endpoints).map(row).collect(),
        rates: None,
        spent: Vec::new(),
    }
}

fn fold(brain: &mut Brain, version: u64, parts: u32, pools: Vec<wire::PoolChange>, now: Timestamp) -> Option<()> {
    let segment = wire::Segment { epoch: 1, version, part: parts, parts, pools };
    brain.fold(&segment.encode_to_vec(), now).ok().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::{SelfBenchmark, run};
    use shared::clock::Timestamp;

    #[test]
    fn sizes_that_make_no_table_are_refused() {
        for endpoints in [0, 1025] {
            assert_eq!(run(SelfBenchmark { endpoints, chunks: 100, decisions: 1 }, || Timestamp::ZERO), None);
        }
    }

    #[test]
    fn the_table_has_the_size_asked_for_and_every_decision_is_timed() {
        let time = std::cell::Cell::new(0);
        let clock = || {
            time.set(time.get() + 3000);
            Timestamp::from_nanos(time.get())
        };
        let timings = run(SelfBenchmark { endpoints: 64, chunks: 20_000, decisions: 50 }, clock).unwrap();
        assert!((20_000..20_200).contains(&timings.chunks), "{timings:?}");
        assert_eq!((timings.p50_us, timings.p99_us, timings.mean_ns), (3, 3, 3000));
    }
}
