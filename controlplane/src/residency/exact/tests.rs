use super::testing::*;
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
