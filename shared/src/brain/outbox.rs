//! What happened since the last report: routes, first tokens, completions, opened circuits. Bounded: when nobody fetches it,
//! the newest is dropped and counted, since a report that late would mislead.

use std::collections::BTreeMap;

use crate::budget::Spent;
use crate::identity::EndpointId;
use crate::wire;

/// Records kept for one report, all kinds together.
const CAPACITY: usize = 8192;
/// Chain keys kept for one report: 4 MiB.
const KEY_CAPACITY: usize = 1 << 19;

/// Waiting observations, by pool.
#[derive(Debug, Default)]
pub struct Outbox {
    pools: BTreeMap<String, wire::PoolReport>,
    records: usize,
    keys: usize,
    dropped: u64,
    /// This worker's number in its process.
    pub worker: u64,
    /// Number of the batch that is spent into, less one.
    sealed: u64,
    /// Others', taken in.
    batches: Vec<wire::SpendingBatch>,
}

/// One observation of a response.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A streamed response began.
    FirstToken(wire::FirstToken),
    /// A response ended.
    Completion(wire::Completion),
    /// An endpoint's circuit opened, after so many failures in a row.
    Opened(EndpointId, u32),
}

impl Outbox {
    /// Nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Observations dropped for lack of room, ever.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// `endpoint` was sent a prompt whose chain goes on after `base` with `keys`; `rendered` as in `Prompt`.
    pub fn routed(&mut self, pool: &str, endpoint: EndpointId, (base, keys): (u64, &[u64]), rendered: bool) {
        if self.keys.saturating_add(keys.len()) > KEY_CAPACITY {
            self.dropped += 1;
            return;
        }
        self.keys += keys.len();
        let route = wire::Route { endpoint: endpoint.0, base, keys: keys.to_vec(), rendered };
        self.add(pool, |report| report.routes.push(route));
    }

    /// Something was seen of a response.
    pub fn observe(&mut self, pool: &str, observation: Observation) {
        self.add(pool, |report| match observation {
            Observation::FirstToken(seen) => report.first_tokens.push(seen),
            Observation::Completion(seen) => report.completions.push(seen),
            Observation::Opened(endpoint, count) => {
                report.failures.push(wire::EndpointFailure { endpoint: endpoint.0, count });
            }
        });
    }

    /// The batch that is spent into; from 1.
    #[must_use]
    pub const fn batch(&self) -> u64 {
        self.sealed + 1
    }

    /// The tenant spent so much. What is spent until the next report is one record.
    pub fn spent(&mut self, pool: &str, tenant: &str, spent: Spent) {
        let report = self.pools.get_mut(pool);
        if let Some(row) = report.and_then(|report| report.spent.iter_mut().find(|row| row.tenant == tenant)) {
            row.tokens += spent.tokens;
            row.requests += spent.requests;
            return;
        }
        let Spent { tokens, requests } = spent;
        self.add(pool, |report| report.spent.push(wire::Spending { tenant: tenant.to_owned(), tokens, requests }));
    }

    /// Takes another VM's waiting observations in.
    pub fn merge(&mut self, other: wire::Report) {
        self.batches.extend(other.batches);
        for pool in other.pools {
            let name = pool.name.clone();
            let (records, keys) = size(&pool);
            if self.records + records > CAPACITY || self.keys + keys > KEY_CAPACITY {
                self.dropped += records as u64;
                continue;
            }
            self.records += records;
            self.keys += keys;
            let mine = self.pools.entry(name).or_default();
            mine.routes.extend(pool.routes);
            mine.first_tokens.extend(pool.first_tokens);
            mine.completions.extend(pool.completions);
            mine.failures.extend(pool.failures);
            mine.spent.extend(pool.spent);
        }
    }

    /// Everything that waits, as a report without bookings; the outbox is empty afterwards.
    pub fn take(&mut self) -> wire::Report {
        (self.records, self.keys) = (0, 0);
        let pools = core::mem::take(&mut self.pools);
        let mut batches = core::mem::take(&mut self.batches);
        if pools.values().any(|pool| !pool.spent.is_empty()) {
            self.sealed += 1;
            batches.push(wire::SpendingBatch { worker: self.worker, number: self.sealed });
        }
        wire::Report {
            sequence: 0,
            batches,
            pools: pools.into_iter().map(|(name, report)| wire::PoolReport { name, ..report }).collect(),
        }
    }

    fn add(&mut self, pool: &str, put: impl FnOnce(&mut wire::PoolReport)) {
        if self.records >= CAPACITY {
            self.dropped += 1;
            return;
        }
        self.records += 1;
        if !self.pools.contains_key(pool) {
            self.pools.insert(pool.to_owned(), wire::PoolReport::default());
        }
        if let Some(report) = self.pools.get_mut(pool) {
            put(report);
        }
    }
}

fn size(report: &wire::PoolReport) -> (usize, usize) {
    let records = report.routes.len() + report.first_tokens.len() + report.completions.len() + report.failures.len();
    let records = records + report.spent.len();
    (records, report.routes.iter().map(|route| route.keys.len()).sum())
}
