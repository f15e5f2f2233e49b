//! What was taken from a tenant's budget for a request: at first what it is expected to take, in the end what it took.

use super::{Ask, Step};
use crate::api::Reject;
use crate::brain::Brain;
use crate::budget::Spent;
use crate::clock::Timestamp;
use crate::scheduling::cost::Demand;

/// See the module. Dropped without a word, it stays spent.
#[derive(Debug)]
pub(super) struct Paid {
    tenant: String,
    prompt_tokens: f64,
    output_tokens: f64,
}

/// May the tenant have what the request is expected to take? `None`: it has no budget.
pub(super) fn afford(ask: &Ask, pool: &str, demand: &Demand, step: &Step<'_>) -> Result<Option<Paid>, Reject> {
    if step.brain.limits_of(pool, &ask.tenant).is_none() {
        return Ok(None);
    }
    let Demand { prompt_tokens, output_tokens, .. } = *demand;
    let paid = Paid { tenant: ask.tenant.clone(), prompt_tokens, output_tokens };
    match step.brain.over_budget(pool, &ask.tenant, paid.spent(), step.now) {
        Some(over) => Err(Reject::OverBudget(over)),
        None => Ok(Some(paid)),
    }
}

impl Paid {
    /// Takes it.
    pub(super) fn pay(&self, pool: &str, brain: &mut Brain, now: Timestamp) {
        brain.spend(pool, &self.tenant, self.spent(), now);
    }

    /// The request was not served: everything goes back.
    pub(super) fn give_back(self, pool: &str, brain: &mut Brain, now: Timestamp) {
        let Spent { tokens, requests } = self.spent();
        brain.spend(pool, &self.tenant, Spent { tokens: -tokens, requests: -requests }, now);
    }

    /// It was: so many prompt tokens, when that is known, and output tokens.
    pub(super) fn settle(self, pool: &str, (prompt, output): (Option<u32>, u64), brain: &mut Brain, now: Timestamp) {
        let took = prompt.map_or(self.prompt_tokens, f64::from) + f64::from(u32::try_from(output).unwrap_or(u32::MAX));
        let tokens = took - self.spent().tokens;
        brain.spend(pool, &self.tenant, Spent { tokens, requests: 0.0 }, now);
    }

    fn spent(&self) -> Spent {
        Spent { tokens: self.prompt_tokens + self.output_tokens, requests: 1.0 }
    }
}
