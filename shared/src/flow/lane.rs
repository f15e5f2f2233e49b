//! One band of a queue: its tenants, what each was served, and what the band is owed.

use std::collections::{BTreeMap, VecDeque};

use super::{Ticket, Waiting};
use crate::clock::Timestamp;
use crate::table::flow::{Band, Fairness, LeastService, Order};

/// What a band can be owed, pod-seconds, and what it can owe.
const MOST_CREDIT: f64 = 0.5;
const LEAST_CREDIT: f64 = -1.0;
/// Tenants of whom nobody waits are forgotten when there are more of them than this.
const REMEMBERED: usize = 1024;

#[derive(Debug)]
pub(super) struct Lane<T> {
    tenants: BTreeMap<String, Tenant<T>>,
    waiting: usize,
    bytes: u64,
    /// Virtual time: the service of the tenant that was served last.
    reached: f64,
    credit: f64,
    /// The tenant that was served last.
    last: String,
    /// Nobody expires before.
    earliest: Timestamp,
}

#[derive(Debug)]
struct Tenant<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Pod-seconds, on the scale of the lane's virtual time.
    service: f64,
    /// Of `Fairness::LeastService`, as of `at`.
    lately: f64,
    at: Timestamp,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            tenants: BTreeMap::new(),
            waiting: 0,
            bytes: 0,
            reached: 0.0,
            credit: 0.0,
            last: String::new(),
            earliest: Timestamp::ZERO,
        }
    }
}

impl<T> Default for Tenant<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), service: 0.0, lately: 0.0, at: Timestamp::ZERO }
    }
}

impl<T> Tenant<T> {
    fn lately(&self, how: &LeastService, now: Timestamp) -> f64 {
        let kept = how.half_life.map_or(1.0, |half| libm::exp2(-now.since(self.at).as_secs_f64() / half));
        self.lately * kept
    }

    fn first_waits(&self, now: Timestamp) -> f64 {
        self.waiting.front().map_or(0.0, |first| now.since(first.arrived).as_secs_f64())
    }
}

impl<T> Lane<T> {
    pub(super) const fn len(&self) -> usize {
        self.waiting
    }

    #[cfg(test)]
    pub(super) fn tenants(&self) -> usize {
        self.tenants.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) const fn credit(&self) -> f64 {
        self.credit
    }

    pub(super) fn into_waiting(self) -> impl Iterator<Item = Waiting<T>> {
        self.tenants.into_values().flat_map(|tenant| tenant.waiting)
    }

    pub(super) fn put(&mut self, waiting: Waiting<T>, band: &Band) {
        let reached = self.reached;
        self.earliest = if self.waiting == 0 { waiting.expires } else { self.earliest.min(waiting.expires) };
        self.waiting += 1;
        self.bytes = self.bytes.saturating_add(waiting.bytes);
        let tenant = self.tenants.entry(waiting.claim.tenant.clone()).or_default();
        if tenant.waiting.is_empty() {
            tenant.service = tenant.service.max(reached);
        }
        let rank = rank(&waiting, band.order);
        let place = tenant.waiting.partition_point(|other| self::rank(other, band.order) <= rank);
        tenant.waiting.insert(place, waiting);
    }

    pub(super) fn nth(&self, nth: usize, band: &Band, now: Timestamp) -> Option<&Waiting<T>> {
        if band.fairness == Fairness::None {
            return self.overall(nth, band.order);
        }
        self.next_tenant(band.fairness, now)?.waiting.get(nth)
    }

    fn next_tenant(&self, fairness: Fairness, now: Timestamp) -> Option<&Tenant<T>> {
        let mut asking = self.tenants.iter().filter(|(_, tenant)| !tenant.waiting.is_empty());
        let least = |score: &dyn Fn(&Tenant<T>) -> f64| {
            let by_score = asking.clone().map(|(_, tenant)| (score(tenant), tenant));
            by_score.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, tenant)| tenant)
        };
        match fairness {
            Fairness::PodSeconds | Fairness::None => least(&|tenant| tenant.service),
            Fairness::LeastService(how) => {
                let service = extent(asking.clone().map(|(_, tenant)| tenant.lately(&how, now)));
                let waits = extent(asking.clone().map(|(_, tenant)| tenant.first_waits(now)));
                least(&|tenant| {
                    how.service_weight * scaled(tenant.lately(&how, now), service)
                        - how.wait_weight * scaled(tenant.first_waits(now), waits)
                })
            }
            Fairness::RoundRobin => {
                let first = asking.clone().next();
                asking.find(|(name, _)| **name > self.last).or(first).map(|(_, tenant)| tenant)
            }
        }
    }

    /// The `nth` of all tenants together. Within a tenant they are in order, so the first few of each are enough.
    fn overall(&self, nth: usize, order: Order) -> Option<&Waiting<T>> {
        let mut first: Vec<&Waiting<T>> =
            self.tenants.values().flat_map(|tenant| tenant.waiting.iter().take(nth + 1)).collect();
        first.sort_by_key(|waiting| rank(waiting, order));
        first.get(nth).copied()
    }

    pub(super) fn find_mut(&mut self, ticket: Ticket, tenant: &str) -> Option<&mut Waiting<T>> {
        self.tenants.get_mut(tenant)?.waiting.iter_mut().find(|waiting| waiting.ticket == ticket)
    }

    pub(super) fn take(&mut self, ticket: Ticket, tenant: &str) -> Option<Waiting<T>> {
        let row = self.tenants.get_mut(tenant)?;
        let place = row.waiting.iter().position(|waiting| waiting.ticket == ticket)?;
        let waiting = row.waiting.remove(place)?;
        self.waiting -= 1;
        self.bytes = self.bytes.saturating_sub(waiting.bytes);
        Some(waiting)
    }

    pub(super) fn expired(&mut self, now: Timestamp) -> Vec<Ticket> {
        if self.waiting == 0 || now < self.earliest {
            return Vec::new();
        }
        let all = || self.tenants.values().flat_map(|tenant| &tenant.waiting);
        let late = all().filter(|waiting| waiting.expires <= now).map(|waiting| waiting.ticket).collect();
        let left = all().map(|waiting| waiting.expires).filter(|expires| *expires > now).min();
        self.earliest = left.unwrap_or(now);
        late
    }

    pub(super) fn renew(&mut self, band: &Band, expires: Timestamp) {
        for tenant in self.tenants.values_mut() {
            tenant.waiting.iter_mut().for_each(|waiting| waiting.expires = expires);
            tenant.waiting.make_contiguous().sort_by_key(|waiting| rank(waiting, band.order));
        }
        self.earliest = expires;
    }

    /// Only who waits is owed anything.
    pub(super) fn earn(&mut self, share: f64) {
        self.credit = if self.waiting == 0 { self.credit.min(0.0) } else { (self.credit + share).min(MOST_CREDIT) };
    }

    pub(super) fn charge(&mut self, tenant: &str, cost: f64, band: &Band, now: Timestamp) {
        self.credit = (self.credit - cost).max(LEAST_CREDIT);
        let reached = self.reached;
        let row = self.tenants.entry(tenant.to_owned()).or_default();
        row.service = row.service.max(reached);
        self.reached = reached.max(row.service);
        row.service += cost;
        let how = if let Fairness::LeastService(how) = band.fairness { how } else { LeastService::default() };
        (row.lately, row.at) = (row.lately(&how, now) + cost, now);
        if band.fairness == Fairness::RoundRobin {
            tenant.clone_into(&mut self.last);
        }
        self.forget_tenants();
    }

    /// Clients name their tenants: what is remembered of those that do not wait is bounded. Those that would start at the
    /// virtual time anyway go first.
    fn forget_tenants(&mut self) {
        let most = REMEMBERED + 2 * self.waiting;
        if self.tenants.len() > most {
            let reached = self.reached;
            self.tenants.retain(|_, tenant| !tenant.waiting.is_empty() || tenant.service > reached);
        }
        if self.tenants.len() > most {
            self.tenants.retain(|_, tenant| !tenant.waiting.is_empty());
        }
    }

    pub(super) fn correct(&mut self, tenant: &str, difference: f64) {
        if let Some(row) = self.tenants.get_mut(tenant) {
            row.service = (row.service + difference).max(0.0);
            row.lately = (row.lately + difference).max(0.0);
        }
    }
}

/// The least and the most.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)))
}

/// 0 for the least, 1 for the most; a half when they are the same.
fn scaled(value: f64, (least, most): (f64, f64)) -> f64 {
    if most > least { (value - least) / (most - least) } else { 0.5 }
}

/// The smaller goes first.
fn rank<T>(waiting: &Waiting<T>, order: Order) -> (Timestamp, Ticket) {
    let latest = Timestamp::from_nanos(u64::MAX);
    let by = match order {
        Order::FirstCome => waiting.arrived,
        Order::EarliestExpiry => waiting.expires,
        Order::EarliestDeadline => waiting.deadline.unwrap_or(latest),
    };
    (by, waiting.ticket)
}
