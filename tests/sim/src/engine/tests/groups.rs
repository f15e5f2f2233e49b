//! Hybrid models: where a prompt goes on, what is kept for it, and what is told of it.

use std::collections::HashMap;

use super::*;

/// Blocks of 16; side groups that keep so many blocks each.
fn hybrid(groups: &[SideGroup], blocks: u32, retention_interval: u32) -> Engine {
    engine(|config| {
        config.side_groups = groups.to_vec();
        config.side_blocks = blocks;
        config.retention_interval = retention_interval;
        config.record = CacheRecord::On;
    })
}

/// A prompt of `shared` tokens of one text and `own` of another, with one token of answer.
fn forked(shared: u32, text: u64, own: u32) -> PromptSpec {
    let mut prompt = ChainBuilder::new(16, ChainSeed::default());
    prompt.push_span(1, 0, shared);
    prompt.push_span(text, 0, own);
    PromptSpec::answered(&prompt, text + 1_000_000, 1)
}

fn cached(engine: &mut Engine, id: u64, spec: PromptSpec) -> u32 {
    run_one(engine, id, spec, f64::from(u32::try_from(id).unwrap()) * 100.0).cached_tokens
}

const WINDOW: SideGroup = SideGroup::SlidingWindow { window: 33 };

#[test]
fn a_prompt_goes_on_from_its_end_and_a_fork_from_where_another_parted_before() {
    for groups in [&[WINDOW][..], &[SideGroup::Mamba], &[WINDOW, WINDOW, SideGroup::Mamba]] {
        let mut engine = hybrid(groups, 1000, 0);
        assert_eq!(cached(&mut engine, 1, forked(320, 2, 100)), 0);
        assert_eq!(cached(&mut engine, 2, forked(320, 2, 100)), 416, "(420 - 1) / 16 blocks");
        assert_eq!(cached(&mut engine, 3, forked(320, 3, 100)), 0, "all its blocks are there, no state in its middle");
        assert_eq!(cached(&mut engine, 4, forked(320, 4, 100)), 320, "the third left its state where it parted");
    }
}

#[test]
fn an_interval_keeps_boundaries_on_the_way() {
    let mut engine = hybrid(&[WINDOW, SideGroup::Mamba], 1000, 64);
    cached(&mut engine, 1, forked(320, 2, 100));
    assert_eq!(cached(&mut engine, 2, forked(300, 3, 100)), 256);
}

#[test]
fn a_window_that_reaches_back_to_the_start_needs_only_what_there_is() {
    let mut engine = hybrid(&[SideGroup::SlidingWindow { window: 1000 }], 1000, 0);
    cached(&mut engine, 1, forked(100, 2, 0));
    assert_eq!(cached(&mut engine, 2, forked(100, 2, 0)), 96);
}

#[test]
fn groups_forget_on_their_own() {
    let mut engine = hybrid(&[WINDOW], 4, 0);
    cached(&mut engine, 1, spec(1, 320, 1));
    cached(&mut engine, 2, spec(2, 320, 1));
    assert_eq!(cached(&mut engine, 3, spec(1, 320, 1)), 304, "two prompts' windows are kept");
    cached(&mut engine, 4, spec(3, 320, 1));
    assert_eq!(cached(&mut engine, 5, spec(2, 320, 1)), 0, "the least recently used went");
    assert_eq!(cached(&mut engine, 6, spec(2, 320, 1)), 304);
    engine.reset_prefix_cache();
    assert_eq!(cached(&mut engine, 7, spec(2, 320, 1)), 0);
}

#[test]
fn tiers_are_refused() {
    let config = EngineConfig { side_groups: vec![WINDOW], cpu_blocks: 10, ..EngineConfig::default() };
    assert_eq!(Engine::new(config).unwrap_err(), ConfigError::HybridTiers);
}

/// Who only hears the changes knows each group's blocks, and with them every hit.
#[test]
fn what_is_told_of_the_groups_is_what_they_hold() {
    let mut engine = hybrid(&[WINDOW, SideGroup::Mamba], 12, 0);
    let mut copies: HashMap<(u32, Digest), i64> = HashMap::new();
    for id in 1..60_u64 {
        let tokens: Vec<u32> =
            (0..320).map(|at| if at < 160 { at } else { at + u32::try_from(id % 7).unwrap() * 1000 }).collect();
        let mut chain = ChainBuilder::new(16, ChainSeed::default());
        chain.push_tokens(&tokens);
        let contents = Arc::new(BlockContents::by_identity(16, tokens, chain.blocks()));
        let blocks = chain.into_blocks();
        let holds = |group: u32, end: usize| copies.get(&(group, Digest::from(blocks[end]))).is_some_and(|&n| n > 0);
        let resumes =
            |end: usize| end == 0 || (holds(1, end - 1) && (end < 2 || holds(1, end - 2)) && holds(2, end - 1));
        let told = (0..=19).rev().find(|&end| resumes(end)).unwrap();
        assert_eq!(engine.cached_prefix_tokens(&blocks[..19]), u32::try_from(told).unwrap() * 16, "request {id}");
        let spec = PromptSpec { prompt_tokens: 320, output_tokens: 1, blocks };
        let at = f64::from(u32::try_from(id).unwrap()) * 100.0;
        engine.submit_described(RequestId(id), spec, Some(contents), at).unwrap();
        drain(&mut engine);
        for change in engine.take_changes().into_iter().flat_map(|step| step.changes) {
            match change {
                CacheChange::StoredAside { contents, kept, group, .. } => {
                    kept.iter().for_each(|&block| *copies.entry((group, contents.digests[block])).or_default() += 1);
                }
                CacheChange::RemovedAside { digest, group } => {
                    let left = copies.get_mut(&(group, digest)).expect("removed what was never stored");
                    *left -= 1;
                    assert!(*left >= 0);
                }
                CacheChange::Stored { .. }
                | CacheChange::Placeholder { .. }
                | CacheChange::Removed { .. }
                | CacheChange::Cleared => {}
            }
        }
    }
}
