//! The account of predictions against three truths, in tokens: what engines held at the moment of routing, what they had
//! published by then, and what they found when they let the request in.
//!
//! Only the second is the gateway's to get right: the first differs from it by the step under way, the third by the queue too.

use controlplane::residency::exact::ExactCounters;

/// What a run found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Against what engines held at the moment of routing.
    pub held: Account,
    /// Against what engines had published by then.
    pub told: Account,
    /// Against the `cached_tokens` that engines reported, for the pods that requests really went to.
    pub reported: Errors,
    /// Tokens that engines reported as cached, and all tokens, of the prompts of requests that ended.
    pub cached: (u64, u64),
    /// Shares of a cache that its running requests held when the next request came, over all pods and requests.
    pub used: Vec<f64>,
    /// Blocks that engines stored though they had them already.
    pub twins: u64,
    /// `BlockRemoved` events.
    pub removals: u64,
    /// Tokens that engines generated in another spelling.
    pub slips: u64,
    /// Blocks that re-encoding found out, each the first of its chain.
    pub alarms: u64,
    /// The residency index's own.
    pub counters: ExactCounters,
}

/// Decisions against one truth; errors are those of the pod that the prediction chose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// Requests.
    pub decisions: u32,
    /// Of these, with at least two different prefixes held, none of them empty.
    pub contested: u32,
    /// Contested decisions for a pod within one block of the best.
    pub near_best: u32,
    /// Contested decisions further away although a best pod's prediction was no shorter: chunks did not tell them apart.
    pub ties_lost: u32,
    /// Tokens found at the chosen pods and at the best ones.
    pub found: (u64, u64),
    /// How wrong the chosen pods' predictions were.
    pub errors: Errors,
}

/// Predicted against true tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errors {
    block_size: u32,
    over: Vec<u32>,
    under: Vec<u32>,
}

impl Tally {
    pub(super) fn new(block_size: u32) -> Self {
        let errors = Errors { block_size, ..Errors::default() };
        let account = Account { errors: errors.clone(), ..Account::default() };
        Self { held: account.clone(), told: account, reported: errors, ..Self::default() }
    }

    /// Does it meet the bars against what engines really held?
    #[must_use]
    pub fn passes(&self) -> bool {
        self.held.passes()
    }

    /// The share of a cache that running requests held, at this quantile.
    #[must_use]
    pub fn used(&self, quantile: f64) -> f64 {
        let mut sorted = self.used.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(rank(sorted.len(), quantile)).copied().unwrap_or(0.0)
    }
}

impl Account {
    pub(super) fn decided(&mut self, predicted: &[u32], held: &[u32], chosen: usize) {
        let guess = predicted.get(chosen).copied().unwrap_or(0);
        let truth = held.get(chosen).copied().unwrap_or(0);
        let best = held.iter().max().copied().unwrap_or(0);
        self.decisions += 1;
        self.errors.add(guess, truth);
        self.found.0 += u64::from(truth);
        self.found.1 += u64::from(best);
        if held.iter().any(|&tokens| tokens > 0 && tokens != best) {
            self.contested += 1;
            let near = truth + self.errors.block_size >= best;
            let tied = predicted.iter().zip(held).any(|(&other, &tokens)| tokens == best && other >= guess);
            self.near_best += u32::from(near);
            self.ties_lost += u32::from(!near && tied);
        }
    }

    /// Share of contested decisions within one block of the best.
    #[must_use]
    pub fn share_near_best(&self) -> f64 {
        f64::from(self.near_best) / f64::from(self.contested.max(1))
    }

    /// Does it meet the bars: 99.5 % within one block of the best, at most two blocks too many at the 99th percentile?
    #[must_use]
    pub fn passes(&self) -> bool {
        self.share_near_best() >= 0.995 && self.errors.over(0.99) <= 2.0
    }
}

impl Errors {
    pub(super) fn add(&mut self, guess: u32, truth: u32) {
        self.over.push(guess.saturating_sub(truth));
        self.under.push(truth.saturating_sub(guess));
    }

    /// Blocks that the pod was thought to hold and did not, at this quantile.
    #[must_use]
    pub fn over(&self, quantile: f64) -> f64 {
        self.blocks(&self.over, quantile)
    }

    /// Blocks that it held and was not thought to.
    #[must_use]
    pub fn under(&self, quantile: f64) -> f64 {
        self.blocks(&self.under, quantile)
    }

    /// Share of predictions that were more than two blocks too long.
    #[must_use]
    pub fn share_over(&self) -> f64 {
        let far = self.over.iter().filter(|&&tokens| tokens > 2 * self.block_size).count();
        f64::from(u32::try_from(far).unwrap_or(u32::MAX))
            / f64::from(u32::try_from(self.over.len()).unwrap_or(u32::MAX).max(1))
    }

    fn blocks(&self, tokens: &[u32], quantile: f64) -> f64 {
        let mut sorted = tokens.to_vec();
        sorted.sort_unstable();
        let at = rank(sorted.len(), quantile);
        f64::from(sorted.get(at).copied().unwrap_or(0)) / f64::from(self.block_size.max(1))
    }
}

/// Where in `count` sorted values the quantile is.
fn rank(count: usize, quantile: f64) -> usize {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let rank = crate::random::whole((f64::from(count) * quantile).ceil()).clamp(1, count.max(1)) - 1;
    usize::try_from(rank).unwrap_or(0)
}
