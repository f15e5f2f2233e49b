//! What the endpoint picker counts, under the names that the filter uses, with `epp` before them. Labels are pools of the
//! configuration and our own statuses, never a client's words.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use shared::brain::{Brain, Turned};
use shared::lifecycle::Event;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pool {
    pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: u16,
}

type Times = Family<Pool, Histogram, fn() -> Histogram>;

/// Clones count together.
#[derive(Clone, Debug)]
pub struct Stats {
    streams: Gauge,
    opened: Counter,
    broken: Counter,
    refused: Counter,
    decisions: Histogram,
    requests: Family<Pool, Counter>,
    rejected: Family<Status, Counter>,
    over_budget: Family<Pool, Counter>,
    fallbacks: Family<Pool, Counter>,
    circuits_opened: Family<Pool, Counter>,
    circuits_closed: Family<Pool, Counter>,
    stalls: Family<Pool, Counter>,
    responses: Family<Pool, Counter>,
    prompt_tokens: Family<Pool, Counter>,
    cached_tokens: Family<Pool, Counter>,
    first_token: Times,
    output_token: Times,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            streams: Gauge::default(),
            opened: Counter::default(),
            broken: Counter::default(),
            refused: Counter::default(),
            decisions: Histogram::new([1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 0.1]),
            requests: Family::default(),
            rejected: Family::default(),
            over_budget: Family::default(),
            fallbacks: Family::default(),
            circuits_opened: Family::default(),
            circuits_closed: Family::default(),
            stalls: Family::default(),
            responses: Family::default(),
            prompt_tokens: Family::default(),
            cached_tokens: Family::default(),
            first_token: Family::new_with_constructor(first_token_buckets),
            output_token: Family::new_with_constructor(output_token_buckets),
        }
    }
}

fn first_token_buckets() -> Histogram {
    Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}

fn output_token_buckets() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5])
}

impl Stats {
    /// Counts a stream for as long as the answer is kept.
    #[must_use]
    pub fn open(&self) -> Open {
        self.opened.inc();
        self.streams.inc();
        Open(self.streams.clone())
    }

    /// Streams in flight.
    #[must_use]
    pub fn streams(&self) -> i64 {
        self.streams.get()
    }

    /// A stream broke off in its middle.
    pub fn broke(&self) {
        self.broken.inc();
    }

    /// A segment of the table was refused.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// What happened to a request in a step that took this long.
    pub fn count(&self, event: &Event, took: Duration) {
        let label = |pool: &String| Pool { pool: pool.clone() };
        match event {
            Event::Routed { pool, .. } => {
                self.requests.get_or_create_owned(&label(pool)).inc();
                self.decisions.observe(took.as_secs_f64());
            }
            Event::Rejected { status } => {
                self.rejected.get_or_create_owned(&Status { status: *status }).inc();
            }
            Event::OverBudget { pool } => {
                self.over_budget.get_or_create_owned(&label(pool)).inc();
            }
            Event::FirstToken { pool, milliseconds } => {
                let seconds = Duration::from_millis(*milliseconds).as_secs_f64();
                self.first_token.get_or_create_owned(&label(pool)).observe(seconds);
            }
            Event::Completed { pool, tpot_microseconds, prompt_tokens, cached_tokens, prediction_error: _ } => {
                let label = label(pool);
                self.responses.get_or_create_owned(&label).inc();
                self.prompt_tokens.get_or_create_owned(&label).inc_by(*prompt_tokens);
                self.cached_tokens.get_or_create_owned(&label).inc_by(*cached_tokens);
                if let Some(micros) = tpot_microseconds {
                    let seconds = Duration::from_micros(*micros).as_secs_f64();
                    self.output_token.get_or_create_owned(&label).observe(seconds);
                }
            }
            Event::Queued { .. } | Event::LeftQueue { .. } => {}
            Event::FellBack { pool } => {
                self.fallbacks.get_or_create_owned(&label(pool)).inc();
            }
            Event::Turned(turned) => self.turned(turned),
        }
    }

    /// What became of an endpoint.
    pub fn turned(&self, turned: &Turned) {
        let (counts, pool) = match turned {
            Turned::Stalled { pool } => (&self.stalls, pool),
            Turned::Opened { pool } => (&self.circuits_opened, pool),
            Turned::Closed { pool } => (&self.circuits_closed, pool),
        };
        counts.get_or_create_owned(&Pool { pool: pool.clone() }).inc();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stage {
    stage: &'static str,
}

impl Stats {
    /// Everything, with what `brain` knows at the moment.
    ///
    /// # Errors
    /// When the encoder refuses.
    pub fn encode(&self, brain: &Brain, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.encode_counted(encoder)?;
        let (waiting, decoding) = brain.ledger.busy().fold((0_i64, 0_i64), |(waiting, decoding), (_, work)| {
            (waiting + i64::from(work.waiting), decoding + i64::from(work.decoding))
        });
        let in_flight = Family::<Stage, Gauge>::default();
        for (stage, count) in [("waiting", waiting), ("decoding", decoding)] {
            in_flight.get_or_create_owned(&Stage { stage }).set(count);
        }
        let chunks = Family::<Pool, Gauge>::default();
        for (name, pool) in &brain.table().pools {
            let count = i64::try_from(pool.residency.len()).unwrap_or(i64::MAX);
            chunks.get_or_create_owned(&Pool { pool: name.clone() }).set(count);
        }
        let version = ConstGauge::new(brain.table().version.version);
        let dropped = ConstCounter::new(brain.outbox.dropped());
        let mut put = |name: &str, help: &str, metric: &dyn Encode| metric.put(encoder, name, help);
        put("epp_in_flight", "Requests that the endpoint picker has booked", &in_flight)?;
        put("epp_resident_chunks", "Prefix chunks that are held somewhere", &chunks)?;
        put("epp_table_version", "The table in force", &version)?;
        put("epp_observations_dropped", "Observations dropped for lack of room", &dropped)
    }

    fn encode_counted(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut put = |name: &str, help: &str, metric: &dyn Encode| metric.put(encoder, name, help);
        put("epp_streams", "Requests that the endpoint picker follows now", &self.streams)?;
        put("epp_streams_opened", "Streams that gateways opened", &self.opened)?;
        put("epp_broken_streams", "Streams that broke off before their end", &self.broken)?;
        put("epp_table_refusals", "Segments of the table that were refused", &self.refused)?;
        put("epp_decision_duration_seconds", "Time of the step that chose an endpoint", &self.decisions)?;
        put("epp_requests", "Requests that an endpoint was chosen for", &self.requests)?;
        put("epp_rejected_requests", "Requests that were answered instead", &self.rejected)?;
        put("epp_over_budget", "Requests that were refused because of their tenant's budget", &self.over_budget)?;
        put("epp_circuits_opened", "Endpoints that were left alone after failures", &self.circuits_opened)?;
        put("epp_circuits_closed", "Endpoints that were left alone and serve again", &self.circuits_closed)?;
        put("epp_stalls", "Requests without a first token in time", &self.stalls)?;
        put("epp_fallbacks", "Requests that another endpoint than the first choice answered", &self.fallbacks)?;
        put("epp_responses", "Responses that came to their end", &self.responses)?;
        put("epp_prompt_tokens", "Prompt tokens, by the engines' word", &self.prompt_tokens)?;
        put("epp_cached_tokens", "Prompt tokens from prefix caches, by the engines' word", &self.cached_tokens)?;
        put("epp_time_to_first_token_seconds", "From the choice to the first token", &self.first_token)?;
        put("epp_time_per_output_token_seconds", "Between two tokens, on average of a response", &self.output_token)
    }
}

/// A metric that can be put under a name.
trait Encode {
    fn put(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> Result<(), fmt::Error>;
}

impl<M: EncodeMetric> Encode for M {
    fn put(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> Result<(), fmt::Error> {
        let family = encoder.encode_descriptor(name, help, None, self.metric_type())?;
        self.encode(family)
    }
}

/// A stream in flight.
#[derive(Debug)]
pub struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
