use super::testing::*;
use super::verdict::Continuation;
use super::*;

#[test]
fn a_hole_hides_what_is_behind_it_until_it_is_closed() {
    let mut world = World::new(1, 16, 64, Names::Digests);
    let mut index = world.index();
    let paths = world.paths(0, 6);
    let stored = world.store(0, &paths);
    index.apply(slot(0), &stored, at(0.0)).unwrap();
    index.drain();
    let whole = content(&index);
    assert_eq!(whole, world.published());
    let hole = world.evict(0, &paths[2], Medium::Gpu).unwrap();
    index.apply(slot(0), &hole, at(0.0)).unwrap();
    assert!(!index.drain().is_empty());
    assert_eq!(content(&index), world.published());
    assert!(content(&index).len() < whole.len() && !content(&index).is_empty());
    let close = world.store(0, &paths[2..3]);
    index.apply(slot(0), &close, at(0.0)).unwrap();
    index.drain();
    assert_eq!(content(&index), whole);
}

#[test]
fn a_verdict_ends_a_chain_where_it_says_no() {
    let mut world = World::new(1, 16, 64, Names::Digests);
    let (mut free, mut judged) = (world.index(), world.index());
    judged.set_verdict(Box::new(|next: &Continuation<'_>| next.before.len() < 48));
    let paths = world.paths(0, 6);
    let stored = world.store(0, &paths);
    for index in [&mut free, &mut judged] {
        index.apply(slot(0), &stored, at(0.0)).unwrap();
        index.drain();
    }
    let least = free.content().iter().flat_map(|g| g.keys.clone()).count();
    let left = content(&judged);
    assert!(left.len() < least && !left.is_empty());
    assert!(left.values().all(|&(_, tokens)| tokens <= 48));
    assert_eq!(judged.counters().stopped, 3);
}

#[test]
fn over_the_budget_the_coldest_chains_go_and_what_is_left_has_no_holes() {
    let mut world = World::new(1, 16, 64, Names::Digests);
    let mut index = world.index();
    index.scope.budget_bytes = 5_000;
    for number in 0..12usize {
        let paths = world.paths(number, 12);
        let stored = world.store(0, &paths);
        index.apply(slot(0), &stored, at(number as f64 * 10.0)).unwrap();
        index.drain();
        let newest: Vec<u64> = content(&index).into_keys().collect();
        assert!(!newest.is_empty());
    }
    assert!(index.counters().shed > 0);
    let (left, all) = (content(&index), world.published());
    assert!(left.len() < all.len());
    assert!(left.iter().all(|(key, holders)| all.get(key).is_some_and(|h| h.0 == holders.0)));
    assert!(index.held_by(slot(0)) > 0 && index.size().memberships < 12 * 12);
}

#[test]
fn filling_and_clearing_again_and_again_takes_no_more_memory() {
    let mut world = World::new(2, 16, 64, Names::Digests);
    let mut index = world.index();
    let mut first = 0;
    for round in 0..6 {
        for of in 0..2 {
            for number in 0..8 {
                let paths = world.paths(number, 12);
                let stored = world.describe(of, &paths, Medium::Gpu);
                index.apply(slot(of), &stored, at(0.0)).unwrap();
            }
        }
        index.drain();
        for of in 0..2 {
            index.reset(slot(of));
        }
        index.drain();
        assert_eq!(index.size().blocks, 0);
        if round == 1 {
            first = index.size().bytes;
        }
        assert!(round < 2 || index.size().bytes <= first);
    }
}
