//! Tenants' budgets: raw → as gateways get them. What gateways would refuse is refused here.

use shared::table::budget::{MOST_RULES, MOST_TENANTS};
use shared::wire;

use super::Checks;
use crate::config::raw;

pub(super) fn budgets(checks: &mut Checks, path: &str, raw: &[raw::Budget]) -> Vec<wire::Budget> {
    if raw.len() > MOST_RULES {
        checks.refuse(path, format!("must hold up to {MOST_RULES} budgets"), raw.len());
    }
    for (index, pair) in raw.windows(2).enumerate() {
        if pair.first().is_some_and(|budget| budget.tenants.is_empty()) {
            let after = format!("{path}[{}]", index + 1);
            checks.refuse(&after, "must come before the budget of all tenants, or it is never used", "a later one");
        }
    }
    raw.iter().enumerate().map(|(index, budget)| self::budget(checks, &format!("{path}[{index}]"), budget)).collect()
}

fn budget(checks: &mut Checks, path: &str, raw: &raw::Budget) -> wire::Budget {
    if raw.tenants.len() > MOST_TENANTS {
        checks.refuse(&format!("{path}.tenants"), format!("must hold up to {MOST_TENANTS} names"), raw.tenants.len());
    }
    if raw.tokens_per_minute.is_none() && raw.requests_per_minute.is_none() {
        checks.refuse(path, "must have tokensPerMinute, requestsPerMinute or both", "neither");
    }
    let mut limit = |name: &str, given: Option<u32>| {
        given.map_or(0.0, |most| f64::from(checks.number(&format!("{path}.{name}"), Some(most), 1, (1, u32::MAX))))
    };
    wire::Budget {
        tenants: raw.tenants.clone(),
        tokens_per_minute: limit("tokensPerMinute", raw.tokens_per_minute),
        requests_per_minute: limit("requestsPerMinute", raw.requests_per_minute),
    }
}
