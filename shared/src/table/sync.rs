//! Keeping one table in step with the control plane: segments in, the newest good table out. A snapshot is built aside
//! and takes over with its last part; a gap asks for a snapshot; whatever is refused leaves the table as it was.

use std::sync::Arc;

use super::codec::{Malformed, Part, PoolChange, PoolRows, Segment, segment};
use super::{Pool, RoutingTable, TableVersion};

/// The table in force and the snapshot under construction.
#[derive(Clone, Debug, Default)]
pub struct TableSync {
    table: RoutingTable,
    pending: Option<Pending>,
}

#[derive(Clone, Debug)]
struct Pending {
    table: RoutingTable,
    next: u32,
    total: u32,
}

/// What folding a segment in did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folded {
    /// The table in force is now at this version.
    InForce(TableVersion),
    /// A snapshot grows; the table in force is unchanged.
    Building,
    /// The segment is older than the table in force: nothing to do.
    Old,
}

/// Why a segment was refused. The table in force is as before; a new snapshot heals all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The bytes break a rule.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A delta that does not follow the table in force.
    #[error("delta {got:?} does not follow table {have:?}")]
    Gap {
        /// The table in force.
        have: TableVersion,
        /// The delta's.
        got: TableVersion,
    },
    /// A snapshot part out of order.
    #[error("snapshot part {got} where {want} was due")]
    PartOutOfOrder {
        /// The part that was due.
        want: u32,
        /// The part that came.
        got: u32,
    },
}

impl TableSync {
    /// The table in force; version 0/0 when none was received yet.
    #[must_use]
    pub const fn table(&self) -> &RoutingTable {
        &self.table
    }

    /// Was a whole table ever received?
    #[must_use]
    pub const fn has_table(&self) -> bool {
        self.table.version.epoch != 0
    }

    /// Folds one encoded `wire::Segment` in.
    ///
    /// # Errors
    /// `Refused`; the table in force is then unchanged, and a snapshot under construction is given up.
    pub fn fold(&mut self, bytes: &[u8]) -> Result<Folded, Refused> {
        let folded = segment(bytes).map_err(Refused::from).and_then(|segment| match segment.part {
            None => self.fold_delta(segment),
            Some(part) => self.fold_part(part, segment),
        });
        if folded.is_err() {
            self.pending = None;
        }
        folded
    }

    fn fold_delta(&mut self, segment: Segment) -> Result<Folded, Refused> {
        let (have, got) = (self.table.version, segment.version);
        if have.epoch == got.epoch && got.version <= have.version {
            return Ok(Folded::Old);
        }
        if have.epoch != got.epoch || got.version != have.version + 1 {
            return Err(Refused::Gap { have, got });
        }
        self.table.apply(segment.changes);
        self.table.version = got;
        Ok(Folded::InForce(got))
    }

    fn fold_part(&mut self, part: Part, segment: Segment) -> Result<Folded, Refused> {
        if part.number == 1 {
            let table = RoutingTable { version: segment.version, ..RoutingTable::default() };
            self.pending = Some(Pending { table, next: 1, total: part.total });
        }
        let due = self
            .pending
            .as_mut()
            .filter(|pending| pending.table.version == segment.version && pending.total == part.total)
            .ok_or(Refused::PartOutOfOrder { want: 1, got: part.number })?;
        if due.next != part.number {
            return Err(Refused::PartOutOfOrder { want: due.next, got: part.number });
        }
        due.table.apply(segment.changes);
        due.next += 1;
        if part.number < part.total {
            return Ok(Folded::Building);
        }
        if let Some(done) = self.pending.take() {
            self.table = done.table;
        }
        Ok(Folded::InForce(self.table.version))
    }
}

impl RoutingTable {
    fn apply(&mut self, changes: Vec<PoolChange>) {
        for change in changes {
            match change {
                PoolChange::Removed { name } => {
                    self.pools.remove(&name);
                }
                PoolChange::Changed(rows) => {
                    let rows = *rows;
                    let pool = self.pools.entry(rows.name.clone()).or_default();
                    pool.apply(rows);
                }
            }
        }
    }
}

impl Pool {
    fn apply(&mut self, rows: PoolRows) {
        if let Some(settings) = rows.settings {
            self.settings = settings;
        }
        if let Some(models) = rows.models {
            self.models = models;
        }
        for slot in rows.removed {
            if let Some(place) = self.endpoints.get_mut(slot.index()) {
                *place = None;
            }
        }
        while self.endpoints.last().is_some_and(Option::is_none) {
            self.endpoints.pop();
        }
        for (slot, endpoint) in rows.endpoints {
            if self.endpoints.len() <= slot.index() {
                self.endpoints.resize(slot.index() + 1, None);
            }
            if let Some(place) = self.endpoints.get_mut(slot.index()) {
                *place = Some(endpoint);
            }
        }
        for model in rows.removed_renderings {
            self.renderings.remove(&model);
            self.vocabularies.remove(&model);
        }
        for (model, rendering) in rows.renderings {
            self.renderings.insert(model, Arc::new(rendering));
        }
        for (model, piece) in rows.vocabularies {
            // A piece that continues nothing makes no vocabulary: such prompts are then learned, and nothing worse.
            if piece.tokens == 0 || !self.vocabularies.entry(model.clone()).or_default().take(&piece) {
                self.vocabularies.remove(&model);
            }
        }
        for group in rows.residency {
            self.residency.set(&group.holders, &group.keys, &group.tokens);
        }
    }
}

#[cfg(test)]
mod tests;
