use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;
use shared::wire::{Endpoint, Model, PoolSettings, Rendering, ResidencyGroup, Segment};

use super::*;
use crate::publish::split::{SEGMENT_BYTES, split};

/// What a gateway makes of changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Gateway {
    pub(crate) rows: TableRows,
    pub(crate) residency: BTreeMap<(String, u64), (Vec<u32>, u32)>,
}

impl Gateway {
    pub(crate) fn apply(&mut self, change: &PoolChange) {
        if change.removed {
            self.rows.pools.remove(&change.name);
            self.residency.retain(|(pool, _), _| *pool != change.name);
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
        }
        for rendering in &change.renderings {
            pool.renderings.insert(rendering.model.clone(), rendering.clone());
        }
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

fn rows() -> impl Strategy<Value = TableRows> {
    let endpoint = (0..12u32, 0..3u32, 0..3i32);
    let renderings = proptest::collection::btree_map("[mn]", "[xy]", 0..3);
    let pool = (proptest::collection::vec(endpoint, 0..10), 0..3u32, 0..3usize, renderings).prop_map(
        |(endpoints, choices, models, renderings)| {
            let row = |(slot, port, state): (u32, u32, i32)| Endpoint {
                slot,
                address: format!("10.0.0.{slot}:{port}"),
                state,
                ..Endpoint::default()
            };
            let rendering = |(model, template): (String, String)| {
                (model.clone(), Rendering { model, template, ..Rendering::default() })
            };
            PoolRows {
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
        let mut gateway = Gateway { rows: before.clone(), ..Gateway::default() };
        for change in split(diff(&before, &after)).iter().flatten() {
            gateway.apply(change);
        }
        prop_assert_eq!(&gateway.rows, &after);
        prop_assert_eq!(diff(&after, &after), []);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn segments_fit_and_lose_nothing(groups in proptest::collection::vec((1..900u32, 1..9000usize, any::<bool>()), 0..12), endpoints in 0..600u32) {
        let mut first = 0u64;
        let residency: Vec<ResidencyGroup> = groups.into_iter().map(|(holders, keys, counted)| {
            let keys: Vec<u64> = (first..).take(keys).collect();
            first += 10_000;
            let tokens = if counted { keys.iter().map(|_| 100_000).collect() } else { vec![] };
            ResidencyGroup { holders: (0..holders).map(|h| h * 4).collect(), keys, tokens }
        }).collect();
        let endpoints = (0..endpoints).map(|slot| Endpoint { slot, address: "[2001:db8::1234:5678]:8000".into(), ..Endpoint::default() });
        let change = PoolChange { name: "pool".into(), settings: Some(PoolSettings::default()), endpoints: endpoints.collect(), residency, ..PoolChange::default() };
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
