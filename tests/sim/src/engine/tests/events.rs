//! The record of cache changes: what is announced when, and that a mirror fed by it knows the cache exactly.

use std::collections::HashMap;

use super::*;

fn recording(adjust: impl FnOnce(&mut EngineConfig)) -> Engine {
    engine(|config| {
        config.record = CacheRecord::On;
        adjust(config);
    })
}

fn described(prompt: &[u32], answer: &[u32]) -> (PromptSpec, Arc<BlockContents>) {
    let mut chain = ChainBuilder::new(16, ChainSeed::default());
    chain.push_tokens(prompt);
    let prompt_tokens = chain.tokens();
    chain.push_tokens(answer);
    let contents = BlockContents::by_identity(16, [prompt, answer].concat(), chain.blocks());
    let output_tokens = u32::try_from(answer.len()).unwrap();
    (PromptSpec { prompt_tokens, output_tokens, blocks: chain.into_blocks() }, Arc::new(contents))
}

/// Runs one request of tokens `from..from + prompt` and an answer of the tokens behind them.
fn run(engine: &mut Engine, id: u64, from: u32, prompt: u32, output: u32) -> Usage {
    let tokens: Vec<u32> = (from..from + prompt + output).collect();
    let (prompt, answer) = tokens.split_at(prompt as usize);
    let (spec, contents) = described(prompt, answer);
    engine
        .submit_described(RequestId(id), spec, Some(contents), f64::from(u32::try_from(id).unwrap()) * 100.0)
        .unwrap();
    usage_of(&drain(engine), id)
}

fn changes(engine: &mut Engine) -> Vec<CacheChange> {
    engine.take_changes().into_iter().flat_map(|step| step.changes).collect()
}

/// Medium, first block and count of everything stored.
fn stored(changes: &[CacheChange]) -> Vec<(Medium, usize, usize)> {
    let of = |change: &CacheChange| match change {
        CacheChange::Stored { first, count, medium, .. } => Some((*medium, *first, *count)),
        CacheChange::Placeholder { .. }
        | CacheChange::Removed { .. }
        | CacheChange::StoredAside { .. }
        | CacheChange::RemovedAside { .. }
        | CacheChange::Cleared => None,
    };
    changes.iter().filter_map(of).collect()
}

#[test]
fn full_blocks_are_announced_when_they_are_scheduled_generated_ones_too() {
    let mut engine = recording(|_| {});
    let usage = run(&mut engine, 1, 0, 40, 10);
    let steps = engine.take_changes();
    assert!((steps[0].at - usage.first_token_at).abs() < 1e-12, "with the end of the prefill step");
    let all: Vec<CacheChange> = steps.into_iter().flat_map(|step| step.changes).collect();
    // 49 of 50 tokens have KV: two blocks of the prompt, one that the answer fills.
    assert_eq!(stored(&all), [(Medium::Gpu, 0, 2), (Medium::Gpu, 2, 1)]);
    let CacheChange::Stored { contents, .. } = &all[1] else { panic!() };
    assert_eq!(contents.tokens_of(2, 1), (32..48).collect::<Vec<u32>>());
}

#[test]
fn a_hit_announces_nothing_and_equal_blocks_are_stored_and_removed_each_for_itself() {
    let mut engine = recording(|config| config.num_gpu_blocks = 4);
    run(&mut engine, 1, 0, 32, 1);
    assert_eq!(changes(&mut engine).len(), 1);
    // The last block of the prompt is never reused, so it is computed again into another one.
    assert_eq!(run(&mut engine, 2, 0, 32, 1).cached_tokens, 16);
    assert_eq!(stored(&changes(&mut engine)), [(Medium::Gpu, 1, 1)]);
    run(&mut engine, 3, 500, 64, 0);
    let removed = changes(&mut engine);
    let removed = removed.iter().filter(|change| matches!(change, CacheChange::Removed { .. })).count();
    assert_eq!(removed, 3, "two blocks and the twin of the second");
}

#[test]
fn a_reset_is_heard_of_only_when_the_next_step_ends() {
    let mut engine = recording(|_| {});
    run(&mut engine, 1, 0, 40, 1);
    changes(&mut engine);
    assert!(engine.reset_prefix_cache());
    assert_eq!(engine.take_changes(), []);
    assert_eq!(engine.metrics().blocks_cached, 0);
    run(&mut engine, 2, 900, 16, 1);
    let told = changes(&mut engine);
    assert_eq!(told[0], CacheChange::Cleared);
    assert_eq!(stored(&told), [(Medium::Gpu, 0, 1)]);
    engine.audit().unwrap();
}

#[test]
fn a_reset_is_refused_while_blocks_are_held() {
    let mut engine = recording(|_| {});
    let (spec, contents) = described(&(0..40).collect::<Vec<_>>(), &[1; 50]);
    engine.submit_described(RequestId(1), spec, Some(contents), 0.0).unwrap();
    engine.advance(0.1, &mut Vec::new());
    assert!(!engine.reset_prefix_cache());
    drain(&mut engine);
    assert!(engine.reset_prefix_cache());
}

#[test]
fn without_a_listener_or_contents_nothing_is_recorded() {
    let mut off = engine(|_| {});
    run(&mut off, 1, 0, 40, 10);
    assert_eq!(off.take_changes(), []);
    let mut on = recording(|_| {});
    run_one(&mut on, 1, spec(1, 100, 10), 0.0);
    assert_eq!(on.take_changes(), []);
}

#[test]
fn evicted_blocks_move_down_the_tiers_and_come_back_for_a_price() {
    let mut engine = recording(|config| {
        config.num_gpu_blocks = 4;
        config.cpu_blocks = 2;
        config.storage_blocks = 2;
    });
    run(&mut engine, 1, 0, 64, 0);
    changes(&mut engine);
    run(&mut engine, 2, 500, 64, 0);
    let told = changes(&mut engine);
    let tier = |wanted: Medium| {
        told.iter()
            .filter(|change| matches!(change, CacheChange::Placeholder { medium, .. } if *medium == wanted))
            .count()
    };
    assert_eq!((tier(Medium::Cpu), tier(Medium::Storage)), (4, 2));
    let snapshot = engine.metrics();
    assert_eq!((snapshot.blocks_cpu, snapshot.blocks_storage), (2, 2));
    // The tail went first: the head is in host memory, the rest in storage. The last block is always computed.
    let cold = run(&mut engine.clone(), 3, 9_000, 64, 0);
    let warm = run(&mut engine, 3, 0, 64, 0);
    assert_eq!(warm.cached_tokens, 48);
    let took = |usage: Usage| usage.finished_at - usage.scheduled_at;
    let loads = 32.0 * 5e-6 + 16.0 * 26e-6;
    let computed = 16.0 * 57e-6 + 2e-9 * 16.0 * (48.0 + 8.0);
    assert!((took(warm) - 13e-3 - loads - computed).abs() < 1e-12, "{}", took(warm));
    assert!(took(warm) < took(cold));
    assert_eq!((engine.metrics().prefix_hits, engine.metrics().external_hits), (0, 48));
    assert!(stored(&changes(&mut engine)).contains(&(Medium::Gpu, 0, 3)), "what came back is announced on the device");
}

#[test]
fn a_full_report_announces_hits_from_the_root_once_more() {
    let mut engine = recording(|_| {});
    run(&mut engine, 1, 0, 40, 0);
    changes(&mut engine);
    let (spec, contents) = described(&(0..60).collect::<Vec<_>>(), &[]);
    let contents = BlockContents { report: ReportMode::Full, ..Arc::unwrap_or_clone(contents) };
    engine.submit_described(RequestId(2), spec, Some(Arc::new(contents)), 100.0).unwrap();
    drain(&mut engine);
    assert_eq!(stored(&changes(&mut engine)), [(Medium::Gpu, 0, 2), (Medium::Gpu, 2, 1)]);
}

#[test]
fn self_describing_tiers_say_what_they_hold() {
    let mut engine = recording(|config| {
        config.num_gpu_blocks = 4;
        config.cpu_blocks = 4;
        config.tier_events = TierEvents::SelfDescribing;
    });
    run(&mut engine, 1, 0, 64, 0);
    run(&mut engine, 2, 500, 64, 0);
    let told = stored(&changes(&mut engine));
    assert_eq!(told.iter().filter(|(medium, _, count)| *medium == Medium::Cpu && *count == 1).count(), 4);
}

/// Who reads the record: copies of each block by hash and medium.
#[derive(Default)]
struct Mirror(HashMap<(Digest, Medium), i64>);

impl Mirror {
    fn follow(&mut self, changes: &[CacheChange]) {
        for change in changes {
            match change {
                CacheChange::Stored { contents, first, count, medium } => {
                    for digest in &contents.digests[*first..first + count] {
                        *self.0.entry((*digest, *medium)).or_default() += 1;
                    }
                }
                CacheChange::Placeholder { digest, medium } => *self.0.entry((*digest, *medium)).or_default() += 1,
                CacheChange::Removed { digest, medium } => {
                    let copies = self.0.get_mut(&(*digest, *medium)).expect("removed what was never stored");
                    *copies -= 1;
                    assert!(*copies >= 0);
                }
                CacheChange::StoredAside { .. } | CacheChange::RemovedAside { .. } => panic!("no side groups here"),
                CacheChange::Cleared => self.0.retain(|(_, medium), _| *medium != Medium::Gpu),
            }
        }
    }

    fn prefix(&self, blocks: &[BlockHash], medium: Medium) -> usize {
        let held = |hash: &&BlockHash| self.0.get(&(Digest::from(**hash), medium)).is_some_and(|copies| *copies > 0);
        blocks.iter().take_while(held).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_mirror_of_the_record_knows_the_cache(
        acts in prop::collection::vec(act(), 1..50),
        blocks in 25_u32..60,
        cpu in 0_u32..30,
        storage in 0_u32..30,
    ) {
        let mut engine = recording(|config| {
            config.num_gpu_blocks = blocks;
            config.max_num_batched_tokens = 200;
            config.cpu_blocks = cpu;
            config.storage_blocks = storage;
        });
        let (mut mirror, mut now, mut chains) = (Mirror::default(), 0.0, Vec::new());
        for (index, act) in acts.iter().enumerate() {
            let number = u32::try_from(index).unwrap();
            match *act {
                Act::Submit { family, shared, own, output } => {
                    let family = u32::try_from(family).unwrap() * 1000;
                    // Every other prompt is its family's text alone: equal prompts leave equal blocks.
                    let own = if index % 2 == 0 { own } else { 1 };
                    let own = (0..own).map(|n| if own == 1 { family } else { number << 12 | n });
                    let prompt: Vec<u32> = (family..family + shared / 16 * 16).chain(own).collect();
                    let (spec, contents) = described(&prompt, &vec![family; output as usize]);
                    chains.push(Arc::clone(&spec.blocks));
                    engine.submit_described(RequestId(index as u64), spec, Some(contents), now).unwrap();
                }
                Act::Cancel { nth } => drop(engine.cancel(RequestId(nth as u64))),
                Act::Advance { seconds } => {
                    now += seconds;
                    engine.advance(now, &mut Vec::new());
                }
                Act::ClearCache => drop(engine.reset_prefix_cache()),
            }
            engine.audit().unwrap();
            mirror.follow(&changes(&mut engine));
        }
        drain(&mut engine);
        // A reset since the last step is told by the next one.
        let (spec, contents) = described(&[7; 20], &[]);
        engine.submit_described(RequestId(u64::MAX), spec, Some(contents), now + 1e6).unwrap();
        drain(&mut engine);
        mirror.follow(&changes(&mut engine));
        for chain in &chains {
            let cached = engine.cached_prefix_tokens(chain) as usize / 16;
            prop_assert_eq!(mirror.prefix(chain, Medium::Gpu), cached);
        }
        let told = |medium: Medium| mirror.0.iter().filter(|((_, of), copies)| *of == medium && **copies > 0).count();
        let snapshot = engine.metrics();
        prop_assert_eq!(told(Medium::Gpu), snapshot.blocks_cached as usize);
        prop_assert_eq!(told(Medium::Cpu), snapshot.blocks_cpu as usize);
        prop_assert_eq!(told(Medium::Storage), snapshot.blocks_storage as usize);
    }
}
