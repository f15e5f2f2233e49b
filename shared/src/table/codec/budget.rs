//! Checks budgets off the wire.

use std::collections::BTreeMap;

use super::{Malformed, field, not_negative};
use crate::budget::Spent;
use crate::table::budget::{Budgets, Limits, MOST_RULES, MOST_TENANTS, Rule};
use crate::wire;

/// Checks a pool's budgets.
///
/// # Errors
/// `Malformed`, naming the first field that breaks a rule.
pub fn budgets(rules: Vec<wire::Budget>) -> Result<Budgets, Malformed> {
    if rules.len() > MOST_RULES {
        return Err(field("budgets", "must be at most 256"));
    }
    Ok(Budgets { rules: rules.into_iter().map(rule).collect::<Result<_, _>>()? })
}

fn rule(raw: wire::Budget) -> Result<Rule, Malformed> {
    if raw.tenants.len() > MOST_TENANTS {
        return Err(field("budgets.tenants", "must be at most 4096"));
    }
    let limit = |value, name| Ok(Some(not_negative(value, name)?).filter(|&limit| limit > 0.0));
    let limits = Limits {
        tokens: limit(raw.tokens_per_minute, "budgets.tokens_per_minute")?,
        requests: limit(raw.requests_per_minute, "budgets.requests_per_minute")?,
    };
    Ok(Rule { tenants: raw.tenants.into_iter().collect(), limits })
}

/// What buckets hold.
pub(super) fn levels(raw: Vec<wire::Spending>) -> Result<BTreeMap<String, Spent>, Malformed> {
    let level = |raw: wire::Spending| {
        let tokens = not_negative(raw.tokens, "spent.tokens")?;
        Ok((raw.tenant, Spent { tokens, requests: not_negative(raw.requests, "spent.requests")? }))
    };
    raw.into_iter().map(level).collect()
}
