use proptest::collection::vec;
use proptest::prelude::*;

use super::testing::*;
use super::*;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The engine runs a prompt: it stores what it lacks on the way, and `again` of what it has.
    Run {
        slot: u32,
        prompt: usize,
        blocks: usize,
        again: usize,
    },
    Evict {
        slot: u32,
        pick: usize,
        medium: usize,
    },
    EvictTail {
        slot: u32,
        pick: usize,
    },
    /// A held block goes to another medium, by name only or with its tokens.
    Offload {
        slot: u32,
        pick: usize,
        medium: usize,
        named: bool,
    },
    Clear(u32),
    Drain,
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..60)
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3u32, 0..8usize, 1..13usize, 0..3usize)
            .prop_map(|(slot, prompt, blocks, again)| Step::Run { slot, prompt, blocks, again }),
        6 => (0..3u32, 0..1000usize, 0..3usize).prop_map(|(slot, pick, medium)| Step::Evict { slot, pick, medium }),
        4 => (0..3u32, 0..1000usize).prop_map(|(slot, pick)| Step::EvictTail { slot, pick }),
        4 => (0..3u32, 0..1000usize, 1..3usize, any::<bool>())
            .prop_map(|(slot, pick, medium, named)| Step::Offload { slot, pick, medium, named }),
        1 => (0..3u32).prop_map(Step::Clear),
        3 => Just(Step::Drain),
    ]
}

/// `Names::Counted` only where nothing gets lost: a block that an engine never told of is taken for another's of its name.
pub(super) fn world(names: &'static [Names]) -> impl Strategy<Value = (usize, u16, Names)> {
    let names = proptest::sample::select(names);
    (prop_oneof![Just(4usize), Just(16), Just(64)], prop_oneof![Just(64u16), Just(128), Just(256)], names)
}

/// Paths that the engine holds in `medium`.
fn held(world: &World, slot: u32, in_medium: Option<Medium>) -> Vec<Path> {
    let holds = |copies: &[u32; 3]| in_medium.is_none_or(|medium| copies[medium as usize] > 0);
    world.engines[slot as usize].iter().filter(|(_, copies)| holds(copies)).map(|(path, _)| path.clone()).collect()
}

pub(super) fn events(world: &mut World, step: Step) -> Vec<(u32, KvEvent)> {
    match step {
        Step::Run { slot, prompt, blocks, again } => {
            let paths = world.paths(prompt, blocks);
            let has = |world: &World, path| world.engines[slot as usize].get(path).is_some_and(|c| c[0] > 0);
            let mut all = Vec::new();
            let hits = paths.iter().take_while(|path| has(world, path)).count();
            for part in paths[hits.saturating_sub(again)..].chunks(5) {
                all.push((slot, world.store(slot, part)));
            }
            all
        }
        Step::Evict { slot, pick, medium: number } => {
            let paths = held(world, slot, Some(medium(number)));
            let path = paths.get(pick % paths.len().max(1)).cloned();
            path.and_then(|path| world.evict(slot, &path, medium(number)))
                .map(|event| (slot, event))
                .into_iter()
                .collect()
        }
        Step::EvictTail { slot, pick } => {
            let paths = held(world, slot, Some(Medium::Gpu));
            let Some(path) = paths.get(pick % paths.len().max(1)).cloned() else { return Vec::new() };
            let tail = paths.iter().filter(|p| p.0 == path.0 && p.1.starts_with(&path.1)).max_by_key(|p| p.1.len());
            let tail = tail.unwrap().clone();
            world.evict(slot, &tail, Medium::Gpu).map(|event| (slot, event)).into_iter().collect()
        }
        Step::Offload { slot, pick, medium: number, named } => {
            let paths = held(world, slot, Some(Medium::Gpu));
            let Some(path) = paths.get(pick % paths.len().max(1)).cloned() else { return Vec::new() };
            let event = if named {
                world.place(slot, &path, medium(number))
            } else {
                world.take(slot, core::slice::from_ref(&path), medium(number));
                world.describe(slot, core::slice::from_ref(&path), medium(number))
            };
            vec![(slot, event)]
        }
        Step::Clear(slot) => {
            world.engines[slot as usize].clear();
            vec![(slot, KvEvent::Cleared)]
        }
        Step::Drain => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_published_is_what_the_engines_hold(
        (block_size, chunk, names) in world(&[Names::Digests, Names::Seeded, Names::Counted]),
        steps in steps(),
    ) {
        let mut world = World::new(3, block_size, chunk, names);
        let mut index = world.index();
        let mut gateway = Published::new();
        for step in steps {
            let drains = matches!(step, Step::Drain);
            for (of, event) in events(&mut world, step) {
                index.apply(slot(of), &event, at(1.0)).unwrap();
            }
            if drains {
                fold_groups(&mut gateway, &index.drain());
                prop_assert_eq!(&gateway, &world.published());
                prop_assert_eq!(&content(&index), &gateway);
            }
        }
        fold_groups(&mut gateway, &index.drain());
        prop_assert_eq!(&gateway, &world.published());
        prop_assert_eq!(&content(&index), &gateway);
        let copies = world.engines.iter().flat_map(|e| e.values()).flatten().filter(|&&copies| copies > 0).count();
        prop_assert_eq!(index.size().memberships, copies);
        for of in 0..3 {
            index.clear(slot(of));
        }
        fold_groups(&mut gateway, &index.drain());
        prop_assert!(gateway.is_empty());
        while index.end_oldest_lingering().is_some() {}
        prop_assert_eq!((index.size().blocks, index.size().chunks, index.size().memberships), (0, 0, 0));
        prop_assert!(index.repeats_are_empty());
    }

    /// A replay comes in any order and says everything twice, once over another medium's events.
    #[test]
    fn blocks_that_come_before_their_parents_get_their_chunks_in_the_end(
        (block_size, chunk, names) in world(&[Names::Digests, Names::Seeded]),
        runs in vec((0..3u32, 0..8usize, 1..13usize), 1..8),
        order in any::<u64>(),
    ) {
        let mut world = World::new(3, block_size, chunk, names);
        let mut told = Vec::new();
        for (of, prompt, blocks) in runs {
            for path in world.paths(prompt, blocks) {
                told.push((of, world.store(of, &[path])));
            }
        }
        let mut index = world.index();
        told.sort_by_cached_key(|(of, event)| draw(order ^ u64::from(*of) ^ match event {
            KvEvent::Stored(stored) => stored.hashes[0].0,
            KvEvent::Removed(_) | KvEvent::Cleared => 0,
        }));
        let mut gateway = Published::new();
        for (i, (of, event)) in told.iter().enumerate() {
            index.apply(slot(*of), event, at(1.0)).unwrap();
            if i % 3 == 0 {
                fold_groups(&mut gateway, &index.drain());
            }
        }
        fold_groups(&mut gateway, &index.drain());
        prop_assert_eq!(&gateway, &world.published());
    }

    #[test]
    fn after_lost_events_a_clear_and_a_replay_are_as_good_as_a_fresh_start(
        (block_size, chunk, names) in world(&[Names::Digests, Names::Seeded]),
        steps in steps(),
        lost in any::<u64>(),
    ) {
        let mut world = World::new(3, block_size, chunk, names);
        let mut index = world.index();
        let mut gateway = Published::new();
        for (i, step) in (0u32..).zip(steps) {
            for (of, event) in events(&mut world, step) {
                if !draw(lost ^ u64::from(i)).is_multiple_of(4) {
                    index.apply(slot(of), &event, at(1.0)).unwrap();
                }
            }
            if i % 7 == 0 {
                fold_groups(&mut gateway, &index.drain());
            }
        }
        for of in 0..3 {
            index.reset(slot(of));
            let copies: Vec<_> = world.engines[of as usize].clone().into_iter().collect();
            for (path, copies) in copies {
                for (number, copies) in copies.into_iter().enumerate() {
                    for _ in 0..copies {
                        let event = world.describe(of, core::slice::from_ref(&path), medium(number));
                        index.apply(slot(of), &event, at(1.0)).unwrap();
                    }
                }
            }
        }
        fold_groups(&mut gateway, &index.drain());
        prop_assert_eq!(&gateway, &world.published());
        prop_assert_eq!(&content(&index), &gateway);
    }
}
