//! The engine against its formula, its conservation laws and vLLM's caching rules.

mod events;
mod groups;

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn engine(adjust: impl FnOnce(&mut EngineConfig)) -> Engine {
    let mut config = EngineConfig { detail: EventDetail::EveryToken, ..EngineConfig::default() };
    adjust(&mut config);
    Engine::new(config).unwrap()
}

/// A prompt of `tokens` tokens of `text`, answered by `output` tokens.
fn spec(text: u64, tokens: u32, output: u32) -> PromptSpec {
    let mut prompt = ChainBuilder::new(16, ChainSeed::default());
    prompt.push_span(text, 0, tokens);
    PromptSpec::answered(&prompt, text + 1_000_000, output)
}

/// Runs until idle, auditing after every step.
fn drain(engine: &mut Engine) -> Vec<EngineEvent> {
    let mut events = Vec::new();
    let mut steps = 0_u32;
    while let Some(at) = engine.next_event_at() {
        engine.advance(at, &mut events);
        engine.audit().unwrap();
        steps += 1;
        assert!(steps < 1_000_000, "the engine does not come to rest");
    }
    events
}

fn run_one(engine: &mut Engine, id: u64, spec: PromptSpec, now: f64) -> Usage {
    engine.submit(RequestId(id), spec, now).unwrap();
    let events = drain(engine);
    usage_of(&events, id)
}

fn usage_of(events: &[EngineEvent], wanted: u64) -> Usage {
    events
        .iter()
        .find_map(|event| {
            let EngineEvent::Finished { id, usage, .. } = event else { return None };
            (*id == RequestId(wanted)).then_some(*usage)
        })
        .expect("finished")
}

#[test]
fn a_lone_request_matches_the_formula() {
    for (prompt, output, speed) in [(6000_u32, 50_u32, 1.0), (100, 1, 1.0), (20_000, 7, 0.5), (8192, 3, 2.0)] {
        let mut engine = engine(|config| config.speed = speed);
        let usage = run_one(&mut engine, 1, spec(1, prompt, output), 3.0);
        let length = f64::from(prompt);
        let steps = f64::from(prompt.div_ceil(8192));
        let prefill = steps * 13e-3 + 57e-6 * length + 2e-9 * length * length / 2.0;
        let ttft = 0.020 + prefill / speed;
        assert!((usage.first_token_at - 3.0 - ttft).abs() < 1e-9, "{prompt}: {} vs {ttft}", usage.first_token_at - 3.0);
        let decodes: f64 = (1..output).map(|k| 13e-3 + 20e-6 + 40e-9 * f64::from(prompt + k)).sum();
        let total = ttft + decodes / speed;
        assert!((usage.finished_at - 3.0 - total).abs() < 1e-9);
        assert_eq!(usage.output_tokens, output);
    }
}

#[test]
fn a_batch_shares_its_steps() {
    let mut engine = engine(|config| config.api_delay = 0.0);
    engine.submit(RequestId(1), spec(1, 160, 3), 0.0).unwrap();
    engine.submit(RequestId(2), spec(2, 320, 3), 0.0).unwrap();
    let events = drain(&mut engine);
    let attention = |n: f64| 2e-9 * n * n / 2.0;
    let first = 13e-3 + 57e-6 * 480.0 + attention(160.0) + attention(320.0);
    let second = 13e-3 + 2.0 * 20e-6 + 40e-9 * (161.0 + 321.0);
    let third = 13e-3 + 2.0 * 20e-6 + 40e-9 * (162.0 + 322.0);
    for id in [1, 2] {
        let usage = usage_of(&events, id);
        assert!((usage.first_token_at - first).abs() < 1e-9);
        assert!((usage.finished_at - first - second - third).abs() < 1e-9);
    }
}

#[test]
fn a_long_prefill_stalls_running_decodes_by_its_chunks() {
    let mut engine = engine(|config| config.api_delay = 0.0);
    engine.submit(RequestId(1), spec(1, 16, 10), 0.0).unwrap();
    let mut events = Vec::new();
    engine.advance(0.0, &mut events);
    engine.submit(RequestId(2), spec(2, 12_000, 1), 0.001).unwrap();
    let events = drain(&mut engine);
    let tokens: Vec<f64> = events
        .iter()
        .filter(|event| matches!(event, EngineEvent::FirstToken { id, .. } | EngineEvent::Token { id, .. } if *id == RequestId(1)))
        .map(event_time)
        .collect();
    let gaps: Vec<f64> = tokens.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let chunk =
        |before: f64, n: f64, context: f64| 13e-3 + 57e-6 * n + 2e-9 * n * (before + n / 2.0) + 20e-6 + 40e-9 * context;
    assert!((gaps[0] - chunk(0.0, 8191.0, 17.0)).abs() < 1e-9, "the decode takes one token of the budget");
    assert!((gaps[1] - chunk(8191.0, 12_000.0 - 8191.0, 18.0)).abs() < 1e-9);
    assert!(gaps[2] < 0.014);
}

#[test]
fn a_repeated_prompt_hits_all_full_blocks_but_never_its_last_token() {
    for (tokens, hit) in [(15_u32, 0_u32), (16, 0), (17, 16), (160, 144), (161, 160), (170, 160)] {
        let mut engine = engine(|_| {});
        assert_eq!(run_one(&mut engine, 1, spec(7, tokens, 1), 0.0).cached_tokens, 0);
        assert_eq!(run_one(&mut engine, 2, spec(7, tokens, 1), 10.0).cached_tokens, hit, "{tokens}");
        assert_eq!(engine.metrics().prefix_queries, 2 * u64::from(tokens));
        assert_eq!(engine.metrics().prefix_hits, u64::from(hit));
        assert_eq!(engine.cached_prefix_tokens(&spec(7, tokens, 1).blocks), tokens / 16 * 16);
        assert_eq!(engine.cached_prefix_tokens(&spec(8, tokens, 1).blocks), 0);
    }
}

#[test]
fn generated_tokens_are_found_by_the_next_turn() {
    let mut engine = engine(|_| {});
    let mut history = ChainBuilder::new(16, ChainSeed::default());
    history.push_span(1, 0, 100);
    run_one(&mut engine, 1, PromptSpec::answered(&history, 2, 60), 0.0);
    history.push_span(2, 0, 60);
    history.push_span(3, 0, 40);
    // 159 tokens have KV: the newest token is never computed. That is 9 full blocks.
    assert_eq!(run_one(&mut engine, 2, PromptSpec::answered(&history, 4, 1), 10.0).cached_tokens, 144);
}

#[test]
fn two_newcomers_of_one_step_share_their_prefix() {
    let mut engine = engine(|_| {});
    engine.submit(RequestId(1), spec(5, 1600, 2), 0.0).unwrap();
    engine.submit(RequestId(2), spec(5, 1600, 2), 0.0).unwrap();
    let events = drain(&mut engine);
    assert_eq!(usage_of(&events, 1).cached_tokens, 0);
    assert_eq!(usage_of(&events, 2).cached_tokens, 1584);
}

#[test]
fn seeds_separate_equal_tokens() {
    let with = |lora, cache_salt| {
        let mut chain = ChainBuilder::new(4, ChainSeed { lora, cache_salt });
        chain.push_tokens(&[1, 2, 3, 4]);
        chain.into_blocks()
    };
    let all = [with(None, None), with(Some("a"), None), with(None, Some("a")), with(Some(""), None)];
    for (i, a) in all.iter().enumerate() {
        for (j, b) in all.iter().enumerate() {
            assert_eq!(a == b, i == j);
        }
    }
}

#[test]
fn idle_blocks_leave_tail_first_and_oldest_first() {
    let mut engine = engine(|config| config.num_gpu_blocks = 20);
    run_one(&mut engine, 1, spec(1, 161, 1), 0.0);
    run_one(&mut engine, 2, spec(2, 113, 1), 10.0);
    // 10 + 7 blocks are idle and 3 blank; 8 more blocks evict the 5 last blocks of the older prompt.
    run_one(&mut engine, 3, spec(3, 128, 1), 20.0);
    assert_eq!(engine.metrics().evictions, 5);
    assert_eq!(run_one(&mut engine.clone(), 4, spec(1, 161, 1), 30.0).cached_tokens, 80, "the head survives");
    assert_eq!(run_one(&mut engine.clone(), 4, spec(2, 113, 1), 30.0).cached_tokens, 112, "the younger one is whole");
}

#[test]
fn a_hit_makes_a_prefix_young_again() {
    let mut engine = engine(|config| config.num_gpu_blocks = 20);
    run_one(&mut engine, 1, spec(1, 129, 1), 0.0);
    run_one(&mut engine, 2, spec(2, 129, 1), 10.0);
    run_one(&mut engine, 3, spec(1, 129, 1), 20.0);
    run_one(&mut engine, 4, spec(3, 128, 1), 30.0);
    assert_eq!(run_one(&mut engine, 5, spec(1, 129, 1), 40.0).cached_tokens, 128);
}

#[test]
fn out_of_blocks_the_latest_is_preempted_and_recomputes_from_cache() {
    let mut engine = engine(|config| config.num_gpu_blocks = 20);
    engine.submit(RequestId(1), spec(1, 140, 100), 0.0).unwrap();
    engine.submit(RequestId(2), spec(2, 140, 100), 0.0).unwrap();
    let events = drain(&mut engine);
    let (first, second) = (usage_of(&events, 1), usage_of(&events, 2));
    assert_eq!(first.preemptions, 0);
    assert!(second.preemptions >= 1);
    assert!(second.finished_at > first.finished_at);
    assert_eq!(second.output_tokens, 100);
    assert_eq!(engine.metrics().generation_tokens, 200, "recomputed tokens are not generated twice");
    assert_eq!(engine.metrics().prompt_tokens, 280);
}

#[test]
fn the_queue_is_first_come_first_served_even_if_a_later_one_would_fit() {
    let mut engine = engine(|config| config.num_gpu_blocks = 20);
    engine.submit(RequestId(1), spec(1, 240, 60), 0.0).unwrap();
    engine.submit(RequestId(2), spec(2, 200, 1), 0.1).unwrap();
    engine.submit(RequestId(3), spec(3, 10, 1), 0.2).unwrap();
    let events = drain(&mut engine);
    assert!(usage_of(&events, 2).scheduled_at >= usage_of(&events, 1).finished_at - 1e-9);
    assert!(usage_of(&events, 3).scheduled_at >= usage_of(&events, 2).scheduled_at);
}

#[test]
fn idle_blocks_that_hit_are_not_counted_as_room() {
    let mut engine = engine(|config| config.num_gpu_blocks = 20);
    run_one(&mut engine, 1, spec(1, 161, 1), 0.0);
    engine.submit(RequestId(2), spec(2, 120, 8), 10.0).unwrap();
    // 10 blocks hit and 5 are missing, while only 2 are left beside the 8 in use.
    engine.submit(RequestId(3), spec(1, 240, 1), 10.0).unwrap();
    let events = drain(&mut engine);
    assert!(usage_of(&events, 3).scheduled_at >= usage_of(&events, 2).finished_at);
    assert_eq!(usage_of(&events, 3).cached_tokens, 160);
}

#[test]
fn cancelling_frees_blocks_at_once_and_leaves_the_others_alone() {
    let mut engine = engine(|config| config.num_gpu_blocks = 100);
    for id in 0..4 {
        engine.submit(RequestId(id), spec(id, 320, 50), 0.0).unwrap();
    }
    let mut events = Vec::new();
    engine.advance(0.05, &mut events);
    assert_eq!(engine.metrics().running, 4);
    let before = engine.metrics().blocks_used;
    assert!(engine.cancel(RequestId(2)));
    assert!(!engine.cancel(RequestId(2)));
    engine.audit().unwrap();
    assert_eq!(engine.metrics().blocks_used, before - 20);
    let events = drain(&mut engine);
    let finished = events.iter().filter(|event| matches!(event, EngineEvent::Finished { .. })).count();
    assert_eq!(finished, 3);
    assert_eq!(engine.metrics().blocks_used, 0);
}

#[test]
fn an_embedding_finishes_with_its_prefill() {
    let mut engine = engine(|_| {});
    let usage = run_one(&mut engine, 1, spec(1, 100, 0), 0.0);
    assert!((usage.finished_at - (0.020 + 13e-3 + 57e-6 * 100.0 + 1e-5)).abs() < 1e-9);
    assert_eq!((usage.output_tokens, engine.metrics().generation_tokens), (0, 0));
}

#[test]
fn what_can_never_fit_is_refused() {
    let mut engine = engine(|config| config.num_gpu_blocks = 10);
    let refused = engine.submit(RequestId(1), spec(1, 150, 11), 0.0);
    assert_eq!(refused, Err(SubmitError::TooLong { tokens: 161, needed: 11, capacity: 10 }));
    assert_eq!(engine.submit(RequestId(1), spec(1, 0, 1), 0.0), Err(SubmitError::EmptyPrompt));
    engine.submit(RequestId(1), spec(1, 150, 10), 0.0).unwrap();
    assert_eq!(engine.submit(RequestId(1), spec(1, 1, 1), 0.0), Err(SubmitError::DuplicateId(RequestId(1))));
    drain(&mut engine);
}

#[test]
fn a_cleared_cache_knows_nothing() {
    let mut engine = engine(|_| {});
    run_one(&mut engine, 1, spec(1, 160, 1), 0.0);
    engine.clear_cache();
    engine.audit().unwrap();
    assert_eq!(engine.metrics().blocks_cached, 0);
    assert_eq!(run_one(&mut engine, 2, spec(1, 160, 1), 9.0).cached_tokens, 0);
}

#[test]
fn bad_parameters_are_named() {
    let config = EngineConfig { block_size: 0, ..EngineConfig::default() };
    assert_eq!(Engine::new(config).unwrap_err(), ConfigError::Zero { name: "block_size" });
    let config = EngineConfig { speed: 0.0, ..EngineConfig::default() };
    assert!(Engine::new(config).unwrap_err().to_string().starts_with("speed: must be"));
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Act {
    Submit { family: u64, shared: u32, own: u32, output: u32 },
    Cancel { nth: usize },
    Advance { seconds: f64 },
    ClearCache,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..4_u64, 0..200_u32, 1..120_u32, 0..80_u32)
            .prop_map(|(family, shared, own, output)| Act::Submit { family, shared, own, output }),
        1 => (0..40_usize).prop_map(|nth| Act::Cancel { nth }),
        5 => (0.0..0.4_f64).prop_map(|seconds| Act::Advance { seconds }),
        1 => Just(Act::ClearCache),
    ]
}

/// Plays a history; returns the events and the final counters.
fn play(acts: &[Act], blocks: u32, budget: u32) -> (Vec<EngineEvent>, EngineSnapshot, usize) {
    let mut engine = engine(|config| {
        config.num_gpu_blocks = blocks;
        config.max_num_batched_tokens = budget;
        config.max_num_seqs = 12;
    });
    let (mut now, mut submitted, mut cancelled) = (0.0, Vec::new(), 0);
    let mut events = Vec::new();
    for (index, act) in acts.iter().enumerate() {
        match *act {
            Act::Submit { family, shared, own, output } => {
                let mut prompt = ChainBuilder::new(16, ChainSeed::default());
                prompt.push_span(family, 0, shared);
                prompt.push_span(1000 + index as u64, 0, own);
                let id = RequestId(index as u64);
                engine.submit(id, PromptSpec::answered(&prompt, 5000 + index as u64, output), now).unwrap();
                submitted.push(id);
            }
            Act::Cancel { nth } => {
                cancelled += usize::from(submitted.get(nth).is_some_and(|&id| engine.cancel(id)));
            }
            Act::Advance { seconds } => {
                now += seconds;
                engine.advance(now, &mut events);
            }
            Act::ClearCache => engine.clear_cache(),
        }
        engine.audit().unwrap();
    }
    events.extend(drain(&mut engine));
    let snapshot = engine.metrics();
    assert_eq!(snapshot.blocks_used, 0);
    (events, snapshot, submitted.len() - cancelled)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn blocks_are_conserved_and_everyone_finishes_under_heavy_preemption(
        acts in prop::collection::vec(act(), 1..60),
        blocks in 25_u32..60,
        budget in 16_u32..600,
    ) {
        let (events, snapshot, expected) = play(&acts, blocks, budget);
        let finished = events.iter().filter(|event| matches!(event, EngineEvent::Finished { .. })).count();
        prop_assert_eq!(finished, expected);
        prop_assert_eq!(snapshot.finished, expected as u64);
        let times: Vec<f64> = events.iter().map(event_time).collect();
        prop_assert!(times.is_sorted());
    }

    #[test]
    fn the_same_history_gives_the_same_figures(acts in prop::collection::vec(act(), 1..40)) {
        prop_assert_eq!(play(&acts, 30, 128), play(&acts, 30, 128));
    }

    #[test]
    fn cutting_a_span_changes_nothing(len in 0_u32..200, cut in 0_u32..200) {
        let cut = cut.min(len);
        let mut whole = ChainBuilder::new(16, ChainSeed::default());
        whole.push_span(9, 0, len);
        let mut parts = ChainBuilder::new(16, ChainSeed::default());
        parts.push_span(9, 0, cut);
        parts.push_span(9, cut, len - cut);
        prop_assert_eq!(whole, parts);
    }
}

fn event_time(event: &EngineEvent) -> f64 {
    match event {
        EngineEvent::FirstToken { at, .. }
        | EngineEvent::Token { at, .. }
        | EngineEvent::Finished { at, .. }
        | EngineEvent::Preempted { at, .. } => *at,
    }
}

#[test]
fn blocks_without_identity_are_never_shared() {
    let mut engine = engine(|_| {});
    let anonymous = PromptSpec { prompt_tokens: 160, output_tokens: 4, blocks: Arc::default() };
    run_one(&mut engine, 1, anonymous.clone(), 0.0);
    assert_eq!(run_one(&mut engine, 2, anonymous, 9.0).cached_tokens, 0);
    assert_eq!(engine.metrics().blocks_cached, 0);
}
