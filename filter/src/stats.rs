//! Envoy statistics. Labels travel in the name (`|pool=...`), for Envoy's tag extraction; without it the names still
//! tell. Endpoints come from the table, never from a client.

use core::time::Duration;
use std::collections::HashMap;

use shared::brain::Brain;
use shared::clock::Timestamp;
use shared::lifecycle::{Effect, Event};

use crate::host::{self, MetricKind};

const GAUGES_EVERY: Duration = Duration::from_millis(500);

/// The metrics that this VM has defined.
#[derive(Default)]
pub(crate) struct Stats {
    numbers: HashMap<String, u32>,
    gauges_at: Timestamp,
    refusals: u64,
}

impl Stats {
    /// A decision took this long, in the callback that made it, body scan included.
    pub(crate) fn decided(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.record(MetricKind::Histogram, "kvasir_decision_microseconds", micros);
    }

    /// A request was let go because the host could not hold it.
    pub(crate) fn rescued(&mut self) {
        self.add("kvasir_rescued_requests_total", 1);
    }

    /// This VM has refused so many table segments, ever.
    pub(crate) fn refused(&mut self, refusals: u64) {
        self.add("kvasir_table_refusals_total", refusals.saturating_sub(self.refusals));
        self.refusals = refusals;
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
            Event::Routed { pool, endpoint } => {
                self.add(&format!("kvasir_requests_total|pool={pool}|endpoint={endpoint}"), 1);
            }
            Event::Rejected { status } => self.add(&format!("kvasir_rejected_requests_total|status={status}"), 1),
            Event::FellBack { pool } => self.add(&format!("kvasir_fallbacks_total|pool={pool}"), 1),
            Event::FirstToken { pool, milliseconds } => {
                let name = format!("kvasir_time_to_first_token_milliseconds|pool={pool}");
                self.record(MetricKind::Histogram, &name, *milliseconds);
            }
            Event::Completed { pool, tpot_microseconds, prompt_tokens, cached_tokens, prediction_error } => {
                self.add(&format!("kvasir_responses_total|pool={pool}"), 1);
                self.add(&format!("kvasir_prompt_tokens_total|pool={pool}"), *prompt_tokens);
                self.add(&format!("kvasir_cached_tokens_total|pool={pool}"), *cached_tokens);
                if let Some(tpot) = tpot_microseconds {
                    let name = format!("kvasir_time_per_output_token_microseconds|pool={pool}");
                    self.record(MetricKind::Histogram, &name, *tpot);
                }
                if let Some(error) = prediction_error {
                    let name = format!("kvasir_cached_tokens_prediction_error|pool={pool}");
                    self.record(MetricKind::Histogram, &name, *error);
                }
            }
        }
    }

    /// The gauges: process-wide figures are written by the leader alone, so that no dead VM's share can leak.
    pub(crate) fn tick(&mut self, brain: &Brain, leader: bool, now: Timestamp) {
        if !leader || now.since(self.gauges_at) < GAUGES_EVERY {
            return;
        }
        self.gauges_at = now;
        self.record(MetricKind::Gauge, "kvasir_table_version", brain.table().version.version);
        let silence = brain.last_heard().map_or(u128::MAX, |heard| now.since(heard).as_millis());
        let silence = u64::try_from(silence).unwrap_or(u64::MAX / 2);
        self.record(MetricKind::Gauge, "kvasir_table_age_milliseconds", silence);
        for (name, pool) in &brain.table().pools {
            let chunks = u64::try_from(pool.residency.len()).unwrap_or(u64::MAX);
            self.record(MetricKind::Gauge, &format!("kvasir_resident_chunks|pool={name}"), chunks);
        }
        let (waiting, decoding) = brain.ledger.busy().fold((0, 0), |(waiting, decoding), (_, work)| {
            (waiting + u64::from(work.waiting), decoding + u64::from(work.decoding))
        });
        self.record(MetricKind::Gauge, "kvasir_in_flight|stage=waiting", waiting);
        self.record(MetricKind::Gauge, "kvasir_in_flight|stage=decoding", decoding);
        self.record(MetricKind::Gauge, "kvasir_observations_dropped", brain.outbox.dropped());
    }

    fn add(&mut self, name: &str, amount: u64) {
        if amount > 0
            && let Some(metric) = self.number(MetricKind::Counter, name)
        {
            // A statistic that cannot be counted is not worth a request.
            let _uncounted = host::increment_metric(metric, i64::try_from(amount).unwrap_or(i64::MAX));
        }
    }

    fn record(&mut self, kind: MetricKind, name: &str, value: u64) {
        if let Some(metric) = self.number(kind, name) {
            // As above.
            let _unrecorded = host::record_metric(metric, value);
        }
    }

    fn number(&mut self, kind: MetricKind, name: &str) -> Option<u32> {
        if let Some(&number) = self.numbers.get(name) {
            return Some(number);
        }
        let number = host::define_metric(kind, name).ok()?;
        self.numbers.insert(name.to_owned(), number);
        Some(number)
    }
}
