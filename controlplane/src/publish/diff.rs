//! What changed between two sets of rows, as the changes that gateways apply in order.

use shared::wire::{ModelList, PoolChange, VocabularyPiece};

use super::build::{PoolRows, TableRows};
use crate::exact::token_ids::VocabularyRows;

/// Applied to `before`, they make `after`. Empty when the two are equal.
#[must_use]
pub fn diff(before: &TableRows, after: &TableRows) -> Vec<PoolChange> {
    let gone = before.pools.keys().filter(|name| !after.pools.contains_key(*name));
    let mut changes: Vec<PoolChange> =
        gone.map(|name| PoolChange { name: name.clone(), removed: true, ..PoolChange::default() }).collect();
    for (name, pool) in &after.pools {
        changes.extend(pool_change(name, before.pools.get(name), pool));
    }
    changes
}

fn pool_change(name: &str, before: Option<&PoolRows>, after: &PoolRows) -> Option<PoolChange> {
    let Some(before) = before else {
        return Some(PoolChange {
            name: name.to_owned(),
            settings: Some(after.settings.clone()),
            models: Some(ModelList { models: after.models.clone() }),
            endpoints: after.endpoints.values().cloned().collect(),
            renderings: after.renderings.values().cloned().collect(),
            vocabularies: vocabularies(&PoolRows::default(), after),
            ..PoolChange::default()
        });
    };
    if before == after {
        return None;
    }
    let removed = before.endpoints.keys().filter(|slot| !after.endpoints.contains_key(slot));
    let changed = after.endpoints.iter().filter(|(slot, row)| before.endpoints.get(slot) != Some(row));
    let unrendered = before.renderings.keys().filter(|model| !after.renderings.contains_key(*model));
    let rendered = after.renderings.iter().filter(|(model, row)| before.renderings.get(*model) != Some(row));
    Some(PoolChange {
        name: name.to_owned(),
        removed: false,
        settings: (before.settings != after.settings).then(|| after.settings.clone()),
        models: (before.models != after.models).then(|| ModelList { models: after.models.clone() }),
        removed_slots: removed.copied().collect(),
        endpoints: changed.map(|(_, row)| row.clone()).collect(),
        residency: Vec::new(),
        removed_renderings: unrendered.cloned().collect(),
        renderings: rendered.map(|(_, row)| row.clone()).collect(),
        vocabularies: vocabularies(before, after),
    })
}

/// The pieces of what is new; one that went goes by itself where its model's rendering does not take it along.
fn vocabularies(before: &PoolRows, after: &PoolRows) -> Vec<VocabularyPiece> {
    let gone = before.vocabularies.keys().filter(|model| !after.vocabularies.contains_key(*model));
    let alone = gone.filter(|model| after.renderings.contains_key(*model)).map(|model| VocabularyRows::none(model));
    let new = after.vocabularies.iter().filter(|(model, rows)| before.vocabularies.get(*model) != Some(rows));
    alone.chain(new.flat_map(|(_, rows)| rows.pieces().iter().cloned())).collect()
}

#[cfg(test)]
pub(crate) mod tests;
