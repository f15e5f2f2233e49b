use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;
use shared::wire::{Endpoint, Model, PoolSettings, Rendering, ResidencyGroup, Segment, VocabularyPiece};

use super::*;
use crate::publish::split::{SEGMENT_BYTES, split};
use crate::vocabulary::table::TokenTable;

/// What a gateway makes of changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Gateway {
    pub(crate) rows: TableRows,
    pub(crate) residency: BTreeMap<(String, u64), (Vec<u32>, u32)>,
    /// Pieces by pool and model. `rows` has none: two vocabularies are equal only as clones.
    pub(crate) vocabularies: BTreeMap<(String, String), Vec<VocabularyPiece>>,
}

impl Gateway {
    pub(crate) fn apply(&mut self, change: &PoolChange) {
        if change.removed {
            self.rows.pools.remove(&change.name);
            self.residency.retain(|(pool, _), _| *pool != change.name);
            self.vocabularies.retain(|(pool, _), _| *pool != change.name);
            return;
        }
        let pool = self.rows.pools.entry(change.name.clone()).or_default();
        if let Some(settings) = &change.settings {
            pool.settings = settings.clone();
        }
        if let Some(models) = &change.models {
            pool.models = models.models.clone();
        }
        for slot in &change.removed_slots {
            assert!(pool.endpoints.remove(slot).is_some(), "slot {slot} removed twice");
        }
        for model in &change.removed_renderings {
            assert!(pool.renderings.remove(model).is_some(), "rendering of {model} removed twice");
            self.vocabularies.remove(&(change.name.clone(), model.clone()));
        }
        for rendering in &change.renderings {
            pool.renderings.insert(rendering.model.clone(), rendering.clone());
        }
        for piece in &change.vocabularies {
            let known = self.vocabularies.entry((change.name.clone(), piece.model.clone())).or_default();
            if piece.first == 0 {
                known.clear();
            }
            known.push(piece.clone());
        }
        self.vocabularies.retain(|_, pieces| pieces.iter().all(|piece| piece.tokens > 0));
        for endpoint in &change.endpoints {
            pool.endpoints.insert(endpoint.slot, endpoint.clone());
        }
        for group in &change.residency {
            for (i, &key) in group.keys.iter().enumerate() {
                let chunk = (change.name.clone(), key);
                if group.holders.is_empty() {
                    self.residency.remove(&chunk);
                } else {
                    let tokens = group.tokens.get(i).copied().unwrap_or(0);
                    self.residency.insert(chunk, (group.holders.clone(), tokens));
                }
            }
        }
    }
}

/// What a gateway that has these rows keeps.
fn kept(rows: &TableRows) -> Gateway {
    let mut gateway = Gateway { rows: rows.clone(), ..Gateway::default() };
    for (name, pool) in &mut gateway.rows.pools {
        for (model, rows) in std::mem::take(&mut pool.vocabularies) {
            gateway.vocabularies.insert((name.clone(), model), rows.pieces().to_vec());
        }
    }
    gateway
}

/// Too large for one piece.
fn vocabulary(model: &str, letter: u8) -> VocabularyRows {
    let tokens: Vec<[u8; 300]> = (0..200).map(|_| [letter; 300]).collect();
    VocabularyRows::new(model, &TokenTable::new(tokens.iter().map(|token| Some(&token[..]))), None).unwrap()
}

fn rows() -> impl Strategy<Value = TableRows> {
    let endpoint = (0..12u32, 0..3u32, 0..3i32);
    let renderings = proptest::collection::btree_map("[mn]", "[xy]", 0..3);
    let decoded = proptest::collection::btree_set("[mn]", 0..3);
    let pool = (proptest::collection::vec(endpoint, 0..10), 0..3u32, 0..3usize, renderings, decoded).prop_map(
        |(endpoints, choices, models, renderings, decoded)| {
            let row = |(slot, port, state): (u32, u32, i32)| Endpoint {
                slot,
                address: format!("10.0.0.{slot}:{port}"),
                state,
                ..Endpoint::default()
            };
            let rendering = |(model, template): (String, String)| {
                (model.clone(), Rendering { model, template, ..Rendering::default() })
            };
            let vocabularies = decoded.iter().filter(|model| renderings.contains_key(*model));
            PoolRows {
                vocabularies: vocabularies.map(|model| (model.clone(), vocabulary(model, b'v'))).collect(),
                renderings: renderings.into_iter().map(rendering).collect(),
                settings: PoolSettings { choices, ..PoolSettings::default() },
                models: (0..models).map(|i| Model { name: i.to_string(), base: String::new() }).collect(),
                endpoints: endpoints.into_iter().map(|e| (e.0, row(e))).collect(),
            }
        },
    );
    proptest::collection::btree_map("[abc]", pool, 0..4).prop_map(|pools| TableRows { pools })
}

proptest! {
    #[test]
    fn the_difference_applied_to_the_old_rows_makes_the_new_ones(before in rows(), after in rows()) {
        let mut gateway = kept(&before);
        for change in split(diff(&before, &after)).iter().flatten() {
            gateway.apply(change);
        }
        prop_assert_eq!(&gateway, &kept(&after));
        prop_assert_eq!(diff(&after, &after), []);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn segments_fit_and_lose_nothing(groups in proptest::collection::vec((1..900u32, 1..9000usize, any::<bool>()), 0..12), endpoints in 0..600u32, letter in any::<u8>()) {
        let mut first = 0u64;
        let residency: Vec<ResidencyGroup> = groups.into_iter().map(|(holders, keys, counted)| {
            let keys: Vec<u64> = (first..).take(keys).collect();
            first += 10_000;
            let tokens = if counted { keys.iter().map(|_| 100_000).collect() } else { vec![] };
            ResidencyGroup { holders: (0..holders).map(|h| h * 4).collect(), keys, tokens }
        }).collect();
        let endpoints = (0..endpoints).map(|slot| Endpoint { slot, address: "[2001:db8::1234:5678]:8000".into(), ..Endpoint::default() });
        let change = PoolChange { name: "pool".into(), settings: Some(PoolSettings::default()), endpoints: endpoints.collect(), residency, vocabularies: vocabulary("m", letter).pieces().to_vec(), ..PoolChange::default() };
        let (mut whole, mut parts) = (Gateway::default(), Gateway::default());
        whole.apply(&change);
        for pools in split(vec![change]) {
            for change in &pools {
                parts.apply(change);
            }
            let segment = Segment { epoch: u64::MAX, version: u64::MAX, part: 1, parts: u32::MAX, pools };
            prop_assert!(segment.encoded_len() <= SEGMENT_BYTES, "{}", segment.encoded_len());
        }
        prop_assert_eq!(parts, whole);
    }
}
