//! Envoy statistics. Labels travel in the name (`|pool=...`), for Envoy's tag extraction; without it the names still
//! tell. Endpoints come from the table, never from a client.

use core::time::Duration;
use std::collections::BTreeMap;

use shared::brain::{Brain, Turned};
use shared::clock::Timestamp;
use shared::lifecycle::{Effect, Event};

use crate::host::{self, MetricKind};

const GAUGES_EVERY: Duration = Duration::from_millis(500);

/// The metrics of this VM. Counters are summed up here and told to the host on ticks: a host call costs as much as the
/// work it would count.
#[derive(Default)]
pub(crate) struct Stats {
    pools: BTreeMap<String, PoolStats>,
    rejected: BTreeMap<u16, Counter>,
    rescued: Counter,
    refused: Counter,
    decisions: u64,
    decision_time: Option<u32>,
    gauges: BTreeMap<String, u32>,
    gauges_at: Timestamp,
}

#[derive(Default)]
struct PoolStats {
    requests: BTreeMap<String, Counter>,
    fallbacks: Counter,
    over_budget: Counter,
    circuits_opened: Counter,
    circuits_closed: Counter,
    stalls: Counter,
    queued: Counter,
    expired: Counter,
    wait: Option<u32>,
    responses: Counter,
    prompt_tokens: Counter,
    cached_tokens: Counter,
    predictions: Counter,
    prediction_error: Counter,
    first_token: Option<u32>,
    output_token: Option<u32>,
}

#[derive(Default)]
struct Counter {
    metric: Option<u32>,
    pending: u64,
}

impl Counter {
    fn flush(&mut self, name: impl FnOnce() -> String) {
        if self.pending == 0 {
            return;
        }
        if let Some(metric) = number(&mut self.metric, MetricKind::Counter, name) {
            // A statistic that cannot be counted is not worth a request.
            let _uncounted = host::increment_metric(metric, i64::try_from(self.pending).unwrap_or(i64::MAX));
        }
        self.pending = 0;
    }
}

/// The host's number of a metric, defined at its first use.
fn number(known: &mut Option<u32>, kind: MetricKind, name: impl FnOnce() -> String) -> Option<u32> {
    if known.is_none() {
        *known = host::define_metric(kind, &name()).ok();
    }
    *known
}

fn observe(known: &mut Option<u32>, value: u64, name: impl FnOnce() -> String) {
    if let Some(metric) = number(known, MetricKind::Histogram, name) {
        // As for counters.
        let _unrecorded = host::record_metric(metric, value);
    }
}

/// One decision in so many is timed: two clock readings and a histogram sample cost a microsecond.
const TIMED: u64 = 8;

impl Stats {
    /// Is the decision at hand one of those that are timed?
    pub(crate) fn times_this_one(&mut self) -> bool {
        self.decisions += 1;
        self.decisions % TIMED == 1
    }

    /// A decision took this long, in the callback that made it.
    pub(crate) fn decided(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        observe(&mut self.decision_time, micros, || "kvasir_decision_microseconds".to_owned());
    }

    /// A request was let go because the host could not hold it.
    pub(crate) fn rescued(&mut self) {
        self.rescued.pending += 1;
    }

    /// A table segment was refused.
    pub(crate) fn refused(&mut self, refusals: u64) {
        self.refused.pending += refusals;
    }

    /// Counts what happened.
    pub(crate) fn count(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Count(event) = effect {
                self.count_event(event);
            }
        }
    }

    fn count_event(&mut self, event: &Event) {
        match event {
            Event::Rejected { status } => self.rejected.entry(*status).or_default().pending += 1,
            Event::Routed { pool, endpoint } => {
                let requests = &mut self.pool(pool).requests;
                if let Some(counter) = requests.get_mut(endpoint) {
                    counter.pending += 1;
                } else {
                    requests.insert(endpoint.clone(), Counter { metric: None, pending: 1 });
                }
            }
            Event::Queued { pool } => self.pool(pool).queued.pending += 1,
            Event::LeftQueue { pool, milliseconds, sent } => {
                let stats = self.pool(pool);
                stats.expired.pending += u64::from(!sent);
                let name = || format!("kvasir_flow_wait_milliseconds|pool={pool}");
                observe(&mut stats.wait, *milliseconds, name);
            }
            Event::OverBudget { pool } => self.pool(pool).over_budget.pending += 1,
            Event::FellBack { pool } => self.pool(pool).fallbacks.pending += 1,
            Event::Turned(turned) => self.turned(turned),
            Event::FirstToken { pool, milliseconds } => {
                let name = || format!("kvasir_time_to_first_token_milliseconds|pool={pool}");
                observe(&mut self.pool(pool).first_token, *milliseconds, name);
            }
            Event::Completed { pool, tpot_microseconds, prompt_tokens, cached_tokens, prediction_error } => {
                let stats = self.pool(pool);
                stats.responses.pending += 1;
                stats.prompt_tokens.pending += prompt_tokens;
                stats.cached_tokens.pending += cached_tokens;
                if let Some(error) = prediction_error {
                    stats.predictions.pending += 1;
                    stats.prediction_error.pending += error;
                }
                if let Some(tpot) = tpot_microseconds {
                    let name = || format!("kvasir_time_per_output_token_microseconds|pool={pool}");
                    observe(&mut stats.output_token, *tpot, name);
                }
            }
        }
    }

    /// Counts what became of an endpoint. Circuits are a worker's own: those opened less those closed are open now, summed
    /// over the workers.
    pub(crate) fn turned(&mut self, turned: &Turned) {
        match turned {
            Turned::Stalled { pool } => self.pool(pool).stalls.pending += 1,
            Turned::Opened { pool } => self.pool(pool).circuits_opened.pending += 1,
            Turned::Closed { pool } => self.pool(pool).circuits_closed.pending += 1,
        }
    }

    fn pool(&mut self, name: &str) -> &mut PoolStats {
        if !self.pools.contains_key(name) {
            self.pools.insert(name.to_owned(), PoolStats::default());
        }
        self.pools.entry(name.to_owned()).or_default()
    }

    fn flush(&mut self) {
        self.rescued.flush(|| "kvasir_rescued_requests_total".to_owned());
        self.refused.flush(|| "kvasir_table_refusals_total".to_owned());
        for (status, counter) in &mut self.rejected {
            counter.flush(|| format!("kvasir_rejected_requests_total|status={status}"));
        }
        for (pool, stats) in &mut self.pools {
            for (endpoint, counter) in &mut stats.requests {
                counter.flush(|| format!("kvasir_requests_total|pool={pool}|endpoint={endpoint}"));
            }
            for (name, counter) in [
                ("kvasir_fallbacks_total", &mut stats.fallbacks),
                ("kvasir_over_budget_total", &mut stats.over_budget),
                ("kvasir_circuits_opened_total", &mut stats.circuits_opened),
                ("kvasir_circuits_closed_total", &mut stats.circuits_closed),
                ("kvasir_stalls_total", &mut stats.stalls),
                ("kvasir_flow_queued_total", &mut stats.queued),
                ("kvasir_flow_refused_total", &mut stats.expired),
                ("kvasir_responses_total", &mut stats.responses),
                ("kvasir_prompt_tokens_total", &mut stats.prompt_tokens),
                ("kvasir_cached_tokens_total", &mut stats.cached_tokens),
                ("kvasir_predictions_total", &mut stats.predictions),
                ("kvasir_prediction_error_tokens_total", &mut stats.prediction_error),
            ] {
                counter.flush(|| format!("{name}|pool={pool}"));
            }
        }
    }

    /// Tells the host. The process-wide gauges are written by the leader alone, so that no dead VM's share can leak.
    pub(crate) fn tick(&mut self, brain: &Brain, leader: bool, now: Timestamp) {
        self.flush();
        if !leader || now.since(self.gauges_at) < GAUGES_EVERY {
            return;
        }
        self.gauges_at = now;
        self.gauge("kvasir_table_version", brain.table().version.version);
        let silence = brain.last_heard().map_or(u128::MAX, |heard| now.since(heard).as_millis());
        self.gauge("kvasir_table_age_milliseconds", u64::try_from(silence).unwrap_or(u64::MAX / 2));
        for (name, pool) in &brain.table().pools {
            let chunks = u64::try_from(pool.residency.len()).unwrap_or(u64::MAX);
            self.gauge(&format!("kvasir_resident_chunks|pool={name}"), chunks);
        }
        let (waiting, decoding) = brain.ledger.busy().fold((0, 0), |(waiting, decoding), (_, work)| {
            (waiting + u64::from(work.waiting), decoding + u64::from(work.decoding))
        });
        self.gauge("kvasir_in_flight|stage=waiting", waiting);
        self.gauge("kvasir_in_flight|stage=decoding", decoding);
        self.gauge("kvasir_observations_dropped", brain.outbox.dropped());
    }

    fn gauge(&mut self, name: &str, value: u64) {
        let mut known = self.gauges.get(name).copied();
        if let Some(metric) = number(&mut known, MetricKind::Gauge, || name.to_owned()) {
            self.gauges.insert(name.to_owned(), metric);
            // As for counters.
            let _unrecorded = host::record_metric(metric, value);
        }
    }
}
