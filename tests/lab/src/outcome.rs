//! How a run went: an account per request, and figures over those that arrived in the judged window, whenever they ended.
//! Times are seconds, as the client at the gateway sees them.

mod offered;

use controlplane::publish::status::Status;

use crate::callers::Caller;

/// The service level for the first token, seconds.
pub const SLO_TTFT: f64 = 2.0;
/// The service level per output token, seconds.
pub const SLO_TPOT: f64 = 0.05;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// When it reached the gateway.
    pub arrived: f64,
    /// Who asked.
    pub caller: Caller,
    /// Which gateway.
    pub gateway: usize,
    /// Which pod serves it.
    pub pod: Option<usize>,
    /// When it was sent there.
    pub sent: Option<f64>,
    /// When its first token reached the gateway.
    pub first_token: Option<f64>,
    /// When it ended.
    pub ended: Option<f64>,
    /// How.
    pub fate: Fate,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of these, out of the pod's cache.
    pub cached_tokens: u32,
    /// Of these, said by somebody before: no router could have had more.
    pub repeated_tokens: u32,
    /// Tokens generated.
    pub output_tokens: u32,
    /// Which turn of its conversation it is, from 1.
    pub turn: Option<usize>,
    /// |predicted - actual| cached tokens.
    pub prediction_error: Option<u64>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Not yet.
    InFlight,
    /// Answered in full.
    Finished,
    /// Its client went away.
    Aborted,
    /// Answered by a gateway, or by nobody.
    Failed {
        /// HTTP status.
        status: u16,
    },
}

/// A pod's published slowness changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlownessChange {
    /// When a gateway learned it.
    pub at: f64,
    /// Whose.
    pub pod: usize,
    /// 1: as fast as the fleet.
    pub slowness: f64,
}

/// What is left when all traffic has drained and the last reports are in; all of it should be zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Bookings in the gateways' ledgers.
    pub bookings: usize,
    /// Endpoints with work in the gateways' tallies, or with others' work in their live rows.
    pub busy_endpoints: usize,
    /// Requests that wait in the gateways.
    pub queued: usize,
    /// Streams that the gateways still keep.
    pub streams: usize,
    /// Requests (of anybody) that control planes count.
    pub counted: u64,
    /// Uncached tokens that they count.
    pub queued_tokens: u64,
    /// Sequences in engines.
    pub sequences: u32,
    /// Engines whose audit fails.
    pub broken_engines: usize,
}

/// Everything about a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// In order of arrival.
    pub records: Vec<Record>,
    /// Requests that arrived in it are judged.
    pub window: (f64, f64),
    /// How many pods there were.
    pub pods: usize,
    /// Published to the first gateway, in order of time.
    pub slowness: Vec<SlownessChange>,
    /// Slowness figures published to the first gateway ...
    pub slowness_samples: u64,
    /// ... and those of them that were not 1.
    pub steering_samples: u64,
    /// Messages of control planes that gateways refused.
    pub refused_messages: u64,
    /// Sequences that engines threw out for lack of blocks.
    pub preemptions: u64,
    /// What flow control plans the time per token with, as last published; 0: nothing was.
    pub margin: f64,
    /// See there.
    pub leftovers: Leftovers,
    /// What each control plane knew at the end of arrivals.
    pub statuses: Vec<Status>,
}

impl Record {
    /// Time to first token.
    #[must_use]
    pub fn ttft(&self) -> Option<f64> {
        Some(self.first_token? - self.arrived)
    }

    /// Time per further token; `None` before the end or without a second token.
    #[must_use]
    pub fn tpot(&self) -> Option<f64> {
        let gaps = self.output_tokens.checked_sub(1).filter(|&gaps| gaps > 0)?;
        Some((self.ended? - self.first_token?) / f64::from(gaps))
    }
}

/// The `p`-th (0..=1) of `values` by nearest rank; 0 without values.
#[must_use]
pub fn percentile(mut values: Vec<f64>, p: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let rank = crate::random::whole(p * values.len() as f64 + 0.5).max(1) - 1;
    let last = values.len().saturating_sub(1);
    values.get(usize::try_from(rank).unwrap_or(0).min(last)).copied().unwrap_or(0.0)
}

impl Outcome {
    /// Requests that arrived in the window and were answered in full.
    pub fn judged(&self) -> impl Iterator<Item = &Record> {
        let (from, until) = self.window;
        let inside = move |record: &&Record| (from..until).contains(&record.arrived);
        self.records.iter().filter(inside).filter(|record| record.fate == Fate::Finished)
    }

    /// The same figures over another window.
    #[must_use]
    pub fn between(&self, from: f64, until: f64) -> Self {
        Self { window: (from, until), ..self.clone() }
    }

    /// TTFT at percentile `p` (0..=1), seconds.
    #[must_use]
    pub fn ttft(&self, p: f64) -> f64 {
        percentile(self.judged().filter_map(Record::ttft).collect(), p)
    }

    /// TPOT at percentile `p` (0..=1), seconds.
    #[must_use]
    pub fn tpot(&self, p: f64) -> f64 {
        percentile(self.judged().filter_map(Record::tpot).collect(), p)
    }

    /// Share of requests that met both service levels.
    #[must_use]
    pub fn attainment(&self) -> f64 {
        let met = |record: &&Record| {
            record.ttft().is_some_and(|ttft| ttft <= SLO_TTFT) && record.tpot().is_none_or(|tpot| tpot <= SLO_TPOT)
        };
        self.judged().filter(met).count() as f64 / self.judged().count().max(1) as f64
    }

    fn share_of_prompts(&self, tokens: impl Fn(&Record) -> u64) -> f64 {
        let all: u64 = self.judged().map(|record| u64::from(record.prompt_tokens)).sum();
        self.judged().map(tokens).sum::<u64>() as f64 / all.max(1) as f64
    }

    /// Prompt tokens out of caches / all prompt tokens.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        self.share_of_prompts(|record| u64::from(record.cached_tokens))
    }

    /// The same, had every pod at once whatever anybody ever said: no router and no cache could do better.
    #[must_use]
    pub fn hit_bound(&self) -> f64 {
        self.share_of_prompts(|record| u64::from(record.repeated_tokens))
    }

    /// Sum of |predicted - actual| cached tokens / all prompt tokens.
    #[must_use]
    pub fn prediction_error(&self) -> f64 {
        self.share_of_prompts(|record| record.prediction_error.unwrap_or(0))
    }

    /// Judged requests by pod.
    #[must_use]
    pub fn per_pod(&self) -> Vec<u64> {
        let mut counts = vec![0; self.pods];
        for record in self.judged() {
            if let Some(count) = record.pod.and_then(|pod| counts.get_mut(pod)) {
                *count += 1;
            }
        }
        counts
    }

    /// The busiest pod's requests / the mean pod's.
    #[must_use]
    pub fn imbalance(&self) -> f64 {
        let counts = self.per_pod();
        let most = counts.iter().max().copied().unwrap_or(0);
        most as f64 * counts.len() as f64 / counts.iter().sum::<u64>().max(1) as f64
    }

    /// A pod's slowness as the first gateway knew it at `at`.
    #[must_use]
    pub fn slowness_at(&self, pod: usize, at: f64) -> f64 {
        let known = self.slowness.iter().rev().find(|change| change.pod == pod && change.at <= at);
        known.map_or(1.0, |change| change.slowness)
    }

    /// When, from `from` on, the pod's slowness first satisfied `wanted`.
    pub fn slowness_since(&self, pod: usize, from: f64, wanted: impl Fn(f64) -> bool) -> Option<f64> {
        if wanted(self.slowness_at(pod, from)) {
            return Some(from);
        }
        let later = self.slowness.iter().find(|c| c.pod == pod && c.at > from && wanted(c.slowness));
        later.map(|change| change.at)
    }
}
