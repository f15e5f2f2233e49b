//! What each tenant has spent of its tokens and requests a minute: leaky buckets, which hold one minute's worth and drain
//! at the limit. A bucket holds what the control plane told of all gateways, and what this worker spent since.
//!
//! Spending is told in numbered batches, and the control plane says which it has counted: nothing counts twice. Tenants are names that clients may make up, so there is room for so many buckets; the rest share one.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::table::budget::Limits;

/// Buckets of one pool. Who finds none free shares the one of the empty name.
const MOST_TENANTS: usize = 4096;
const SECONDS: f64 = 60.0;
/// Reports take some 50 ms to be counted.
const LOST: Duration = Duration::from_secs(2);

/// An amount; below zero it is given back.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Prompt and output tokens.
    pub tokens: f64,
    /// Requests.
    pub requests: f64,
}

/// Which limit a request would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// Tokens a minute.
    Tokens,
    /// Requests a minute.
    Requests,
}

impl Exceeded {
    /// What is counted.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Requests => "requests",
        }
    }

    /// The headers that tell the limit, what remains of it, and when there is room (OpenAI's names).
    #[must_use]
    pub const fn headers(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Tokens => ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
            Self::Requests => {
                ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
            }
        }
    }
}

/// A request that is over its tenant's limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Over {
    /// Which one.
    pub what: Exceeded,
    /// Its limit a minute.
    pub limit: f64,
    /// When there is room for it.
    pub wait: Duration,
}

/// What was spent, as far as it has not drained.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Meter {
    level: Spent,
    at: Timestamp,
}

/// One pool's tenants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meters {
    tenants: BTreeMap<String, Tenant>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Tenant {
    meter: Meter,
    /// Spent by this worker, and not counted by the control plane as far as is known.
    fresh: Vec<Fresh>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Fresh {
    batch: u64,
    spent: Spent,
    at: Timestamp,
}

/// How far batches have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batches {
    /// The last one that the control plane has counted.
    pub counted: u64,
    /// The one that is spent into.
    pub open: u64,
}

impl Spent {
    fn plus(self, other: Self) -> Self {
        Self { tokens: self.tokens + other.tokens, requests: self.requests + other.requests }
    }

    fn at_least_nothing(self) -> Self {
        Self { tokens: self.tokens.max(0.0), requests: self.requests.max(0.0) }
    }

    /// Nothing of either.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self.tokens <= 0.0 && self.requests <= 0.0
    }
}

impl Meter {
    /// A bucket that holds so much at `now`.
    #[must_use]
    pub fn holding(level: Spent, now: Timestamp) -> Self {
        Self { level: level.at_least_nothing(), at: now }
    }

    /// What it holds at `now`; nothing of what is not limited.
    #[must_use]
    pub fn level(&self, limits: Limits, now: Timestamp) -> Spent {
        let passed = now.since(self.at).as_secs_f64();
        let drained = |level: f64, limit: Option<f64>| limit.map_or(0.0, |limit| level - limit / SECONDS * passed);
        let Spent { tokens, requests } = self.level;
        Spent { tokens: drained(tokens, limits.tokens), requests: drained(requests, limits.requests) }
            .at_least_nothing()
    }

    /// Takes `spent` in.
    pub fn add(&mut self, limits: Limits, spent: Spent, now: Timestamp) {
        *self = Self::holding(self.level(limits, now).plus(spent), now.max(self.at));
    }

    /// Is there room for `wanted`? A request that is larger than all there is goes when the bucket is empty.
    #[must_use]
    pub fn over(&self, limits: Limits, wanted: Spent, now: Timestamp) -> Option<Over> {
        let level = self.level(limits, now);
        let over = |what, limit: Option<f64>, level: f64, wanted: f64| {
            let limit = limit?;
            let excess = level - (limit - wanted).max(0.0);
            let wait = Duration::try_from_secs_f64(excess / limit * SECONDS).unwrap_or(Duration::MAX);
            (excess > 0.0).then_some(Over { what, limit, wait })
        };
        let tokens = over(Exceeded::Tokens, limits.tokens, level.tokens, wanted.tokens);
        let requests = over(Exceeded::Requests, limits.requests, level.requests, wanted.requests);
        match (tokens, requests) {
            (Some(tokens), Some(requests)) => Some(if tokens.wait < requests.wait { requests } else { tokens }),
            (tokens, requests) => tokens.or(requests),
        }
    }
}

impl Meters {
    /// Is there room for `wanted` of the tenant's?
    #[must_use]
    pub fn over(&self, tenant: &str, limits: Limits, wanted: Spent, now: Timestamp) -> Option<Over> {
        self.tenants.get(self.bucket(tenant))?.meter.over(limits, wanted, now)
    }

    /// The tenant spent so much, in this batch; `None`: it is not told.
    pub fn spend(&mut self, tenant: &str, limits: Limits, (batch, spent): (Option<u64>, Spent), now: Timestamp) {
        let bucket = self.bucket(tenant);
        if !self.tenants.contains_key(bucket) {
            self.tenants.insert(bucket.to_owned(), Tenant::default());
        }
        if let Some(tenant) = self.tenants.get_mut(bucket) {
            tenant.meter.add(limits, spent, now);
            let Some(batch) = batch else { return };
            match tenant.fresh.last_mut().filter(|fresh| fresh.batch == batch) {
                Some(fresh) => (fresh.spent, fresh.at) = (fresh.spent.plus(spent), now),
                None => tenant.fresh.push(Fresh { batch, spent, at: now }),
            }
        }
    }

    /// The control plane told what the tenants' buckets hold at `now`, all gateways together.
    pub fn told(&mut self, levels: BTreeMap<String, Spent>, batches: Batches, now: Timestamp) {
        // A batch that was told and is not counted after so long is lost, with a report or a control plane.
        let is_counted = |fresh: &Fresh| {
            let is_lost = fresh.batch < batches.open && now.since(fresh.at) > LOST;
            fresh.batch <= batches.counted || is_lost
        };
        let mut before = core::mem::take(&mut self.tenants);
        before.retain(|_, tenant| {
            tenant.fresh.retain(|fresh| !is_counted(fresh));
            !tenant.fresh.is_empty()
        });
        for name in levels.keys() {
            if !before.contains_key(name) {
                before.insert(name.clone(), Tenant::default());
            }
        }
        for (name, tenant) in &mut before {
            let told = levels.get(name).copied().unwrap_or_default();
            tenant.meter = Meter::holding(tenant.fresh.iter().fold(told, |level, fresh| level.plus(fresh.spent)), now);
        }
        self.tenants = before;
    }

    /// The name of the bucket that the tenant's requests go into.
    fn bucket<'a>(&self, tenant: &'a str) -> &'a str {
        if self.tenants.len() < MOST_TENANTS || self.tenants.contains_key(tenant) { tenant } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Strategy, prop_assert, prop_oneof, proptest};

    use super::*;
    use crate::testing::at;

    const LIMITS: Limits = Limits { tokens: Some(6000.0), requests: Some(60.0) };

    const fn spent(tokens: f64, requests: f64) -> Spent {
        Spent { tokens, requests }
    }

    #[test]
    fn a_minutes_worth_goes_at_once_and_then_as_much_as_drains() {
        let mut meters = Meters::default();
        for _ in 0..6 {
            assert_eq!(meters.over("a", LIMITS, spent(1000.0, 1.0), at(0)), None);
            meters.spend("a", LIMITS, (Some(1), spent(1000.0, 1.0)), at(0));
        }
        let over = meters.over("a", LIMITS, spent(1000.0, 1.0), at(0)).unwrap();
        assert_eq!((over.what, over.wait), (Exceeded::Tokens, Duration::from_secs(10)));
        assert!(meters.over("a", LIMITS, spent(1000.0, 1.0), at(9_999)).is_some());
        assert_eq!(meters.over("a", LIMITS, spent(1000.0, 1.0), at(10_000)), None);
        assert_eq!(meters.over("b", LIMITS, spent(1000.0, 1.0), at(0)), None, "each tenant has its own");
    }

    #[test]
    fn requests_are_limited_apart_and_the_longer_wait_is_told() {
        let mut meters = Meters::default();
        meters.spend("a", LIMITS, (Some(1), spent(100.0, 60.0)), at(0));
        let over = meters.over("a", LIMITS, spent(10.0, 1.0), at(0)).unwrap();
        assert_eq!((over.what, over.limit, over.wait), (Exceeded::Requests, 60.0, Duration::from_secs(1)));
        meters.spend("a", LIMITS, (Some(1), spent(6000.0, 0.0)), at(0));
        assert_eq!(meters.over("a", LIMITS, spent(1000.0, 1.0), at(0)).unwrap().what, Exceeded::Tokens);
        let only_requests = Limits { tokens: None, ..LIMITS };
        assert_eq!(meters.over("a", only_requests, spent(1e9, 1.0), at(1000)), None);
    }

    #[test]
    fn a_request_larger_than_the_limit_goes_when_nothing_else_does() {
        let mut meters = Meters::default();
        assert_eq!(meters.over("a", LIMITS, spent(9000.0, 1.0), at(0)), None);
        meters.spend("a", LIMITS, (Some(1), spent(9000.0, 1.0)), at(0));
        assert_eq!(meters.over("a", LIMITS, spent(9000.0, 1.0), at(0)).unwrap().wait, Duration::from_secs(90));
        assert_eq!(meters.over("a", LIMITS, spent(9000.0, 1.0), at(90_000)), None);
    }

    #[test]
    fn what_is_told_counts_with_what_was_spent_in_batches_that_it_does_not_count() {
        let mut meters = Meters::default();
        let told = |tokens: f64| BTreeMap::from([("a".to_owned(), spent(tokens, 0.0))]);
        let level = |meters: &Meters| meters.tenants["a"].meter.level(LIMITS, at(0)).tokens;
        let near = |meters: &Meters, tokens: f64| assert!((level(meters) - tokens).abs() < 1e-9, "{}", level(meters));
        meters.spend("a", LIMITS, (Some(1), spent(1000.0, 1.0)), at(0));
        meters.told(told(500.0), Batches { counted: 0, open: 1 }, at(0));
        near(&meters, 1500.0);
        meters.told(told(500.0), Batches { counted: 0, open: 2 }, at(0));
        near(&meters, 1500.0);
        meters.spend("a", LIMITS, (Some(2), spent(200.0, 1.0)), at(0));
        meters.told(told(1500.0), Batches { counted: 1, open: 2 }, at(0));
        near(&meters, 1700.0);
        meters.spend("a", LIMITS, (Some(2), spent(-700.0, 0.0)), at(0));
        meters.told(told(1500.0), Batches { counted: 1, open: 3 }, at(0));
        near(&meters, 1000.0);
        meters.told(BTreeMap::new(), Batches { counted: 2, open: 3 }, at(0));
        assert!(meters.tenants.is_empty());
    }

    #[test]
    fn what_was_told_to_somebody_who_is_gone_does_not_count_for_ever() {
        let mut meters = Meters::default();
        meters.spend("a", LIMITS, (Some(1), spent(1000.0, 1.0)), at(0));
        meters.spend("a", LIMITS, (Some(2), spent(10.0, 1.0)), at(0));
        meters.told(BTreeMap::new(), Batches { counted: 0, open: 2 }, at(2001));
        assert!((meters.tenants["a"].meter.level(LIMITS, at(2001)).tokens - 10.0).abs() < 1e-9, "{meters:?}");
    }

    #[test]
    fn names_without_end_take_room_for_so_many_and_then_share() {
        let mut meters = Meters::default();
        for number in 0..10_000 {
            meters.spend(&format!("tenant-{number}"), LIMITS, (Some(1), spent(1.0, 1.0)), at(0));
        }
        assert_eq!(meters.tenants.len(), MOST_TENANTS + 1);
        assert!(meters.over("somebody new", LIMITS, spent(1.0, 1.0), at(0)).is_some());
    }

    proptest! {
        /// Whatever is asked for and given back, no more than two minutes' worth is let through in a minute.
        #[test]
        fn no_minute_sees_more_than_twice_the_limit(
            steps in vec((0_u64..5000, prop_oneof![1.0_f64..3000.0, 1.0_f64..100.0].boxed()), 1..200),
        ) {
            let (mut meters, mut now, mut let_through) = (Meters::default(), 0, Vec::new());
            for (passed, tokens) in steps {
                now += passed;
                let wanted = spent(tokens, 1.0);
                if let Some(over) = meters.over("a", LIMITS, wanted, at(now)) {
                    let then = at(now).after(over.wait + Duration::from_nanos(100));
                    prop_assert!(meters.over("a", LIMITS, wanted, then).is_none());
                    continue;
                }
                meters.spend("a", LIMITS, (Some(1), wanted), at(now));
                let_through.push((now, tokens));
                let minute = let_through.iter().filter(|&&(then, _)| then + 60_000 > now);
                prop_assert!(minute.map(|&(_, tokens)| tokens).sum::<f64>() <= 12_000.0);
            }
        }
    }
}
