//! What tenants have spent of their budgets, all gateways together: one meter each, fed by reports, told with every live row.

use std::collections::BTreeMap;

use shared::budget::{Meter, Spent};
use shared::clock::Timestamp;
use shared::table::budget::Budgets;
use shared::table::codec;
use shared::wire;

/// Tenants that are remembered; names come from clients. Of the others nobody keeps count.
const MOST_TENANTS: usize = 65_536;
/// Rows in a message, the fullest first: who is far from the limit need not be told.
const MOST_TOLD: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub struct Spending {
    budgets: Budgets,
    meters: BTreeMap<String, Meter>,
    /// Reports of tenants that found no room.
    uncounted: u64,
}

impl Spending {
    /// Nothing was spent yet.
    #[must_use]
    pub fn new(budgets: &[wire::Budget]) -> Self {
        let mut spending = Self::default();
        spending.set_budgets(budgets);
        spending
    }

    /// The budgets are these now; what was spent stays spent.
    pub fn set_budgets(&mut self, raw: &[wire::Budget]) {
        // What gateways would refuse was refused with the configuration.
        self.budgets = codec::budgets(raw.to_vec()).unwrap_or_default();
        self.meters.retain(|tenant, _| self.budgets.of(tenant).is_some());
    }

    /// A gateway says what was spent there.
    pub fn report(&mut self, spent: &[wire::Spending], now: Timestamp) {
        for row in spent.iter().filter(|row| row.tokens.is_finite() && row.requests.is_finite()) {
            let Some(limits) = self.budgets.of(&row.tenant) else { continue };
            if self.meters.len() >= MOST_TENANTS && !self.meters.contains_key(&row.tenant) {
                self.drop_empty(now);
            }
            if self.meters.len() >= MOST_TENANTS && !self.meters.contains_key(&row.tenant) {
                self.uncounted += 1;
                continue;
            }
            let spent = Spent { tokens: row.tokens, requests: row.requests };
            self.meters.entry(row.tenant.clone()).or_default().add(limits, spent, now);
        }
    }

    /// What the fullest buckets hold at `now`.
    #[must_use]
    pub fn told(&self, now: Timestamp) -> Vec<wire::Spending> {
        let row = |(tenant, meter): (&String, &Meter)| {
            let limits = self.budgets.of(tenant)?;
            let Spent { tokens, requests } = meter.level(limits, now);
            let fill = |level: f64, limit: Option<f64>| limit.map_or(0.0, |limit| level / limit);
            let fill = fill(tokens, limits.tokens).max(fill(requests, limits.requests));
            (fill > 0.0).then(|| (fill, wire::Spending { tenant: tenant.clone(), tokens, requests }))
        };
        let mut rows: Vec<(f64, wire::Spending)> = self.meters.iter().filter_map(row).collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        rows.truncate(MOST_TOLD);
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn drop_empty(&mut self, now: Timestamp) {
        let budgets = &self.budgets;
        let holds =
            |tenant: &str, meter: &Meter| budgets.of(tenant).is_some_and(|of| !meter.level(of, now).is_nothing());
        self.meters.retain(|tenant, meter| holds(tenant, meter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn budget(tenants: &[&str], tokens: f64) -> wire::Budget {
        let tenants = tenants.iter().map(|&name| name.to_owned()).collect();
        wire::Budget { tenants, tokens_per_minute: tokens, requests_per_minute: 0.0 }
    }

    fn row(tenant: &str, tokens: f64) -> wire::Spending {
        wire::Spending { tenant: tenant.to_owned(), tokens, requests: 1.0 }
    }

    fn told(spending: &Spending, now: u64) -> Vec<(String, f64)> {
        spending.told(at(now)).into_iter().map(|row| (row.tenant, row.tokens)).collect()
    }

    #[test]
    fn gateways_add_up_and_buckets_drain_at_the_limit() {
        let mut spending = Spending::new(&[budget(&["a"], 6000.0), budget(&["b"], 600.0)]);
        spending.report(&[row("a", 1000.0), row("nobody", 1.0)], at(0));
        spending.report(&[row("a", 500.0), row("b", 600.0), row("a", f64::NAN)], at(0));
        assert_eq!(told(&spending, 0), [("b".to_owned(), 600.0), ("a".to_owned(), 1500.0)]);
        assert_eq!(told(&spending, 10), [("b".to_owned(), 500.0), ("a".to_owned(), 500.0)]);
        spending.report(&[row("b", -400.0)], at(10));
        assert_eq!(told(&spending, 15), [("b".to_owned(), 50.0)]);
    }

    #[test]
    fn other_budgets_leave_what_was_spent() {
        let mut spending = Spending::new(&[budget(&[], 6000.0)]);
        spending.report(&[row("a", 1000.0), row("b", 1000.0)], at(0));
        spending.set_budgets(&[budget(&["a"], 60_000.0)]);
        assert_eq!(told(&spending, 0), [("a".to_owned(), 1000.0)]);
    }

    #[test]
    fn names_without_end_make_room_when_their_buckets_are_empty_and_no_message_tells_them_all() {
        let mut spending = Spending::new(&[budget(&[], 60.0)]);
        for number in 0..MOST_TENANTS + 10 {
            spending.report(&[row(&format!("{number}"), 1.0)], at(0));
        }
        assert_eq!((spending.uncounted, spending.told(at(0)).len()), (10, MOST_TOLD));
        spending.report(&[row("late", 1.0)], at(60));
        assert_eq!((spending.uncounted, spending.meters.len()), (10, 1));
    }
}
