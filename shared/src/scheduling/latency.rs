//! What a client will see of an endpoint: the time to its first token and the time per token. The cost ranks endpoints and
//! is exact by definition; these two are held against service levels, and so are fitted to what gateways saw. Until a fit
//! is known the cost's own terms stand in.

use super::cost::{Demand, Supply, Terms, step_seconds, uncached_tokens};
use crate::table::live::Rates;

/// Fraction of the KV cache beyond which a request may have to wait for room.
const FULL: f64 = 0.9;

/// What the time to the first token depends on, beside the speed of the endpoint. Its figures are multiplied with those of a
/// `FirstTokenModel`, and summed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Q + u: tokens that are computed before the first one comes out.
    pub tokens_ahead: f64,
    /// u * (L - u/2): token pairs that its own prefill attends to.
    pub attention: f64,
    /// C: context of the batch that decodes meanwhile, tokens.
    pub context: f64,
    /// Share of the KV cache that is asked for beyond what is safe to fill.
    pub overflow: f64,
    /// Tokens from a colder tier.
    pub reloaded: f64,
}

/// Seconds per figure, of an endpoint as fast as its fleet; none is negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FirstTokenModel {
    /// Seconds whatever the request.
    pub base: f64,
    /// Seconds of each figure.
    pub per: Figures,
}

/// What is expected, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// To the first token.
    pub ttft: f64,
    /// Per token after it.
    pub tpot: f64,
}

impl Figures {
    /// Of a request at an endpoint.
    #[must_use]
    pub fn of(demand: &Demand, supply: &Supply) -> Self {
        let uncached = uncached_tokens(demand, supply);
        let growth = supply.kv_capacity.map_or(0.0, |capacity| (uncached + demand.output_tokens / 2.0) / capacity);
        Self {
            tokens_ahead: super::to_f64(supply.work.queued_tokens) + uncached,
            attention: uncached * (demand.prompt_tokens - uncached / 2.0),
            context: super::to_f64(supply.work.context_tokens),
            overflow: (supply.kv_used + growth - FULL).max(0.0),
            reloaded: supply.reload_tokens,
        }
    }
}

impl FirstTokenModel {
    /// Of an endpoint as fast as its fleet, seconds.
    #[must_use]
    pub fn seconds(&self, figures: &Figures) -> f64 {
        let Self { base, per } = self;
        base + per.tokens_ahead * figures.tokens_ahead
            + per.attention * figures.attention
            + per.context * figures.context
            + per.overflow * figures.overflow
            + per.reloaded * figures.reloaded
    }
}

/// What the request would see of an endpoint whose cost is `terms`.
#[must_use]
pub fn predict(demand: &Demand, supply: &Supply, terms: &Terms, rates: &Rates) -> Latency {
    let fitted = rates.first_token.map(|model| supply.slowness * model.seconds(&Figures::of(demand, supply)));
    Latency { ttft: fitted.unwrap_or(terms.own_ttft), tpot: step_seconds(demand, supply, rates) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduling::cost::terms;
    use crate::table::live::Work;

    const DEMAND: Demand = Demand { prompt_tokens: 1000.0, output_tokens: 100.0, slo_ttft: 2.0, slo_tpot: 0.05 };

    fn supply() -> Supply {
        Supply {
            matched_tokens: 500.0,
            reload_tokens: 100.0,
            work: Work { waiting: 1, decoding: 2, queued_tokens: 300, context_tokens: 5000 },
            kv_used: 0.8,
            kv_capacity: Some(1000.0),
            slowness: 2.0,
        }
    }

    #[test]
    fn the_first_token_is_the_sum_of_its_figures_at_the_speed_of_the_endpoint() {
        let per = Figures { tokens_ahead: 1e-3, attention: 1e-6, context: 1e-5, overflow: 1.0, reloaded: 1e-4 };
        let rates = Rates { first_token: Some(FirstTokenModel { base: 0.01, per }), ..Rates::default() };
        let told = predict(&DEMAND, &supply(), &terms(&DEMAND, &supply(), &rates), &rates);
        // u = 400, Q + u = 700, u * (L - u/2) = 320_000, overflow = 0.8 + 0.45 - 0.9.
        let expected = 2.0 * (0.01 + 0.7 + 0.32 + 0.05 + 0.35 + 0.01);
        assert!((told.ttft - expected).abs() < 1e-9, "{} {expected}", told.ttft);
        assert!((told.tpot - step_seconds(&DEMAND, &supply(), &rates)).abs() < 1e-12);
    }

    #[test]
    fn without_a_fit_the_cost_stands_in() {
        let rates = Rates::default();
        let terms = terms(&DEMAND, &supply(), &rates);
        let told = predict(&DEMAND, &supply(), &terms, &rates);
        assert!((told.ttft - terms.own_ttft).abs() < 1e-12);
    }
}
