//! Tenants' budgets: what they may still spend is what the control plane told of all gateways and what was spent here since.
//! While it is silent, each worker keeps to its part of the limits, since nobody knows what the others let through.

use core::time::Duration;

use super::Brain;
use crate::budget::{Batches, Meters, Over, Spent};
use crate::clock::Timestamp;
use crate::table::budget::Limits;
use crate::wire;

/// The control plane speaks every second even when nothing changes.
const SILENT: Duration = Duration::from_secs(3);

impl Brain {
    /// What a tenant of the pool called `name` may have a minute; `None`: anything.
    #[must_use]
    pub fn limits_of(&self, name: &str, tenant: &str) -> Option<Limits> {
        self.pool(name)?.settings.budgets.of(tenant)
    }

    /// Is there no room for what the tenant wants?
    #[must_use]
    pub fn over_budget(&self, name: &str, tenant: &str, wanted: Spent, now: Timestamp) -> Option<Over> {
        let limits = self.limits_of(name, tenant)?;
        let told = self.is_told(name, now);
        let gateways = self.live(name).map_or(1, |live| live.gateways.max(1));
        let part = f64::from(gateways) * f64::from(self.workers.max(1));
        let limits = if told { limits } else { limits.scaled(1.0 / part) };
        self.meters.get(name)?.over(tenant, limits, wanted, now)
    }

    fn is_told(&self, name: &str, now: Timestamp) -> bool {
        self.live.get(name).is_some_and(|rows| now.since(rows.received) <= SILENT)
    }

    /// The tenant spent so much. What is spent in silence nobody hears of: told in one piece later, it would fill the bucket with
    /// what has drained long ago.
    pub fn spend(&mut self, name: &str, tenant: &str, spent: Spent, now: Timestamp) {
        let Some(limits) = self.limits_of(name, tenant) else { return };
        let batch = self.is_told(name, now).then(|| self.outbox.batch());
        if !self.meters.contains_key(name) {
            self.meters.insert(name.to_owned(), Meters::default());
        }
        if let Some(meters) = self.meters.get_mut(name) {
            meters.spend(tenant, limits, (batch, spent), now);
        }
        if batch.is_some() {
            self.outbox.spent(name, tenant, spent);
        }
    }

    /// The control plane told what all buckets hold.
    pub(super) fn hear_of_budgets(&mut self, counted: &[wire::SpendingBatch], now: Timestamp) {
        let counted = counted.iter().find(|batch| batch.worker == self.outbox.worker).map_or(0, |batch| batch.number);
        let batches = Batches { counted, open: self.outbox.batch() };
        for (name, rows) in &mut self.live {
            let levels = core::mem::take(&mut rows.pool.spent);
            if levels.is_empty() && !self.meters.contains_key(name) {
                continue;
            }
            self.meters.entry(name.clone()).or_default().told(levels, batches, now);
        }
        self.meters.retain(|name, _| self.live.contains_key(name));
    }
}
