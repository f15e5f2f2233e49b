//! All that is fitted for one pool. Samples come from every gateway's reports, so an endpoint's slowness is known as soon
//! with 256 gateways as with one.

use std::collections::BTreeMap;

use shared::identity::EndpointId;
use shared::wire::{Completion, FirstToken, Rates};

use super::average::Average;
use super::first_token::FirstTokenFit;
use super::fit::{Line, LineFit, Prior};
use super::margin::Margin;
use super::real;
use super::slowness::{Slowness, typical};

/// Seconds of prefill per uncached token of a 32B model on two H100.
const X: f64 = 65e-6;
/// Seconds per step and context token of the running batch, same bed.
const K: f64 = 44e-9;
/// Attention's share of prefill, seconds per token and context token; a matter of model size, not fitted.
const Y: f64 = 2e-9;
/// Reload from host memory, seconds per token; not fitted.
const Z: f64 = 6e-6;
const TTFT: Prior = Prior {
    line: Line { intercept: 0.03, slope: X },
    typical: 4_000.0,
    intercepts: (0.0, 1.0),
    slopes: (X / 4.0, X * 4.0),
};
const TPOT: Prior = Prior {
    line: Line { intercept: 0.015, slope: K },
    typical: 200_000.0,
    intercepts: (0.001, 0.5),
    slopes: (K / 4.0, K * 4.0),
};
/// Longer times are a stuck client or a clock, not an engine.
const LONGEST_TTFT: f64 = 600.0;
const LONGEST_TPOT: f64 = 10.0;

/// The rates of one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetRates {
    ttft: LineFit,
    tpot: LineFit,
    first_token: FirstTokenFit,
    output_tokens: Average,
    bytes_per_token: Average,
    margin: Margin,
    slowness: BTreeMap<EndpointId, Slowness>,
    /// The fleet's median ratio of observed to predicted, and the samples since it was taken.
    typical: f64,
    untaken: usize,
}

impl Default for FleetRates {
    fn default() -> Self {
        Self {
            ttft: LineFit::new(TTFT),
            tpot: LineFit::new(TPOT),
            first_token: FirstTokenFit::default(),
            output_tokens: Average::new(300.0, 0.02, 16.0, 1_000_000.0),
            bytes_per_token: Average::new(4.0, 0.02, 1.0, 16.0),
            margin: Margin::default(),
            slowness: BTreeMap::new(),
            typical: 1.0,
            untaken: 0,
        }
    }
}

impl FleetRates {
    /// A request's first token arrived.
    pub fn first_token(&mut self, sample: &FirstToken) {
        if sample.ttft_seconds > 0.0 && sample.ttft_seconds <= LONGEST_TTFT {
            self.ttft.observe(real(sample.tokens_ahead), sample.ttft_seconds);
            self.first_token.observe(sample, sample.ttft_seconds / self.slowness(EndpointId(sample.endpoint)));
        }
    }

    /// A request ended well.
    pub fn completion(&mut self, sample: &Completion) {
        if sample.tpot_seconds > 0.0 && sample.tpot_seconds <= LONGEST_TPOT {
            let context = real(sample.context_tokens);
            let predicted = self.tpot.line().at(context);
            self.slowness.entry(EndpointId(sample.endpoint)).or_default().observe(sample.tpot_seconds, predicted);
            self.tpot.observe(context, sample.tpot_seconds);
            self.take_typical();
            self.margin.observe(sample.tpot_seconds, sample.predicted_tpot_seconds, sample.output_tokens);
        }
        if sample.output_tokens > 0 {
            self.output_tokens.observe(f64::from(sample.output_tokens));
        }
        if sample.prompt_tokens > 0 && sample.prompt_bytes > 0 {
            self.bytes_per_token.observe(real(sample.prompt_bytes) / f64::from(sample.prompt_tokens));
        }
    }

    /// Sorting the whole fleet is left to every eighth of its size, which moves the median by little.
    fn take_typical(&mut self) {
        self.untaken += 1;
        if self.untaken * 8 >= self.slowness.len() {
            self.untaken = 0;
            self.typical = typical(self.slowness.values().map(Slowness::ratio));
        }
    }

    /// The endpoint is gone; under the same address may come another machine.
    pub fn forget(&mut self, endpoint: EndpointId) {
        self.slowness.remove(&endpoint);
    }

    /// 1 for an endpoint without samples.
    #[must_use]
    pub fn slowness(&self, endpoint: EndpointId) -> f64 {
        self.slowness.get(&endpoint).map_or(1.0, |slowness| slowness.factor(self.typical))
    }

    /// Bytes of prompt per token, 1..=16.
    #[must_use]
    pub const fn bytes_per_token(&self) -> f64 {
        self.bytes_per_token.get()
    }

    /// Output tokens per request, >= 16.
    #[must_use]
    pub const fn output_tokens(&self) -> f64 {
        self.output_tokens.get()
    }

    /// As gateways get them.
    #[must_use]
    pub fn wire(&self) -> Rates {
        let (ttft, tpot) = (self.ttft.line(), self.tpot.line());
        Rates {
            x: ttft.slope,
            t0: ttft.intercept,
            k: tpot.slope,
            s0: tpot.intercept,
            y: Y,
            z: Z,
            output_tokens: self.output_tokens.get(),
            bytes_per_token: self.bytes_per_token.get(),
            tpot_margin: self.margin.get().unwrap_or(0.0),
            first_token: self.first_token.model(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deterministic, about normal: mean 0, standard deviation 1.
    struct Noise(u64);

    impl Noise {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from(u32::try_from(self.0 >> 32).unwrap()) / f64::from(u32::MAX)
        }

        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
        }
    }

    fn completion(endpoint: u64, context: u64, tpot: f64) -> Completion {
        Completion { endpoint, status: 200, tpot_seconds: tpot, context_tokens: context, ..Completion::default() }
    }

    fn true_tpot(context: u64, noise: &mut Noise) -> f64 {
        ((0.013 + 40e-9 * real(context)) * (1.0 + 0.2 * noise.normal())).max(0.002)
    }

    #[test]
    fn short_prompts_alone_keep_x_within_thirty_percent_of_the_truth() {
        for seed in 0..20 {
            let (mut rates, mut noise, truth) = (FleetRates::default(), Noise(seed), 57e-6);
            for _ in 0..20_000 {
                noise.uniform();
                let tokens_ahead = 64 + (noise.0 >> 32) % 448;
                let ttft_seconds = (0.033 + truth * real(tokens_ahead) + 0.008 * noise.normal()).max(0.005);
                rates.first_token(&FirstToken { endpoint: 1, ttft_seconds, tokens_ahead, ..FirstToken::default() });
                let x = rates.wire().x;
                assert!((x / truth - 1.0).abs() <= 0.3, "seed {seed}: x {x:e}");
            }
        }
    }

    #[test]
    fn engines_faster_than_the_prior_do_not_make_the_first_pod_that_answers_look_fast() {
        let mut rates = FleetRates::default();
        for round in 0..60 {
            rates.completion(&completion(round % 3, 50_000, 0.003));
            for pod in 0..4 {
                let factor = rates.slowness(EndpointId(pod));
                assert!((factor - 1.0).abs() < 1e-9, "round {round}: pod {pod} has {factor}");
            }
        }
    }

    #[test]
    fn a_pod_at_half_speed_is_recognised_and_forgiven() {
        let (mut rates, mut noise) = (FleetRates::default(), Noise(1));
        let mut phase = |rates: &mut FleetRates, slow: f64| {
            for i in 0..8 * 150u64 {
                let (pod, context) = (i % 8, 20_000 + (i * 7919) % 100_000);
                let factor = if pod == 3 { slow } else { 1.0 };
                rates.completion(&completion(pod, context, factor * true_tpot(context, &mut noise)));
            }
        };
        phase(&mut rates, 2.0);
        assert!(rates.slowness(EndpointId(3)) > 1.5, "{}", rates.slowness(EndpointId(3)));
        assert!((rates.slowness(EndpointId(2)) - 1.0).abs() < 1e-9);
        phase(&mut rates, 1.0);
        assert!((rates.slowness(EndpointId(3)) - 1.0).abs() < 1e-9, "{}", rates.slowness(EndpointId(3)));
    }

    #[test]
    fn equal_pods_with_noise_are_equal_in_99_percent_of_samples() {
        let (mut rates, mut noise) = (FleetRates::default(), Noise(2));
        let (mut steered, mut seen) = (0u32, 0u32);
        for i in 0..40_000u64 {
            let (pod, context) = (i % 8, 20_000 + (i * 7919) % 100_000);
            rates.completion(&completion(pod, context, true_tpot(context, &mut noise)));
            seen += 1;
            steered += u32::from((rates.slowness(EndpointId(pod)) - 1.0).abs() > 1e-9);
        }
        assert!(steered * 100 < seen, "{steered} of {seen}");
    }

    #[test]
    fn averages_follow_usage_within_their_bounds() {
        let mut rates = FleetRates::default();
        for _ in 0..2000 {
            let prompt = Completion { prompt_bytes: 6000, prompt_tokens: 2000, ..completion(1, 0, 0.0) };
            rates.completion(&Completion { output_tokens: 2, ..prompt });
        }
        assert!((rates.bytes_per_token() - 3.0).abs() < 0.01);
        assert!((rates.output_tokens() - 16.0).abs() < 0.01);
        rates.completion(&Completion { tpot_seconds: f64::NAN, ..completion(1, u64::MAX, 0.0) });
        assert!((rates.slowness(EndpointId(1)) - 1.0).abs() < 1e-9);
    }
}
