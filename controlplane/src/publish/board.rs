//! All state behind the published table, and what follows from each input. Pure: the task in `drive` feeds it and sends
//! what it returns.
//!
//! A gateway is known by the number of its stream. When a gateway opens a second stream (it reconnected before the first
//! was seen to end), the first one's bookings go at once: the same work must not count twice.

use std::collections::BTreeMap;

use shared::clock::Timestamp;
use shared::identity::EndpointId;
use shared::wire::{Live, PoolChange, Report, SpendingBatch};

use super::build::TableRows;
use super::diff::diff;
use super::pool::PoolState;
use super::split::split;
use super::status::{PoolStatus, Status};
use crate::bookings::ledger::GatewayId;
use crate::datastore::View;
use crate::exact::News;
use crate::exact::status::PrefixStatus;
use crate::scrape::Hint;

/// Memberships over all pools unless configured: about 250 MB at the measured 60 bytes.
pub const RESIDENCY_BUDGET: usize = 4_000_000;
/// A live message goes out at least this often.
pub const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(1);

/// Of one gateway whose batches are remembered: VMs that were reloaded among them.
const MOST_WORKERS: usize = 4096;

struct Seat {
    name: String,
    pools: Vec<String>,
    /// By worker: the last batch of spending that is counted.
    counted: BTreeMap<u64, u64>,
    told: Option<Live>,
    told_at: Timestamp,
}

impl Seat {
    fn count(&mut self, batches: &[SpendingBatch]) {
        for batch in batches {
            if self.counted.len() < MOST_WORKERS || self.counted.contains_key(&batch.worker) {
                let last = self.counted.entry(batch.worker).or_default();
                *last = batch.number.max(*last);
            }
        }
    }

    fn counted(&self) -> Vec<SpendingBatch> {
        self.counted.iter().map(|(&worker, &number)| SpendingBatch { worker, number }).collect()
    }
}

/// See the module.
pub struct Board {
    epoch: u64,
    secret: u64,
    budget: usize,
    rows: TableRows,
    published: TableRows,
    pools: BTreeMap<String, PoolState>,
    seats: BTreeMap<GatewayId, Seat>,
    live_changed: bool,
    view_waits: bool,
    /// Pools whose prefixes are known another way since the last look.
    switched: Vec<String>,
}

impl Board {
    /// Without pools. `epoch` as in `TableLog`; `secret` random; `budget` in memberships over all pools.
    #[must_use]
    pub fn new(epoch: u64, secret: u64, budget: usize) -> Self {
        Self {
            epoch,
            secret,
            budget,
            rows: TableRows::default(),
            published: TableRows::default(),
            pools: BTreeMap::new(),
            seats: BTreeMap::new(),
            live_changed: true,
            view_waits: false,
            switched: Vec::new(),
        }
    }

    /// The view is now this. Returns the endpoints that found no slot, with their pool.
    pub fn observe(&mut self, view: &View) -> Vec<(String, EndpointId)> {
        let mut rows = TableRows::default();
        let mut unplaced = Vec::new();
        self.view_waits = false;
        self.pools.retain(|name, _| view.pools.iter().any(|pool| pool.name == *name));
        for pool in &view.pools {
            if !self.pools.contains_key(&pool.name) && self.published.pools.contains_key(&pool.name) {
                // It went and came back: gateways must first hear that it went, with all that they know of it.
                self.view_waits = true;
                continue;
            }
            let secret = self.secret;
            let state = self.pools.entry(pool.name.clone()).or_insert_with(|| PoolState::new(pool, secret));
            let (pool_rows, changes) = state.observe(pool);
            self.view_waits |= !changes.unplaced.is_empty() && !changes.removed.is_empty();
            unplaced.extend(changes.unplaced.into_iter().map(|id| (pool.name.clone(), id)));
            rows.pools.insert(pool.name.clone(), pool_rows);
        }
        self.live_changed = true;
        self.rows = rows;
        unplaced
    }

    /// A stream was opened.
    pub fn open(&mut self, gateway: GatewayId, name: String, pools: Vec<String>, now: Timestamp) {
        let before: Vec<GatewayId> = self.seats.iter().filter(|(_, s)| s.name == name).map(|(&id, _)| id).collect();
        for id in before {
            self.withdraw(id, now);
        }
        self.seats.insert(gateway, Seat { name, pools, counted: BTreeMap::new(), told: None, told_at: now });
        self.live_changed = true;
    }

    /// A stream ended.
    pub fn close(&mut self, gateway: GatewayId, now: Timestamp) {
        self.seats.remove(&gateway);
        self.withdraw(gateway, now);
    }

    fn withdraw(&mut self, gateway: GatewayId, now: Timestamp) {
        for pool in self.pools.values_mut() {
            pool.ledger.gateway_gone(gateway, now);
        }
        self.live_changed = true;
    }

    /// A gateway reported. Returns what of it should bring a probe forward.
    pub fn report(&mut self, gateway: GatewayId, report: &Report, now: Timestamp) -> Vec<Hint> {
        let Some(seat) = self.seats.get(&gateway) else { return Vec::new() };
        if self.seats.iter().any(|(&id, other)| id > gateway && other.name == seat.name) {
            return Vec::new();
        }
        if let Some(seat) = self.seats.get_mut(&gateway) {
            seat.count(&report.batches);
        }
        let mut hints = Vec::new();
        for pool in &report.pools {
            if let Some(state) = self.pools.get_mut(&pool.name) {
                let reported = state.report(gateway, pool, now);
                self.live_changed |= reported.changed;
                hints.extend(reported.hints);
            }
        }
        hints
    }

    /// Something about the exact residency of the pool called `name`.
    pub fn take_news(&mut self, name: &str, news: News, now: Timestamp) {
        if let Some(pool) = self.pools.get_mut(name)
            && pool.take_news(news, now)
        {
            self.rows.pools.insert(name.to_owned(), pool.rows());
        }
    }

    /// Takes the deltas since the last call, each the content of one segment.
    pub fn take_deltas(&mut self, now: Timestamp) -> Vec<Vec<PoolChange>> {
        for (name, pool) in &mut self.pools {
            if pool.tick(now) {
                self.rows.pools.insert(name.clone(), pool.rows());
                self.switched.push(name.clone());
            }
        }
        let share = self.budget / self.pools.len().max(1);
        let mut changes = diff(&self.published, &self.rows);
        if !changes.is_empty() {
            self.published = self.rows.clone();
        }
        for (name, pool) in &mut self.pools {
            pool.prefixes.shrink_to(share, now);
            if pool.prefixes.is_dirty() {
                let residency = pool.prefixes.drain();
                match changes.iter_mut().find(|change| change.name == *name) {
                    Some(change) => change.residency = residency,
                    None => changes.push(PoolChange { name: name.clone(), residency, ..PoolChange::default() }),
                }
            }
            pool.slots.published();
        }
        split(changes)
    }

    /// Pools that turned from exact to learned residency or back of themselves since the last call, as they are now.
    pub fn take_switched(&mut self) -> Vec<(String, PrefixStatus)> {
        let named = |name: String| {
            let status = self.pools.get(&name)?.prefix_status();
            Some((name, status))
        };
        std::mem::take(&mut self.switched).into_iter().filter_map(named).collect()
    }

    /// Something waits for what the last deltas freed (slots, names): `observe` again.
    #[must_use]
    pub const fn view_waits(&self) -> bool {
        self.view_waits
    }

    /// The whole table, cut into parts. Valid for the version that the last taken deltas made.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Vec<PoolChange>> {
        let mut changes = diff(&TableRows::default(), &self.rows);
        for change in &mut changes {
            change.residency = self.pools.get(&change.name).map(|p| p.prefixes.content()).unwrap_or_default();
        }
        split(changes)
    }

    /// The live messages that are due: to each gateway when something changed for it, or on its heartbeat.
    pub fn take_lives(&mut self, now: Timestamp) -> Vec<(GatewayId, Live)> {
        for pool in self.pools.values_mut() {
            self.live_changed |= pool.tick_live(now);
        }
        let changed = std::mem::take(&mut self.live_changed);
        let mut lives = Vec::new();
        for (&gateway, seat) in &mut self.seats {
            let heartbeat = now.since(seat.told_at) >= HEARTBEAT || seat.told.is_none();
            if !changed && !heartbeat {
                continue;
            }
            let wanted = self.pools.iter_mut().filter(|(name, _)| wants(&seat.pools, name));
            let pools = wanted.map(|(_, p)| p.live(gateway, now)).collect();
            let live = Live { epoch: self.epoch, pools, counted: seat.counted() };
            if !heartbeat && seat.told.as_ref() == Some(&live) {
                continue;
            }
            let mut sent = live.clone();
            for pool in &mut sent.pools {
                if let Some(state) = self.pools.get(&pool.name) {
                    state.set_ages(pool, now);
                }
            }
            seat.told = Some(live);
            seat.told_at = now;
            lives.push((gateway, sent));
        }
        lives
    }

    /// What a gateway without work of its own would be told of all pools now.
    #[must_use]
    pub fn live_of_all(&mut self, now: Timestamp) -> Live {
        let pools = self.pools.values_mut().map(|pool| {
            let mut live = pool.live(GatewayId::NOBODY, now);
            pool.set_ages(&mut live, now);
            live
        });
        Live { epoch: self.epoch, pools: pools.collect(), counted: Vec::new() }
    }

    /// When `take_lives` has something to do next without further input.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let heartbeats = self.seats.values().map(|seat| seat.told_at.after(HEARTBEAT));
        heartbeats.chain(self.pools.values().filter_map(|pool| pool.next_due())).min()
    }

    /// For people; version and traffic are the caller's.
    #[must_use]
    pub fn status(&mut self, now: Timestamp) -> Status {
        let pools: Vec<PoolStatus> = self.pools.values_mut().map(|pool| pool.status(now)).collect();
        let gateways = self.seats.values().map(|seat| seat.name.clone()).collect();
        Status { epoch: self.epoch, gateways, pools, ..Status::default() }
    }
}

/// Is `pool` among those that a gateway asked for? No names: all.
#[must_use]
pub fn wants(pools: &[String], pool: &str) -> bool {
    pools.is_empty() || pools.iter().any(|name| name == pool)
}

#[cfg(test)]
mod tests;
