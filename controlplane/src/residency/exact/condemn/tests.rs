use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::super::testing::*;
use super::super::verdict::{BlockId, Continuation};
use super::super::{ExactResidency, Medium};
use crate::events::event::{BlockHash, KvEvent};

/// The number of every block that it was asked about, by name.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<BTreeMap<BlockHash, BlockId>>>);

impl Asked {
    fn by(index: &mut ExactResidency) -> Self {
        let asked = Self::default();
        let notes = asked.clone();
        index.set_verdict(Box::new(move |next: &Continuation<'_>| {
            notes.0.lock().unwrap().insert(next.block.name, next.block);
            true
        }));
        asked
    }

    fn id(&self, name: BlockHash) -> Option<BlockId> {
        self.0.lock().unwrap().get(&name).copied()
    }
}

fn tell(index: &mut ExactResidency, event: &KvEvent) {
    index.apply(slot(0), event, at(0.0)).unwrap();
}

#[test]
fn a_block_of_another_name_is_not_condemned() {
    let mut world = World::new(1, 16, 64, Names::Digests);
    let mut index = world.index();
    let asked = Asked::by(&mut index);
    let paths = world.paths(0, 3);
    let stored = world.store(0, &paths);
    tell(&mut index, &stored);
    index.drain();
    let whole = content(&index);
    let id = asked.id(world.name(0, &paths[1])).unwrap();
    assert!(!index.condemn(BlockId { name: BlockHash(id.name.0 ^ 1), ..id }));
    assert_eq!(content(&index), whole);
    assert!(index.condemn(id) && !index.condemn(id));
    index.drain();
    assert!(content(&index).len() < whole.len());
    for path in paths.iter().rev() {
        let gone = world.evict(0, path, Medium::Gpu).unwrap();
        tell(&mut index, &gone);
    }
    index.drain();
    assert_eq!((index.size().blocks, index.size().chunks, content(&index).len()), (0, 0, 0));
}

proptest! {
    #[test]
    fn a_late_verdict_comes_to_what_an_early_one_would_have(
        prompts in proptest::collection::vec((0usize..6, 1usize..9), 1..8),
        doomed in proptest::collection::vec((0usize..6, 0usize..9), 0..4),
        late in 0usize..8,
    ) {
        let mut world = World::new(2, 4, 16, Names::Digests);
        let doomed: Vec<Path> =
            doomed.iter().filter_map(|&(number, at)| world.paths(number, 9).get(at).cloned()).collect();
        let names: Vec<BlockHash> = doomed.iter().map(|path| world.name(0, path)).collect();
        let (mut early, mut index) = (world.index(), world.index());
        let no = names.clone();
        early.set_verdict(Box::new(move |next: &Continuation<'_>| !no.contains(&next.block.name)));
        let asked = Asked::by(&mut index);
        let mut published = Published::new();
        for (step, &(number, blocks)) in prompts.iter().enumerate() {
            let paths = world.paths(number, blocks);
            let event = world.store(u32::try_from(step % 2).unwrap(), &paths);
            for index in [&mut early, &mut index] {
                index.apply(slot(u32::from(step % 2 == 1)), &event, at(0.0)).unwrap();
            }
            early.drain();
            if step >= late {
                names.iter().filter_map(|&name| asked.id(name)).for_each(|id| { index.condemn(id); });
            }
            fold_groups(&mut published, &index.drain());
        }
        names.iter().filter_map(|&name| asked.id(name)).for_each(|id| { index.condemn(id); });
        fold_groups(&mut published, &index.drain());
        prop_assert_eq!(content(&index), content(&early));
        prop_assert_eq!(published, content(&early), "what gateways were told");
    }
}
