//! The account of predictions against the truth, in tokens; errors are those of the pod that the prediction chose.

use controlplane::residency::exact::ExactCounters;

/// What a run found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
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
    /// `BlockRemoved` events.
    pub removals: u64,
    /// Tokens that engines generated in another spelling.
    pub slips: u64,
    /// Blocks that re-encoding found out, each the first of its chain.
    pub alarms: u64,
    /// The residency index's own.
    pub counters: ExactCounters,
    block_size: u32,
    over: Vec<u32>,
    under: Vec<u32>,
}

impl Tally {
    pub(super) fn new(block_size: u32) -> Self {
        Self { block_size, ..Self::default() }
    }

    pub(super) fn decided(&mut self, predicted: &[u32], held: &[u32], chosen: usize) {
        let guess = predicted.get(chosen).copied().unwrap_or(0);
        let truth = held.get(chosen).copied().unwrap_or(0);
        let best = held.iter().max().copied().unwrap_or(0);
        self.decisions += 1;
        self.over.push(guess.saturating_sub(truth));
        self.under.push(truth.saturating_sub(guess));
        self.found.0 += u64::from(truth);
        self.found.1 += u64::from(best);
        if held.iter().any(|&tokens| tokens > 0 && tokens != best) {
            self.contested += 1;
            let near = truth + self.block_size >= best;
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

    /// Blocks that the chosen pod was thought to hold and did not, at this quantile of all decisions.
    #[must_use]
    pub fn over(&self, quantile: f64) -> f64 {
        self.blocks(&self.over, quantile)
    }

    /// Blocks that it held and was not thought to.
    #[must_use]
    pub fn under(&self, quantile: f64) -> f64 {
        self.blocks(&self.under, quantile)
    }

    /// Does it meet the bars: 99.5 % within one block of the best, at most two blocks too many at the 99th percentile?
    #[must_use]
    pub fn passes(&self) -> bool {
        self.share_near_best() >= 0.995 && self.over(0.99) <= 2.0
    }

    fn blocks(&self, tokens: &[u32], quantile: f64) -> f64 {
        let mut sorted = tokens.to_vec();
        sorted.sort_unstable();
        let count = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
        let rank = crate::random::whole((f64::from(count) * quantile).ceil()).clamp(1, count.max(1)) - 1;
        let at = usize::try_from(rank).unwrap_or(0);
        f64::from(sorted.get(at).copied().unwrap_or(0)) / f64::from(self.block_size.max(1))
    }
}
