use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn slot(index: u32) -> Slot {
    Slot::new(index).unwrap()
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_secs_f64(seconds)
}

fn index() -> ResidencyIndex {
    ResidencyIndex::new(7)
}

fn wires(index: &ResidencyIndex, key: u64) -> Vec<u32> {
    index.holders(key).into_iter().map(Holder::wire).collect()
}

/// What a gateway makes of groups.
fn fold(map: &mut BTreeMap<u64, Vec<u32>>, groups: &[ResidencyGroup]) {
    for group in groups {
        for &key in &group.keys {
            if group.holders.is_empty() {
                map.remove(&key);
            } else {
                map.insert(key, group.holders.clone());
            }
        }
    }
}

#[test]
fn a_route_makes_its_endpoint_hold_the_whole_chain_from_the_root() {
    let mut index = index();
    index.route(slot(0), None, &[1, 2, 3], at(0.0)).unwrap();
    index.route(slot(5), Some(2), &[4], at(0.0)).unwrap();
    assert_eq!(wires(&index, 1), [0, 20]);
    assert_eq!(wires(&index, 2), [0, 20]);
    assert_eq!(wires(&index, 3), [0]);
    assert_eq!(wires(&index, 4), [20]);
}

#[test]
fn a_route_after_an_unknown_chunk_is_an_orphan_and_changes_nothing() {
    let mut index = index();
    assert_eq!(index.route(slot(0), Some(9), &[1, 2], at(0.0)), Err(UnknownParent(9)));
    assert_eq!(index.size().chunks, 0);
    assert!(!index.is_dirty());
}

#[test]
fn the_oldest_chain_goes_first_and_from_its_tail() {
    let mut index = index();
    index.set_capacity(slot(0), 5);
    index.route(slot(0), None, &[1, 2, 3], at(0.0)).unwrap();
    index.route(slot(0), None, &[1, 4], at(1.0)).unwrap();
    index.route(slot(0), None, &[7, 8], at(2.0)).unwrap();
    assert_eq!(index.held_by(slot(0)), 5);
    assert_eq!(wires(&index, 3), [0; 0]);
    for key in [1, 2, 4, 7, 8] {
        assert_eq!(wires(&index, key), [0], "key {key}");
    }
}

#[test]
fn a_chain_longer_than_the_cache_keeps_its_beginning() {
    let mut index = index();
    index.set_capacity(slot(0), 3);
    index.route(slot(0), None, &[1, 2, 3, 4, 5], at(0.0)).unwrap();
    assert_eq!(index.content().iter().flat_map(|g| g.keys.clone()).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_cleared_endpoint_leaves_no_trace_after_the_drain() {
    let mut index = index();
    index.route(slot(0), None, &[1, 2, 3], at(0.0)).unwrap();
    index.drain();
    index.clear(slot(0));
    let groups = index.drain();
    assert_eq!(groups, [ResidencyGroup { holders: vec![], keys: vec![1, 2, 3], tokens: vec![] }]);
    assert_eq!(index.size().chunks, 0);
    assert_eq!(index.size().memberships, 0);
    assert_eq!(index.drain(), []);
}

#[test]
fn chunks_are_grouped_by_holders_in_order() {
    let mut index = index();
    index.route(slot(1), None, &[30, 20, 10], at(0.0)).unwrap();
    index.route(slot(0), None, &[30], at(0.0)).unwrap();
    let expected = [
        ResidencyGroup { holders: vec![0, 4], keys: vec![30], tokens: vec![] },
        ResidencyGroup { holders: vec![4], keys: vec![10, 20], tokens: vec![] },
    ];
    assert_eq!(index.content(), expected);
    assert_eq!(index.drain(), expected);
}

#[test]
fn events_carry_tiers_and_tokens() {
    let mut index = index();
    let gpu = Holder::new(slot(2), Tier::Gpu);
    let cpu = Holder::new(slot(2), Tier::Cpu);
    index.store(gpu, Chunk { key: 1, parent: None, tokens: Some(32) }, at(0.0)).unwrap();
    index.store(gpu, Chunk { key: 2, parent: Some(1), tokens: Some(64) }, at(0.0)).unwrap();
    index.store(cpu, Chunk { key: 1, parent: None, tokens: Some(32) }, at(0.0)).unwrap();
    index.discard(gpu, 1);
    index.discard(gpu, 77);
    let expected = [
        ResidencyGroup { holders: vec![8], keys: vec![2], tokens: vec![64] },
        ResidencyGroup { holders: vec![9], keys: vec![1], tokens: vec![32] },
    ];
    assert_eq!(index.drain(), expected);
}

#[test]
fn the_budget_takes_the_coldest_chains_of_all_endpoints() {
    let mut index = index();
    index.route(slot(0), None, &[1, 2], at(0.0)).unwrap();
    index.route(slot(1), None, &[3, 4], at(100.0)).unwrap();
    index.route(slot(0), None, &[5, 6], at(200.0)).unwrap();
    index.shrink_to(3, at(300.0));
    let left: BTreeSet<u64> = index.content().into_iter().flat_map(|g| g.keys).collect();
    assert_eq!(left, [3, 5, 6].into());
}

#[derive(Clone, Debug)]
enum Step {
    Route { slot: u32, group: u64, length: usize },
    Continue { slot: u32, base: u64, key: u64 },
    Clear(u32),
    Capacity(u32, u32),
    Shrink(usize),
    Drain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..4u32, 0..5u64, 1..12usize).prop_map(|(slot, group, length)| Step::Route { slot, group, length }),
        3 => (0..4u32, 0..40u64, 1000..1040u64).prop_map(|(slot, base, key)| Step::Continue { slot, base, key }),
        1 => (0..4u32).prop_map(Step::Clear),
        1 => (0..4u32, 1..20u32).prop_map(|(slot, chunks)| Step::Capacity(slot, chunks)),
        1 => (0..30usize).prop_map(Step::Shrink),
        2 => Just(Step::Drain),
    ];
    proptest::collection::vec(step, 1..80)
}

/// Groups share a stem of four chunks, then part.
fn chain(group: u64, length: usize) -> Vec<u64> {
    (1u64..).take(length).map(|i| if i <= 4 { i } else { 10 + group * 100 + i }).collect()
}

proptest! {
    /// If an endpoint holds a chunk it holds its parent; sizes agree; the drained changes make the content.
    #[test]
    fn holder_sets_stay_prefix_closed_and_drains_add_up_to_the_content(steps in steps()) {
        let mut index = index();
        let mut gateway = BTreeMap::new();
        let mut parents: BTreeMap<u64, u64> = BTreeMap::new();
        for (tick, step) in (0u32..).zip(steps) {
            let now = at(f64::from(tick) * 5.0);
            match step {
                Step::Route { slot: s, group, length } => {
                    let keys = chain(group, length);
                    parents.extend(keys.windows(2).map(|w| (w[1], w[0])));
                    index.route(slot(s), None, &keys, now).unwrap();
                }
                Step::Continue { slot: s, base, key } => {
                    let known = index.nodes.find(key).is_some();
                    if index.route(slot(s), Some(base), &[key], now).is_ok() && !known {
                        parents.insert(key, base);
                    }
                }
                Step::Clear(s) => index.clear(slot(s)),
                Step::Capacity(s, chunks) => index.set_capacity(slot(s), chunks),
                Step::Shrink(most) => {
                    index.shrink_to(most, now);
                    prop_assert!(index.size().memberships <= most);
                }
                Step::Drain => fold(&mut gateway, &index.drain()),
            }
            let mut content = BTreeMap::new();
            fold(&mut content, &index.content());
            for (key, holders) in &content {
                if let Some(parent) = parents.get(key) {
                    for holder in holders {
                        prop_assert!(content.get(parent).is_some_and(|p| p.contains(holder)), "{key} without {parent}");
                    }
                }
            }
            prop_assert_eq!(content.values().map(Vec::len).sum::<usize>(), index.size().memberships);
            for s in 0..4 {
                let held = content.values().filter(|h| h.contains(&(s * 4))).count();
                prop_assert_eq!(held, index.held_by(slot(s)) as usize);
            }
        }
        fold(&mut gateway, &index.drain());
        let mut content = BTreeMap::new();
        fold(&mut content, &index.content());
        prop_assert_eq!(&gateway, &content);
        prop_assert_eq!(index.size().chunks, content.len());
    }
}

/// Run with `cargo test --release -p controlplane -- --ignored --nocapture index_speed`.
#[test]
#[ignore = "a measurement: release builds only"]
fn index_speed_and_memory() {
    let mut seed = 1u64;
    let mut draw = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed ^ (seed >> 29)
    };
    let chains: Vec<Vec<u64>> = (0..8_000).map(|_| (0..128).map(|_| draw()).collect()).collect();
    for (name, stem, capacity) in [("unique chains", 0, u32::MAX), ("hot stem", 64, u32::MAX), ("evicting", 0, 4_000)] {
        let mut index = index();
        for s in 0..64 {
            index.set_capacity(slot(s), capacity);
        }
        let started = std::time::Instant::now();
        let mut touched = 0u32;
        for (i, chain) in (0u32..).zip(&chains) {
            let mut keys = chains[0][..stem].to_vec();
            keys.extend_from_slice(&chain[stem..]);
            index.route(slot(i % 64), None, &keys, at(f64::from(i))).unwrap();
            touched += u32::try_from(keys.len()).unwrap();
            if i % 100 == 0 {
                index.drain();
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let size = index.size();
        let per = size.bytes as f64 / size.memberships as f64;
        println!("{name}: {:.2} M chunks/s, {size:?}, {per:.1} B per membership", f64::from(touched) / seconds / 1e6);
        assert!(per <= 64.0 || size.memberships < 500_000, "{name}: {per:.1} B per membership");
    }
    let mut index = index();
    let holder = Holder::new(slot(0), Tier::Gpu);
    let started = std::time::Instant::now();
    for chain in &chains {
        let mut parent = None;
        for &key in chain {
            index.store(holder, Chunk { key, parent, tokens: Some(32) }, at(0.0)).unwrap();
            parent = Some(key);
        }
        index.nodes.settle();
    }
    println!("events: {:.2} M stores/s", 8_000.0 * 128.0 / started.elapsed().as_secs_f64() / 1e6);
}
