//! A scrape as the wire has it. Names become numbers: adapters by their place in the pool's model list, attributes by theirs
//! in the profile. Its age is filled in later (`PoolState::set_ages`).

use std::collections::BTreeMap;

use shared::wire::{Adapters, Scrape};

use crate::datastore::{self, LoadSample, PoolView};

pub(super) fn scraped(load: &LoadSample, pool: &PoolView) -> Scrape {
    Scrape {
        age_ms: 0,
        running: load.running,
        waiting: load.waiting,
        kv_used: if load.kv_used.is_nan() { 0.0 } else { load.kv_used.clamp(0.0, 1.0) },
        kv_capacity_tokens: load.kv_capacity_tokens().unwrap_or(0),
        adapters: load.adapters.as_ref().map(|in_use| adapters(in_use, pool)),
        attributes: attributes(load, pool),
    }
}

/// Those that no list names are only counted.
fn adapters(in_use: &datastore::Adapters, pool: &PoolView) -> Adapters {
    let index = |name: &String| short(pool.models.iter().position(|model| model.name == *name)?);
    let indices = |names: &[String]| names.iter().filter_map(index).collect();
    Adapters {
        running: indices(&in_use.running),
        waiting: indices(&in_use.waiting),
        in_use: short(in_use.running.len() + in_use.waiting.len()).unwrap_or(u32::MAX),
        most: in_use.most.unwrap_or(0),
    }
}

fn attributes(load: &LoadSample, pool: &PoolView) -> BTreeMap<u32, f64> {
    let names = pool.settings.profile.iter().flat_map(|profile| &profile.attributes);
    names.zip(0..).filter_map(|(name, index)| Some((index, *load.attributes.get(name)?))).collect()
}

fn short(number: usize) -> Option<u32> {
    u32::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use shared::clock::Timestamp;
    use shared::wire::{Model, PoolSettings, Profile};

    use super::*;
    use crate::datastore::Adapters as InUse;

    fn named(name: &str) -> Model {
        Model { name: name.to_owned(), base: String::new() }
    }

    #[test]
    fn adapters_go_by_their_place_in_the_model_list_and_attributes_by_theirs_in_the_profile() {
        let adapters = InUse {
            running: vec!["sql".to_owned(), "unlisted".to_owned()],
            waiting: vec!["chat".to_owned()],
            most: Some(4),
        };
        let load = LoadSample {
            at: Timestamp::ZERO,
            running: 1,
            waiting: 2,
            kv_used: 0.5,
            block_tokens: None,
            blocks: None,
            adapters: Some(adapters),
            attributes: BTreeMap::from([("heat".to_owned(), 0.25), ("unread".to_owned(), 1.0)]),
            started: None,
        };
        let attributes = vec!["unknown".to_owned(), "heat".to_owned()];
        let profile = Some(Profile { attributes, ..Profile::default() });
        let view = PoolView {
            name: "p".to_owned(),
            settings: PoolSettings { chunk_bytes: 256, profile, ..PoolSettings::default() },
            models: vec![named("llama"), named("chat"), named("sql")],
            endpoints: Vec::new(),
        };
        let scrape = scraped(&load, &view);
        assert_eq!(scrape.adapters, Some(Adapters { running: vec![2], waiting: vec![1], in_use: 3, most: 4 }));
        assert_eq!(scrape.attributes, BTreeMap::from([(1, 0.25)]));
    }
}
