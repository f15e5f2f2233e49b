//! Histograms of finished work on one engine, with vLLM's names and bucket bounds.
//!
//! Times arrive in the engine's seconds and are kept in the scraper's: divided by the speedup.

use crate::engine::Usage;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinishReason {
    /// The model stopped by itself.
    Stop,
    /// It reached the caller's limit.
    Length,
    /// The caller went away.
    Abort,
}

impl FinishReason {
    /// In the order they are exported.
    pub(crate) const ALL: [Self; 3] = [Self::Stop, Self::Length, Self::Abort];

    /// As on the wire and in labels.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Abort => "abort",
        }
    }
}

const TTFT: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];
const PER_TOKEN: &[f64] =
    &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];
const REQUEST: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
];
const TOKENS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0, 50_000.0,
    100_000.0, 200_000.0,
];

/// A Prometheus histogram.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len()], sum: 0.0, count: 0 }
    }

    /// Adds one value.
    pub(crate) fn observe(&mut self, value: f64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += value;
        self.count += 1;
    }

    /// Upper bounds with cumulated counts, `+Inf` excluded.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        self.bounds.iter().zip(&self.counts).scan(0, |total, (&bound, &count)| {
            *total += count;
            Some((bound, *total))
        })
    }

    pub(crate) fn sum(&self) -> f64 {
        self.sum
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

/// All histograms and success counters of one engine.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    speedup: f64,
    finished: [u64; 3],
    time_to_first_token: Histogram,
    inter_token_latency: Histogram,
    time_per_output_token: Histogram,
    e2e_latency: Histogram,
    queue_time: Histogram,
    prefill_time: Histogram,
    decode_time: Histogram,
    inference_time: Histogram,
    prompt_tokens: Histogram,
    generation_tokens: Histogram,
}

impl Observed {
    pub(crate) fn new(speedup: f64) -> Self {
        Self {
            speedup,
            finished: [0; 3],
            time_to_first_token: Histogram::new(TTFT),
            inter_token_latency: Histogram::new(PER_TOKEN),
            time_per_output_token: Histogram::new(PER_TOKEN),
            e2e_latency: Histogram::new(REQUEST),
            queue_time: Histogram::new(REQUEST),
            prefill_time: Histogram::new(REQUEST),
            decode_time: Histogram::new(REQUEST),
            inference_time: Histogram::new(REQUEST),
            prompt_tokens: Histogram::new(TOKENS),
            generation_tokens: Histogram::new(TOKENS),
        }
    }

    /// A first token, this long (engine seconds) after the request came.
    pub(crate) fn first_token(&mut self, after: f64) {
        self.time_to_first_token.observe(after / self.speedup);
    }

    /// A later token, this long (engine seconds) after the one before.
    pub(crate) fn next_token(&mut self, gap: f64) {
        self.inter_token_latency.observe(gap / self.speedup);
    }

    /// A request that ended. Aborted ones are counted and not measured.
    pub(crate) fn ended(&mut self, reason: FinishReason, usage: Option<&Usage>) {
        for (count, candidate) in self.finished.iter_mut().zip(FinishReason::ALL) {
            *count += u64::from(candidate == reason);
        }
        let Some(usage) = usage else { return };
        let seconds = |from: f64, to: f64| (to - from).max(0.0) / self.speedup;
        let decode = seconds(usage.first_token_at, usage.finished_at);
        self.e2e_latency.observe(seconds(usage.submitted_at, usage.finished_at));
        self.queue_time.observe(seconds(usage.queued_at, usage.scheduled_at));
        self.prefill_time.observe(seconds(usage.scheduled_at, usage.first_token_at));
        self.inference_time.observe(seconds(usage.scheduled_at, usage.finished_at));
        self.decode_time.observe(decode);
        if usage.output_tokens > 1 {
            self.time_per_output_token.observe(decode / f64::from(usage.output_tokens - 1));
        }
        self.prompt_tokens.observe(f64::from(usage.prompt_tokens));
        self.generation_tokens.observe(f64::from(usage.output_tokens));
    }

    /// Requests ended, by reason.
    pub(crate) fn finished(&self) -> impl Iterator<Item = (FinishReason, u64)> + '_ {
        FinishReason::ALL.into_iter().zip(self.finished)
    }

    /// Name, help and values of every histogram.
    pub(crate) fn histograms(&self) -> [(&'static str, &'static str, &Histogram); 10] {
        [
            ("time_to_first_token_seconds", "Histogram of time to first token in seconds.", &self.time_to_first_token),
            ("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", &self.inter_token_latency),
            (
                "request_time_per_output_token_seconds",
                "Histogram of time_per_output_token_seconds per request.",
                &self.time_per_output_token,
            ),
            ("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", &self.e2e_latency),
            ("request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", &self.queue_time),
            (
                "request_inference_time_seconds",
                "Histogram of time spent in RUNNING phase for request.",
                &self.inference_time,
            ),
            (
                "request_prefill_time_seconds",
                "Histogram of time spent in PREFILL phase for request.",
                &self.prefill_time,
            ),
            ("request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", &self.decode_time),
            ("request_prompt_tokens", "Number of prefill tokens processed.", &self.prompt_tokens),
            ("request_generation_tokens", "Number of generation tokens processed.", &self.generation_tokens),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_counts_cumulate() {
        let mut histogram = Histogram::new(&[1.0, 2.0]);
        for value in [1.0, 1.5, 2.5] {
            histogram.observe(value);
        }
        assert_eq!(histogram.buckets().map(|(_, count)| count).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(histogram.count(), 3);
    }
}
