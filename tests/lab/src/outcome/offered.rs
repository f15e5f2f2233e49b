//! Figures over everything that was asked, refused requests included: holding looks good to whoever counts only what was
//! served. Clients that went away by themselves are nobody's failure and count nowhere.

use std::collections::BTreeMap;

use super::{Fate, Outcome, Record, SLO_TPOT};
use crate::callers::BATCH;
use crate::workload::NOISY;

/// Seconds of prefill per uncached token, and of a step per context token, as the engines are calibrated.
const X: f64 = 65e-6;
const K: f64 = 44e-9;
/// As in the gateway's estimate.
const CONTEXT_OVERHEAD: f64 = 500.0;

impl Record {
    /// Was it answered within its service levels?
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.fate == Fate::Finished
            && self.ttft().is_some_and(|ttft| ttft <= self.caller.slo_ttft())
            && self.tpot().is_none_or(|tpot| tpot <= SLO_TPOT)
    }

    /// What it takes of a pod that holds everything said before, seconds.
    #[must_use]
    pub fn pod_seconds(&self) -> f64 {
        let uncached = f64::from(self.prompt_tokens.saturating_sub(self.repeated_tokens));
        let (prompt, output) = (f64::from(self.prompt_tokens), f64::from(self.output_tokens));
        uncached * X + output * K * (prompt + output / 2.0 + CONTEXT_OVERHEAD)
    }
}

fn share<'a>(records: impl Iterator<Item = &'a Record>) -> f64 {
    let (mut all, mut ok) = (0_u32, 0_u32);
    for record in records {
        all += 1;
        ok += u32::from(record.is_ok());
    }
    f64::from(ok) / f64::from(all.max(1))
}

impl Outcome {
    /// Requests that arrived in the window, but for those whose clients went away.
    pub fn offered(&self) -> impl Iterator<Item = &Record> {
        let (from, until) = self.window;
        let inside = move |record: &&Record| (from..until).contains(&record.arrived);
        self.records.iter().filter(inside).filter(|record| record.fate != Fate::Aborted)
    }

    /// Share of all that were offered that met their service levels.
    #[must_use]
    pub fn ok(&self) -> f64 {
        share(self.offered())
    }

    /// The same of one band.
    #[must_use]
    pub fn ok_of_band(&self, band: usize) -> f64 {
        share(self.offered().filter(|record| record.caller.band == Some(band)))
    }

    /// Refused turns of conversations that had begun, whenever.
    #[must_use]
    pub fn cut_off(&self) -> usize {
        let refused = |record: &&Record| matches!(record.fate, Fate::Failed { .. });
        self.records.iter().filter(refused).filter(|record| record.turn.is_some_and(|turn| turn > 1)).count()
    }

    /// Requests within their service levels, a second.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        self.offered().filter(|record| record.is_ok()).count() as f64 / (self.window.1 - self.window.0)
    }

    /// `ok` of all tenants but the noisy one, and of that.
    #[must_use]
    pub fn ok_of_victims_and_noisy(&self) -> (f64, f64) {
        let noisy = |record: &&Record| record.caller.tenant == Some(NOISY);
        (share(self.offered().filter(|record| !noisy(record))), share(self.offered().filter(noisy)))
    }

    /// Jain's index of the tenants' served work against their max-min fair shares; 1 is fair.
    #[must_use]
    pub fn jain(&self) -> f64 {
        let mut tenants: BTreeMap<Option<u64>, (f64, f64)> = BTreeMap::new();
        for record in self.offered() {
            let (asked, served) = tenants.entry(record.caller.tenant).or_default();
            *asked += record.pod_seconds();
            *served += if record.fate == Fate::Finished { record.pod_seconds() } else { 0.0 };
        }
        let asked: Vec<f64> = tenants.values().map(|row| row.0).collect();
        let fair = max_min(&asked, tenants.values().map(|row| row.1).sum());
        let ratios = || tenants.values().zip(&fair).map(|(row, fair)| row.1 / fair.max(1e-9));
        let (sum, squares) = (ratios().sum::<f64>(), ratios().map(|ratio| ratio * ratio).sum::<f64>());
        sum * sum / (asked.len() as f64 * squares).max(1e-9)
    }

    /// The longest time, in the window, in which batch requests waited and none was sent, seconds.
    #[must_use]
    pub fn longest_batch_gap(&self) -> f64 {
        let (from, until) = self.window;
        let mut changes: Vec<(f64, i32, bool)> = Vec::new();
        for record in self.records.iter().filter(|record| record.caller.band == Some(BATCH)) {
            let left = record.sent.or(record.ended).unwrap_or(f64::MAX);
            changes.push((record.arrived, 1, false));
            changes.push((left, -1, record.sent.is_some()));
        }
        changes.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        let (mut waiting, mut since, mut longest) = (0, from, 0.0_f64);
        for (at, change, sent) in changes {
            let was = waiting;
            waiting += change;
            if was == 0 {
                since = at.max(from);
            }
            if sent || waiting == 0 {
                longest = longest.max(at.min(until) - since);
                since = at.max(from);
            }
        }
        longest
    }
}

/// Max-min fair shares of `capacity` among those that ask for `asked`.
fn max_min(asked: &[f64], capacity: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..asked.len()).collect();
    let of = |index: usize| asked.get(index).copied().unwrap_or(0.0);
    order.sort_by(|&a, &b| of(a).total_cmp(&of(b)));
    let (mut left, mut shares) = (capacity, vec![0.0; asked.len()]);
    for (done, index) in order.into_iter().enumerate() {
        let part = of(index).min(left / (asked.len() - done) as f64);
        if let Some(share) = shares.get_mut(index) {
            *share = part;
        }
        left -= part;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::max_min;

    #[test]
    fn who_asks_for_little_gets_it_and_the_rest_share() {
        assert_eq!(max_min(&[10.0, 1.0, 3.0], 8.0), [4.0, 1.0, 3.0]);
        assert_eq!(max_min(&[1.0, 2.0], 8.0), [1.0, 2.0]);
    }
}
