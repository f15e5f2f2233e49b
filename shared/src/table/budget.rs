//! How many tokens and requests a minute each tenant may have, as configured, checked. What is done about it is in `budget`.

use std::collections::BTreeSet;

/// Rules that a pool may have.
pub const MOST_RULES: usize = 256;
/// Tenants that a rule may name.
pub const MOST_TENANTS: usize = 4096;

/// A pool's rules, in their order: the first that fits a tenant counts, and each tenant has it for itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budgets {
    /// See the type.
    pub rules: Vec<Rule>,
}

/// What each of some tenants may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Their names; empty: any.
    pub tenants: BTreeSet<String>,
    /// What each may have.
    pub limits: Limits,
}

/// Per minute; `None`: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Prompt and output tokens, > 0.
    pub tokens: Option<f64>,
    /// Requests, > 0.
    pub requests: Option<f64>,
}

impl Budgets {
    /// What the tenant may have; `None`: there is no rule for it.
    #[must_use]
    pub fn of(&self, tenant: &str) -> Option<Limits> {
        let fits = |rule: &&Rule| rule.tenants.is_empty() || rule.tenants.contains(tenant);
        self.rules.iter().find(fits).map(|rule| rule.limits)
    }
}

impl Limits {
    /// `share` of them, 0..=1.
    #[must_use]
    pub fn scaled(self, share: f64) -> Self {
        Self { tokens: self.tokens.map(|most| most * share), requests: self.requests.map(|most| most * share) }
    }
}
