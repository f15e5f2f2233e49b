use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use prost::Message;

use super::*;
use crate::identity::Slot;
use crate::table::holders::Holder;
use crate::wire;
use crate::wire::scorer::Kind;

fn endpoint(slot: u32, port: u16) -> wire::Endpoint {
    wire::Endpoint { slot, address: format!("10.0.0.1:{port}"), ..wire::Endpoint::default() }
}

fn pool(endpoints: Vec<wire::Endpoint>, residency: Vec<wire::ResidencyGroup>) -> wire::PoolChange {
    wire::PoolChange { name: "p".to_owned(), endpoints, residency, ..wire::PoolChange::default() }
}

fn group(holders: &[u32], keys: &[u64]) -> wire::ResidencyGroup {
    wire::ResidencyGroup { holders: holders.to_vec(), keys: keys.to_vec(), tokens: vec![] }
}

fn encoded(version: u64, part: u32, parts: u32, pools: Vec<wire::PoolChange>) -> Vec<u8> {
    wire::Segment { epoch: 5, version, part, parts, pools }.encode_to_vec()
}

/// Version 1 with two endpoints and three chunks.
fn synced() -> TableSync {
    let mut sync = TableSync::default();
    let change = pool(vec![endpoint(0, 1), endpoint(3, 2)], vec![group(&[0, 12], &[7, 8]), group(&[0], &[9])]);
    sync.fold(&encoded(1, 1, 1, vec![change])).unwrap();
    sync
}

#[test]
fn a_snapshot_takes_over_with_its_last_part_only() {
    let mut sync = synced();
    let before = sync.table().clone();
    let first = encoded(9, 1, 2, vec![pool(vec![endpoint(0, 9)], vec![])]);
    assert_eq!(sync.fold(&first), Ok(Folded::Building));
    assert_eq!(*sync.table(), before);
    let second = encoded(9, 2, 2, vec![pool(vec![endpoint(1, 10)], vec![])]);
    assert_eq!(sync.fold(&second), Ok(Folded::InForce(TableVersion { epoch: 5, version: 9 })));
    let addresses: Vec<_> = sync.table().pools["p"].endpoints().map(|(_, row)| row.address.as_str()).collect();
    assert_eq!(addresses, ["10.0.0.1:9", "10.0.0.1:10"]);
    assert!(sync.table().pools["p"].residency.is_empty(), "the old residency is gone");
}

#[test]
fn a_delta_is_applied_once_and_a_gap_is_refused() {
    let mut sync = synced();
    let delta = wire::PoolChange { removed_slots: vec![0], ..pool(vec![endpoint(1, 3)], vec![group(&[], &[9])]) };
    let bytes = encoded(2, 0, 0, vec![delta]);
    assert_eq!(sync.fold(&bytes), Ok(Folded::InForce(TableVersion { epoch: 5, version: 2 })));
    assert_eq!(sync.fold(&bytes), Ok(Folded::Old));
    let pool = &sync.table().pools["p"];
    assert_eq!(pool.endpoints().map(|(slot, _)| slot.index()).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(pool.residency.len(), 2);
    assert_eq!(pool.residency.holders(7).len(), 2);
    let before = sync.table().clone();
    assert!(matches!(sync.fold(&encoded(4, 0, 0, vec![])), Err(Refused::Gap { .. })));
    let other = wire::Segment { epoch: 6, version: 3, ..wire::Segment::default() }.encode_to_vec();
    assert!(matches!(sync.fold(&other), Err(Refused::Gap { .. })));
    assert_eq!(*sync.table(), before);
}

#[test]
fn snapshot_parts_out_of_order_are_refused_and_forgotten() {
    let mut sync = synced();
    sync.fold(&encoded(9, 1, 3, vec![])).unwrap();
    assert_eq!(sync.fold(&encoded(9, 3, 3, vec![])), Err(Refused::PartOutOfOrder { want: 2, got: 3 }));
    assert_eq!(sync.fold(&encoded(9, 2, 3, vec![])), Err(Refused::PartOutOfOrder { want: 1, got: 2 }));
    assert_eq!(sync.table().version.version, 1);
}

#[test]
fn a_removed_pool_is_gone() {
    let mut sync = synced();
    let gone = wire::PoolChange { name: "p".to_owned(), removed: true, ..wire::PoolChange::default() };
    sync.fold(&encoded(2, 0, 0, vec![gone])).unwrap();
    assert!(sync.table().pools.is_empty());
}

fn profiled(
    good: &wire::PoolSettings,
    filters: Vec<wire::Filter>,
    weight: f64,
    kind: Option<Kind>,
) -> wire::PoolSettings {
    let scorers = vec![wire::Scorer { name: "s".to_owned(), weight, kind }];
    let profile = Some(wire::Profile { filters, scorers, ..wire::Profile::default() });
    wire::PoolSettings { profile, ..good.clone() }
}

fn rewritten(good: &wire::PoolSettings, rules: usize, model: &str, targets: &[(&str, u32)]) -> wire::PoolSettings {
    let target = |&(model, weight): &(&str, u32)| wire::RewriteTarget { model: model.to_owned(), weight };
    let rule = wire::ModelRewrite { models: vec![model.to_owned()], targets: targets.iter().map(target).collect() };
    wire::PoolSettings { rewrites: vec![rule; rules], ..good.clone() }
}

#[test]
fn each_broken_rule_is_refused_by_name() {
    let bad_settings = |settings| wire::PoolChange { settings: Some(settings), ..pool(vec![], vec![]) };
    let good = wire::PoolSettings {
        chunk_bytes: 128,
        slo_ttft_seconds: 2.0,
        slo_tpot_seconds: 0.05,
        choices: 3,
        ..wire::PoolSettings::default()
    };
    let cases = [
        (pool(vec![endpoint(1024, 1)], vec![]), "slot"),
        (pool(vec![wire::Endpoint { address: "host:1".into(), ..endpoint(0, 1) }], vec![]), "endpoints.address"),
        (pool(vec![wire::Endpoint { state: 9, ..endpoint(0, 1) }], vec![]), "endpoints.state"),
        (pool(vec![], vec![group(&[4, 0], &[1])]), "residency.holders"),
        (pool(vec![], vec![group(&[4096], &[1])]), "residency.holders"),
        (pool(vec![], vec![group(&[0], &[0])]), "residency.keys"),
        (pool(vec![], vec![wire::ResidencyGroup { tokens: vec![1, 2], ..group(&[0], &[1]) }]), "residency.tokens"),
        (bad_settings(wire::PoolSettings { chunk_bytes: 0, ..good.clone() }), "settings.chunk_bytes"),
        (bad_settings(wire::PoolSettings { choices: 9, ..good.clone() }), "settings.choices"),
        (bad_settings(wire::PoolSettings { slo_ttft_seconds: f64::NAN, ..good.clone() }), "settings.slo_ttft_seconds"),
        (bad_settings(rewritten(&good, 1025, "a", &[("x", 1)])), "rewrites"),
        (bad_settings(rewritten(&good, 1, "", &[("x", 1)])), "rewrites.models"),
        (bad_settings(rewritten(&good, 1, "a", &[])), "rewrites.targets"),
        (bad_settings(rewritten(&good, 1, "a", &[("", 1)])), "rewrites.targets"),
        (bad_settings(rewritten(&good, 1, "a", &[("x", 1_000_001)])), "rewrites.targets"),
        (bad_settings(rewritten(&good, 1, "a", &[("x", 1); 65])), "rewrites.targets"),
        (bad_settings(profiled(&good, vec![], 1.0, None)), "scorers.kind"),
        (bad_settings(profiled(&good, vec![], f64::INFINITY, Some(Kind::Complement(4)))), "scorers.weight"),
        (bad_settings(profiled(&good, vec![], 1.0, Some(Kind::Least(5)))), "metric"),
        (bad_settings(profiled(&good, vec![], 1.0, Some(Kind::LoadAware(0)))), "scorers.load_aware"),
        (bad_settings(profiled(&good, vec![wire::Filter::default()], 1.0, Some(Kind::Session(true)))), "filters.kind"),
    ];
    for (change, want) in cases {
        let mut sync = synced();
        let before = sync.table().clone();
        match sync.fold(&encoded(2, 0, 0, vec![change])) {
            Err(Refused::Malformed(Malformed::Field { field, .. })) => assert_eq!(field, want),
            other => panic!("{want}: {other:?}"),
        }
        assert_eq!(*sync.table(), before);
    }
}

fn changes() -> impl Strategy<Value = Vec<u8>> {
    let holders = proptest::collection::btree_set(0u32..40, 0..4);
    let residency = (holders, vec(0u64..50, 0..6))
        .prop_map(|(holders, keys)| group(&holders.into_iter().collect::<Vec<_>>(), &keys));
    let endpoints = vec((0u32..1100, any::<u16>()).prop_map(|(slot, port)| endpoint(slot, port)), 0..4);
    let good = (0u64..4, 0u32..3, 0u32..3, endpoints, vec(residency, 0..4)).prop_map(
        |(version, part, parts, endpoints, residency)| encoded(version, part, parts, vec![pool(endpoints, residency)]),
    );
    let cut = (good, any::<usize>(), any::<u8>()).prop_map(|(mut bytes, at, xor)| {
        let at = at % bytes.len();
        if xor % 4 == 0 {
            bytes.truncate(at);
        } else {
            bytes[at] ^= xor;
        }
        bytes
    });
    prop_oneof![cut, vec(any::<u8>(), 0..100)]
}

proptest! {
    #[test]
    fn a_hostile_segment_is_applied_whole_or_changes_nothing(segments in vec(changes(), 1..20)) {
        let mut sync = synced();
        for bytes in segments {
            let before = sync.table().clone();
            match sync.fold(&bytes) {
                Ok(Folded::InForce(version)) => assert_eq!(sync.table().version, version),
                Ok(Folded::Building | Folded::Old) | Err(_) => assert_eq!(*sync.table(), before),
            }
            let mut depths = vec![crate::table::residency::Depth::default(); 1024];
            for pool in sync.table().pools.values() {
                pool.residency.match_prefix(&[1, 2, 3, 4], &mut depths);
            }
        }
    }
}

#[test]
fn renderings_come_change_and_go_by_model() {
    let rendering = |model: &str, template: &str| wire::Rendering {
        model: model.to_owned(),
        template: template.to_owned(),
        normalization: wire::Normalization::Nfc.into(),
        ..wire::Rendering::default()
    };
    let change = |removed: &[&str], renderings: Vec<wire::Rendering>| wire::PoolChange {
        removed_renderings: removed.iter().map(|&model| model.to_owned()).collect(),
        renderings,
        ..pool(vec![], vec![])
    };
    let mut sync = synced();
    sync.fold(&encoded(2, 0, 0, vec![change(&[], vec![rendering("a", "1"), rendering("b", "1")])])).unwrap();
    sync.fold(&encoded(3, 0, 0, vec![change(&["a"], vec![rendering("b", "2")])])).unwrap();
    let pool = sync.table().pools.values().next().unwrap();
    let rows: Vec<_> = pool.renderings.iter().map(|(model, row)| (model.as_str(), row.template.as_str())).collect();
    assert_eq!(rows, [("b", "2")]);
    let refused = sync.fold(&encoded(4, 0, 0, vec![change(&[], vec![rendering("", "1")])]));
    assert!(matches!(refused, Err(Refused::Malformed(Malformed::Field { field: "renderings.model", .. }))));
}

#[test]
fn vocabularies_come_in_pieces_and_go_with_their_rendering_or_by_themselves() {
    let piece = |first: u32, text: &str| wire::VocabularyPiece {
        model: "a".to_owned(),
        tokens: 2,
        bytes: 2,
        first,
        lengths: text.bytes().map(|_| 1).collect(),
        text: text.as_bytes().to_vec(),
    };
    let of = |sync: &TableSync| {
        let known = sync.table().pools.values().next().unwrap().vocabularies.get("a").cloned();
        known.map(|vocabulary| {
            vocabulary.decode([1, 0].into_iter()).map(|text| text.flatten().copied().collect::<Vec<u8>>()).ok()
        })
    };
    let rendering = wire::Rendering { model: "a".to_owned(), ..wire::Rendering::default() };
    let none = wire::VocabularyPiece { model: "a".to_owned(), ..wire::VocabularyPiece::default() };
    let mut sync = synced();
    let mut version = 1;
    let mut fold = |change: wire::PoolChange| {
        version += 1;
        sync.fold(&encoded(version, 0, 0, vec![change])).unwrap();
        of(&sync)
    };
    let pieces = |vocabularies: &[wire::VocabularyPiece]| wire::PoolChange {
        vocabularies: vocabularies.to_vec(),
        ..pool(vec![], vec![])
    };
    fold(wire::PoolChange { renderings: vec![rendering], ..pool(vec![], vec![]) });
    assert_eq!(fold(pieces(&[piece(0, "x")])), Some(None));
    assert_eq!(fold(pieces(&[piece(1, "y")])), Some(Some(b"yx".to_vec())));
    assert_eq!(fold(pieces(&[piece(0, "zw")])), Some(Some(b"wz".to_vec())));
    assert_eq!(fold(pieces(core::slice::from_ref(&none))), None);
    assert_eq!(fold(pieces(&[piece(1, "y")])), None, "it continues nothing");
    assert_eq!(fold(pieces(&[piece(0, "xy")])), Some(Some(b"yx".to_vec())));
    let gone = wire::PoolChange { removed_renderings: vec!["a".to_owned()], ..pool(vec![], vec![]) };
    assert_eq!(fold(gone), None);
    let broken = pieces(&[wire::VocabularyPiece { bytes: 1, ..piece(0, "xy") }]);
    let refused = sync.fold(&encoded(version + 1, 0, 0, vec![broken]));
    assert!(matches!(refused, Err(Refused::Malformed(Malformed::Field { field: "vocabularies", .. }))));
}

#[test]
fn holders_keep_slot_and_tier_over_the_wire() {
    for code in 0..4200 {
        match Holder::from_wire(code) {
            Some(holder) => assert_eq!(holder.to_wire(), code),
            None => assert!(Slot::new(code / 4).is_none()),
        }
    }
}
