//! What changed between two sets of rows, as the changes that gateways apply in order.

use shared::wire::{ModelList, PoolChange};

use super::build::{PoolRows, TableRows};

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
    })
}

#[cfg(test)]
pub(crate) mod tests;
