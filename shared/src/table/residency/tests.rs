use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, proptest};

use super::{Depth, RESUMES_AT_CHECKPOINTS, Residency};
use crate::table::holders::Holder;

fn holder(code: u32) -> Holder {
    Holder::from_wire(code).unwrap()
}

fn holders(codes: &[u32]) -> Vec<Holder> {
    codes.iter().map(|&code| holder(code)).collect()
}

#[derive(Clone, Debug)]
struct Write {
    codes: Vec<u32>,
    keys: Vec<u64>,
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    // Few distinct keys, all of one shard and at home around its end, so that probe chains collide, wrap and shift.
    let key = (0u64..40).prop_map(|k| ((k / 8 + 1) << 32) | (u64::from(u32::MAX) - (k % 8) * (1 << 28)));
    let codes = proptest::collection::btree_set((0u32..6).prop_map(|s| s * 4), 0..3);
    vec((codes, vec(key, 1..8)).prop_map(|(c, keys)| Write { codes: c.into_iter().collect(), keys }), 0..60)
}

proptest! {
    #[test]
    fn behaves_as_a_map_of_keys_to_holder_sets(writes in writes()) {
        let mut index = Residency::default();
        let mut model: BTreeMap<u64, Vec<Holder>> = BTreeMap::new();
        for write in &writes {
            index.set(&holders(&write.codes), &write.keys, &[]);
            for &key in &write.keys {
                if write.codes.is_empty() {
                    model.remove(&key);
                } else {
                    model.insert(key, holders(&write.codes));
                }
            }
            let got: BTreeMap<u64, Vec<Holder>> =
                index.sorted().into_iter().map(|(key, held, _)| (key, held.to_vec())).collect();
            assert_eq!(got, model);
            assert_eq!(index.len(), model.len());
            let distinct: std::collections::BTreeSet<_> = model.values().collect();
            assert_eq!(index.sets.len(), distinct.len(), "an unused holder set was not freed");
        }
    }

    #[test]
    fn bisection_finds_what_a_walk_finds(lengths in vec(0usize..200, 1..12), chain_length in 1usize..200, seed in any::<u64>()) {
        let mut draw = crate::draw::Draw::from_seed(seed);
        let chain: Vec<u64> = (0..chain_length).map(|_| draw.next_u64().max(1)).collect();
        let mut index = Residency::default();
        for (at, &key) in chain.iter().enumerate() {
            let codes: Vec<u32> =
                (0..).zip(&lengths).filter(|&(_, &length)| at < length).map(|(slot, _)| slot * 4).collect();
            index.set(&holders(&codes), &[key], &[u32::try_from(at + 1).unwrap() * 10]);
        }
        let mut depths = vec![Depth::default(); lengths.len()];
        index.match_prefix(&chain, &mut depths);
        for (depth, &length) in depths.iter().zip(&lengths) {
            let want = u32::try_from(length.min(chain_length)).unwrap();
            assert_eq!((depth.device_chunks, depth.any_chunks), (want, want));
            assert_eq!(depth.device_tokens, (want > 0).then_some(want * 10));
        }
    }
}

#[test]
fn a_colder_tier_extends_the_match_beyond_the_device() {
    let mut index = Residency::default();
    index.set(&[holder(4)], &[1, 2], &[10, 20]);
    index.set(&[holder(5)], &[3], &[30]);
    let mut depths = vec![Depth::default(); 2];
    index.match_prefix(&[1, 2, 3, 4], &mut depths);
    assert_eq!(depths[0], Depth::default());
    assert_eq!(depths[1], Depth { device_chunks: 2, any_chunks: 3, device_tokens: Some(20), any_tokens: Some(30) });
}

#[test]
fn a_hole_ends_the_match() {
    let mut index = Residency::default();
    index.set(&[holder(0)], &[1, 3, 4], &[]);
    let mut depths = vec![Depth::default(); 1];
    index.match_prefix(&[1, 2, 3, 4], &mut depths);
    assert_eq!(depths[0].device_chunks, 1);
}

#[test]
fn key_zero_is_never_stored() {
    let mut index = Residency::default();
    index.set(&[holder(0)], &[0], &[]);
    index.set(&[], &[0], &[]);
    assert!(index.is_empty() && index.holders(0).is_empty());
    assert_eq!(index.sets.len(), 0);
}

/// Endpoint 0 goes on only from checkpoints, endpoint 1 from anywhere.
fn resuming(rows: &[(&[u32], u64)]) -> [Depth; 2] {
    let mut index = Residency::default();
    index.set(&[holder(3)], &[RESUMES_AT_CHECKPOINTS], &[]);
    for (count, &(codes, key)) in (1..).zip(rows) {
        index.set(&holders(codes), &[key], &[count * 10]);
    }
    let mut depths = [Depth::default(); 2];
    index.match_prefix(&[1, 2, 3, 4, 5, 6, 7, 8], &mut depths);
    depths
}

#[test]
fn an_endpoint_that_goes_on_from_checkpoints_is_taken_back_to_its_last_one() {
    let [resumed, plain] =
        resuming(&[(&[0, 4], 1), (&[0, 3, 4], 2), (&[0, 4], 3), (&[0, 3, 4], 4), (&[0, 4], 5), (&[0, 4], 6)]);
    assert_eq!(resumed, Depth { device_chunks: 4, any_chunks: 4, device_tokens: Some(40), any_tokens: Some(40) });
    assert_eq!((plain.device_chunks, plain.device_tokens), (6, Some(60)));
}

#[test]
fn without_a_checkpoint_nothing_counts() {
    let [resumed, plain] = resuming(&[(&[0, 4], 1), (&[0, 4], 2)]);
    assert_eq!((resumed, plain.device_chunks), (Depth::default(), 2));
}

#[test]
fn a_checkpoint_behind_a_hole_is_out_of_reach() {
    let [resumed, _] = resuming(&[(&[0, 3], 1), (&[0], 2), (&[4], 3), (&[0, 3], 4)]);
    assert_eq!(resumed.any_chunks, 1);
}

#[test]
fn a_colder_tier_counts_to_its_own_checkpoint() {
    let [resumed, _] = resuming(&[(&[0], 1), (&[0, 3], 2), (&[0], 3), (&[1], 4), (&[1, 3], 5), (&[1], 6)]);
    assert_eq!(resumed, Depth { device_chunks: 2, any_chunks: 5, device_tokens: Some(20), any_tokens: Some(50) });
    let [cold, _] = resuming(&[(&[1], 1), (&[1, 3], 2), (&[1], 3)]);
    assert_eq!(cold, Depth { any_chunks: 2, any_tokens: Some(20), ..Depth::default() });
}
