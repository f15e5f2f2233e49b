//! Engines with cache groups beside full attention, against an oracle that knows what they hold and asks of every boundary
//! whether all groups have what they need, by definition.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use shared::prefix::{ChainRoot, chain};
use shared::table::residency::RESUMES_AT_CHECKPOINTS;

use super::oracle_tests::{self, Step, world};
use super::sides::Need;
use super::testing::*;
use super::*;
use crate::events::event::{BlockRemoved, BlockStored, CacheKind};

/// A side group: its number, its kind, and how many blocks of full attention one of its blocks spans.
type Shape = (u32, CacheKind, usize);

/// The same with sizes in blocks of full attention.
type Sketch = (u32, Kind, usize);

/// What engines look like: the number of the group of full attention, and the others. Windows in blocks, less a token.
const SHAPES: &[(u32, &[Sketch])] = &[
    (0, &[]),
    (0, &[(1, Kind::Window(2), 1)]),
    (1, &[(0, Kind::Window(1), 1)]),
    (0, &[(1, Kind::Recurrent, 1)]),
    (2, &[(0, Kind::Window(3), 1), (1, Kind::Recurrent, 2)]),
    (0, &[(1, Kind::Chunk(3), 1)]),
    (1, &[(2, Kind::Full, 1)]),
    (0, &[(1, Kind::Full, 1), (2, Kind::Window(2), 2)]),
    (3, &[(0, Kind::Chunk(4), 2), (1, Kind::Window(4), 1), (2, Kind::Window(4), 1)]),
];

#[derive(Clone, Copy, Debug)]
enum Kind {
    Window(u32),
    Chunk(u32),
    Recurrent,
    Full,
}

/// What one engine has in its side groups: copies, by group and block.
type Aside = BTreeMap<(u32, Path), u32>;

struct Hybrids {
    world: World,
    shapes: Vec<(u32, Vec<Shape>)>,
    asides: Vec<Aside>,
    /// Engines that have said that they have side groups.
    known: BTreeSet<u32>,
    /// Do all engines name alike?
    alike: bool,
}

#[derive(Clone, Debug)]
enum Move {
    Full(Step),
    /// Blocks of a prompt come into every side group: those that the draw keeps.
    Keep {
        slot: u32,
        prompt: usize,
        blocks: usize,
        draw: u64,
    },
    Drop {
        slot: u32,
        pick: usize,
    },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => oracle_tests::step().prop_map(Move::Full),
        3 => (0..3u32, 0..8usize, 1..13usize, any::<u64>())
            .prop_map(|(slot, prompt, blocks, draw)| Move::Keep { slot, prompt, blocks, draw }),
        2 => (0..3u32, 0..1000usize).prop_map(|(slot, pick)| Move::Drop { slot, pick }),
    ];
    vec(one, 1..60)
}

fn shapes() -> impl Strategy<Value = Vec<usize>> {
    vec(0..SHAPES.len(), 3)
}

impl Hybrids {
    fn new((block_size, chunk, names): (usize, u16, Names), shapes: &[usize]) -> Self {
        let size = block_size as u32;
        let kind = |kind| match kind {
            Kind::Window(blocks) => CacheKind::SlidingWindow { window: blocks * size },
            Kind::Chunk(blocks) => CacheKind::ChunkedLocal { chunk: blocks * size },
            Kind::Recurrent => CacheKind::Recurrent,
            Kind::Full => CacheKind::Full,
        };
        let shape = |&at: &usize| {
            let (full, sides) = SHAPES[at];
            (full, sides.iter().map(|&(number, of, span)| (number, kind(of), span)).collect())
        };
        Self {
            world: World::new(3, block_size, chunk, names),
            shapes: shapes.iter().map(shape).collect(),
            asides: vec![Aside::new(); 3],
            known: BTreeSet::new(),
            alike: names == Names::Digests,
        }
    }

    /// Events of the group of full attention, as this engine numbers it.
    fn numbered(&self, slot: u32, mut event: KvEvent) -> KvEvent {
        let full = self.shapes[slot as usize].0;
        match &mut event {
            KvEvent::Stored(stored) => stored.group = full,
            KvEvent::Removed(removed) => removed.group = full,
            KvEvent::Cleared => {}
        }
        event
    }

    fn names(&mut self, slot: u32, paths: &[Path]) -> Vec<crate::events::event::BlockHash> {
        paths.iter().map(|path| self.world.name(slot, path)).collect()
    }

    /// The group of full attention speaks first, where another of its kind could.
    fn introduce(&self, index: &mut ExactResidency) {
        for (of, (group, _)) in (0..).zip(&self.shapes) {
            let block_size = self.world.block_size as u32;
            let nothing = BlockStored { block_size, group: *group, ..BlockStored::default() };
            index.apply(slot(of), &KvEvent::Stored(nothing), at(0.0)).unwrap();
        }
    }

    fn stored_aside(&mut self, slot: u32, (group, kind, span): Shape, kept: &[Path], range: &[Path]) -> KvEvent {
        let hashes = self.names(slot, kept);
        let tokens = range.last().map(|path| path.1.clone()).unwrap_or_default();
        let block_size = (self.world.block_size * span) as u32;
        KvEvent::Stored(BlockStored { hashes, tokens, block_size, group, kind, ..BlockStored::default() })
    }

    fn events(&mut self, step: Move) -> Vec<(u32, KvEvent)> {
        match step {
            Move::Full(step) => {
                if let Step::Clear(slot) = step {
                    self.asides[slot as usize].clear();
                }
                let events = oracle_tests::events(&mut self.world, step);
                events.into_iter().map(|(slot, event)| (slot, self.numbered(slot, event))).collect()
            }
            Move::Keep { slot, prompt, blocks, draw: seed } => {
                let mut all = Vec::new();
                for shape in self.shapes[slot as usize].1.clone() {
                    let unit = shape.2 * self.world.block_size;
                    let mut range = self.world.paths(prompt, blocks);
                    range.retain(|path| path.1.len().is_multiple_of(unit));
                    // Mostly whole stretches, else the drawn ones only.
                    let kept = |path: &&Path| seed % 3 > 0 || !draw(seed ^ path.1.len() as u64).is_multiple_of(4);
                    let kept: Vec<Path> = range.iter().filter(kept).cloned().collect();
                    for path in &kept {
                        *self.asides[slot as usize].entry((shape.0, path.clone())).or_default() += 1;
                    }
                    self.known.insert(slot);
                    all.push((slot, self.stored_aside(slot, shape, &kept, &range)));
                }
                all
            }
            Move::Drop { slot, pick } => {
                let held = &mut self.asides[slot as usize];
                let Some((group, path)) = held.keys().nth(pick % held.len().max(1)).cloned() else { return Vec::new() };
                let copies = held.get_mut(&(group, path.clone())).unwrap();
                *copies -= 1;
                if *copies == 0 {
                    held.remove(&(group, path.clone()));
                }
                let hashes = self.names(slot, &[path]);
                vec![(slot, KvEvent::Removed(BlockRemoved { hashes, group, medium: Medium::Gpu }))]
            }
        }
    }

    /// Can the engine go on from the end of `path`, as far as the side groups go?
    fn resumes(&self, slot: u32, path: &Path) -> bool {
        let end = path.1.len();
        self.shapes[slot as usize].1.iter().all(|&(group, kind, span)| {
            let unit = span * self.world.block_size;
            let has = |end: usize| self.asides[slot as usize].contains_key(&(group, (path.0, path.1[..end].to_vec())));
            let since = |start: usize| (start / unit * unit..end).step_by(unit).all(|before| has(before + unit));
            match Need::of(kind).unwrap() {
                Need::Last => has(end),
                Need::Chunk { chunk } if end.is_multiple_of(chunk as usize) => true,
                Need::Chunk { chunk } => end.is_multiple_of(unit) && since(end / chunk as usize * chunk as usize),
                Need::Everything => since(0),
                Need::Window { window } => {
                    let blocks = (window as usize - 1).div_ceil(unit);
                    blocks == 0 || end.is_multiple_of(unit) && since(end.saturating_sub(blocks * unit))
                }
            }
        })
    }

    fn reaches(&self, slot: u32, path: &Path) -> bool {
        let held = &self.world.engines[slot as usize];
        let mut above = Some(path.clone());
        while above.as_ref().is_some_and(|path| held.contains_key(path)) {
            above = self.world.parent(&above.unwrap());
        }
        above.is_none()
    }

    /// Does an engine that names alike reach a block that leaves the way to `path` after `bytes`, or that ends the chunk
    /// `key` elsewhere?
    fn parts_before(&self, slot: u32, path: &Path, (key, bytes): (u64, usize)) -> bool {
        let (adapter, salt) = NAMESPACES[path.0];
        let size = self.world.block_size;
        let ends = (1..).map(|blocks| blocks * size).find(|&end| text(&path.1[..end]).len() >= bytes).unwrap();
        let leaves = |of: u32, other: &Path| {
            let whole = text(&other.1);
            if other.0 != path.0 || path.1.starts_with(&other.1) || whole.len() < bytes {
                return false;
            }
            let before = self.world.parent(other).map(|parent| parent.1).unwrap_or_default();
            let of_the_chunk = text(&before).len() >= bytes;
            if of_the_chunk {
                return (of == slot || self.alike) && before.len() < path.1.len() && path.1.starts_with(&before);
            }
            let mut keys = Vec::new();
            chain(ChainRoot::new("m", adapter, salt), self.world.chunk_bytes(), [&whole[..bytes]], &mut keys);
            keys.last() == Some(&key) && other.1[before.len()..] != path.1[ends - size..ends]
        };
        (0..3)
            .any(|of| self.world.engines[of as usize].keys().any(|other| leaves(of, other) && self.reaches(of, other)))
    }

    /// What must be published: what the world says, and for every boundary that an engine reaches and can go on from, the
    /// last chunk that ends before it.
    fn published(&self) -> Published {
        let mut published = self.world.published();
        for &slot in &self.known {
            let held = &self.world.engines[slot as usize];
            for path in held.keys().filter(|path| self.resumes(slot, path)) {
                let mut above = self.world.parent(path);
                while above.as_ref().is_some_and(|path| held.contains_key(path)) {
                    above = self.world.parent(&above.unwrap());
                }
                let (adapter, salt) = NAMESPACES[path.0];
                let (whole, mut keys) = (text(&path.1), Vec::new());
                chain(ChainRoot::new("m", adapter, salt), self.world.chunk_bytes(), [&whole[..]], &mut keys);
                let Some(&key) = keys.last().filter(|_| above.is_none()) else { continue };
                let chunk = self.world.chunk_bytes();
                if !self.parts_before(slot, path, (key, keys.len() * chunk)) {
                    published.get_mut(&key).unwrap().0.insert(slot * 4 + 3);
                    continue;
                }
                // The first chunks behind it, in whatever the engine holds.
                let next = (keys.len() + 1) * chunk;
                let ends_next = |other: &&Path| {
                    let before = other.1.len() - self.world.block_size;
                    other.0 == path.0
                        && other.1.len() > path.1.len()
                        && other.1.starts_with(&path.1)
                        && text(&other.1).len() >= next
                        && text(&other.1[..before]).len() < next
                };
                for other in held.keys().filter(ends_next).filter(|other| self.reaches(slot, other)) {
                    let mut keys = Vec::new();
                    chain(ChainRoot::new("m", adapter, salt), chunk, [&text(&other.1)[..next]], &mut keys);
                    published.get_mut(keys.last().unwrap()).unwrap().0.insert(slot * 4 + 3);
                }
            }
        }
        if !self.known.is_empty() {
            let all = self.known.iter().map(|slot| slot * 4 + 3).collect();
            published.insert(RESUMES_AT_CHECKPOINTS, (all, 0));
        }
        published
    }

    /// Everything that the engine would tell anew.
    fn replay(&mut self, of: u32) -> Vec<KvEvent> {
        let mut all = Vec::new();
        let copies: Vec<_> = self.world.engines[of as usize].clone().into_iter().collect();
        for (path, copies) in copies {
            for (number, copies) in copies.into_iter().enumerate() {
                let event = self.world.describe(of, core::slice::from_ref(&path), medium(number));
                all.extend((0..copies).map(|_| self.numbered(of, event.clone())));
            }
        }
        let aside = self.asides[of as usize].clone();
        for ((group, path), copies) in aside {
            let shape = *self.shapes[of as usize].1.iter().find(|shape| shape.0 == group).unwrap();
            let event = self.stored_aside(of, shape, core::slice::from_ref(&path), core::slice::from_ref(&path));
            all.extend((0..copies).map(|_| event.clone()));
        }
        all
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn checkpoints_are_where_every_group_can_go_on(
        world in world(&[Names::Digests, Names::Seeded]), shapes in shapes(), moves in moves(),
    ) {
        let mut engines = Hybrids::new(world, &shapes);
        let mut index = engines.world.index();
        engines.introduce(&mut index);
        let mut gateway = Published::new();
        for step in moves {
            let drains = matches!(step, Move::Full(Step::Drain));
            for (of, event) in engines.events(step) {
                index.apply(slot(of), &event, at(1.0)).unwrap();
            }
            if drains {
                fold_groups(&mut gateway, &index.drain());
                prop_assert_eq!(&gateway, &engines.published());
                prop_assert_eq!(&content(&index), &gateway);
            }
        }
        fold_groups(&mut gateway, &index.drain());
        prop_assert_eq!(&gateway, &engines.published());
        prop_assert_eq!(&content(&index), &gateway);
        for of in 0..3 {
            index.reset(slot(of));
        }
        fold_groups(&mut gateway, &index.drain());
        prop_assert!(gateway.is_empty(), "{:?}", gateway);
        while index.end_oldest_lingering().is_some() {}
        prop_assert_eq!((index.size().blocks, index.size().chunks, index.size().memberships), (0, 0, 0));
        prop_assert_eq!(index.sides.used_bytes(), 0);
    }

    /// Side groups come before full attention does, children before their parents.
    #[test]
    fn in_whatever_order_the_groups_tell_the_checkpoints_are_the_same(
        world in world(&[Names::Digests, Names::Seeded]), shapes in shapes(),
        runs in vec((0..3u32, 0..8usize, 1..13usize, any::<u64>()), 1..8), order in any::<u64>(),
    ) {
        let mut engines = Hybrids::new(world, &shapes);
        for (of, prompt, blocks, draw) in runs {
            for path in engines.world.paths(prompt, blocks) {
                engines.world.store(of, &[path]);
            }
            engines.events(Move::Keep { slot: of, prompt, blocks, draw });
        }
        let mut told: Vec<(u32, KvEvent)> = (0..3).flat_map(|of| {
            engines.replay(of).into_iter().map(move |event| (of, event)).collect::<Vec<_>>()
        }).collect();
        // Engines that keep nothing in a group do not speak of it again.
        let speaks = |of: &u32| !engines.asides[*of as usize].is_empty();
        engines.known.retain(speaks);
        let groups = |of: u32| engines.shapes[of as usize].1.len();
        let spoken = |of: u32| engines.asides[of as usize].keys().map(|key| key.0).collect::<BTreeSet<_>>().len();
        prop_assume!((0..3).all(|of| spoken(of) == 0 || spoken(of) == groups(of)));
        told.sort_by_cached_key(|(of, event)| draw(order ^ u64::from(*of) ^ match event {
            KvEvent::Stored(stored) => stored.hashes[0].0 ^ u64::from(stored.group) << 32,
            KvEvent::Removed(_) | KvEvent::Cleared => 0,
        }));
        let mut index = engines.world.index();
        engines.introduce(&mut index);
        let mut gateway = Published::new();
        for (i, (of, event)) in told.iter().enumerate() {
            index.apply(slot(*of), event, at(1.0)).unwrap();
            if i % 3 == 0 {
                fold_groups(&mut gateway, &index.drain());
            }
        }
        fold_groups(&mut gateway, &index.drain());
        prop_assert_eq!(&gateway, &engines.published());
    }

    #[test]
    fn after_lost_events_a_reset_and_a_replay_are_as_good_as_a_fresh_start(
        world in world(&[Names::Digests, Names::Seeded]), shapes in shapes(), moves in moves(), lost in any::<u64>(),
    ) {
        let mut engines = Hybrids::new(world, &shapes);
        let mut index = engines.world.index();
        let mut gateway = Published::new();
        for (i, step) in (0u32..).zip(moves) {
            for (of, event) in engines.events(step) {
                if !draw(lost ^ u64::from(i)).is_multiple_of(4) {
                    index.apply(slot(of), &event, at(1.0)).unwrap();
                }
            }
            if i % 7 == 0 {
                fold_groups(&mut gateway, &index.drain());
            }
        }
        let mut fresh = engines.world.index();
        (0..3).for_each(|of| index.reset(slot(of)));
        engines.introduce(&mut index);
        engines.introduce(&mut fresh);
        for of in 0..3 {
            for event in engines.replay(of) {
                index.apply(slot(of), &event, at(1.0)).unwrap();
                fresh.apply(slot(of), &event, at(1.0)).unwrap();
            }
        }
        fold_groups(&mut gateway, &index.drain());
        fresh.drain();
        prop_assert_eq!(&gateway, &content(&fresh));
        prop_assert_eq!(&content(&index), &gateway);
        let groups = |of: u32| engines.shapes[of as usize].1.len();
        let spoken = |of: u32| engines.asides[of as usize].keys().map(|key| key.0).collect::<BTreeSet<_>>().len();
        engines.known = (0..3).filter(|&of| spoken(of) > 0).collect();
        if engines.known.iter().all(|&of| spoken(of) == groups(of)) {
            prop_assert_eq!(&gateway, &engines.published());
        }
    }
}

/// One engine with a window of two blocks, and one without side groups.
fn mixed() -> (Hybrids, ExactResidency, Vec<Path>) {
    let mut engines = Hybrids::new((16, 64, Names::Digests), &[1, 0, 0]);
    let mut index = engines.world.index();
    let paths = engines.world.paths(0, 12);
    for of in 0..2 {
        let stored = engines.world.store(of, &paths);
        index.apply(slot(of), &stored, at(0.0)).unwrap();
    }
    for (of, event) in engines.events(Move::Keep { slot: 0, prompt: 0, blocks: 12, draw: 1 }) {
        index.apply(slot(of), &event, at(0.0)).unwrap();
    }
    (engines, index, paths)
}

#[test]
fn engines_with_and_without_side_groups_share_a_pool() {
    let (engines, mut index, _) = mixed();
    index.drain();
    assert_eq!(content(&index), engines.published());
    assert!(index.is_hybrid(slot(0)) && !index.is_hybrid(slot(1)));
    let named: BTreeSet<u32> = content(&index).values().flat_map(|(holders, _)| holders.clone()).collect();
    assert_eq!(named, BTreeSet::from([0, 3, 4]));
}

#[test]
fn an_engine_that_restarts_without_side_groups_is_no_longer_hybrid() {
    let (mut engines, mut index, paths) = mixed();
    index.drain();
    index.reset(slot(0));
    let stored = engines.world.describe(0, &paths, Medium::Gpu);
    index.apply(slot(0), &stored, at(1.0)).unwrap();
    index.drain();
    engines.known.clear();
    assert_eq!(content(&index), engines.published());
}

#[test]
fn a_side_group_of_finer_blocks_is_refused_where_places_matter() {
    let (engines, mut index, _) = mixed();
    let kind = CacheKind::SlidingWindow { window: 64 };
    let finer = BlockStored { hashes: Vec::new(), block_size: 8, group: 7, kind, ..BlockStored::default() };
    let refused = index.apply(slot(0), &KvEvent::Stored(finer), at(0.0));
    assert_eq!(refused, Err(Unsupported::Blocks { group: 7, tokens: 8, full: 16 }));
    index.drain();
    assert!(!index.is_hybrid(slot(0)) && index.held_by(slot(1)) > 0);
    assert!(content(&index).values().all(|(holders, _)| *holders == BTreeSet::from([4])));
    drop(engines);
}

#[test]
fn over_the_budget_side_groups_count_and_go_with_their_blocks() {
    let (mut engines, mut index, _) = mixed();
    index.drain();
    let before = index.sides.used_bytes();
    assert!(before >= 12 * 16 && index.size().bytes > before);
    // Nothing of these is known to full attention.
    for prompt in 1..8 {
        for (of, event) in engines.events(Move::Keep { slot: 0, prompt, blocks: 12, draw: 1 }) {
            index.apply(slot(of), &event, at(1.0)).unwrap();
        }
    }
    let budget = index.sides.used_bytes();
    index.set_budget(budget);
    index.drain();
    assert!(index.sides.used_bytes() <= before, "names that match nothing go first");
    index.set_budget(600);
    index.drain();
    assert!(index.counters().shed > 0 && index.sides.used_bytes() < before / 2);
    let all = engines.published();
    assert!(content(&index).iter().all(|(key, left)| all[key].0.is_superset(&left.0)));
}
