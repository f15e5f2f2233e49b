//! Predictions against what engines said, as metrics: how far off, how often a route was wrong, and whether engines confirm
//! our rendering.

use std::fmt::Error;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use crate::publish::status::PoolStatus;
use crate::publish::truth::{BUCKETS, Errors, Judged};

type Total = (&'static str, &'static str, fn(&Judged) -> u64);

const TOTALS: [Total; 2] = [
    ("predictions", "Predictions of cached tokens that an engine's usage could be held against", |j| j.predictions),
    ("wrong_routes", "Of these, prompts that found less than another pod was believed to hold", |j| j.wrong_routes),
];

/// Everything of `pools`.
pub(super) fn encode(pools: &[PoolStatus], encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    let help = "Predicted against cached tokens of a prompt: over is predicted beyond cached, under the reverse";
    let mut family = encoder.encode_descriptor("prediction_error_tokens", help, None, MetricType::Histogram)?;
    for pool in pools {
        for (mode, judged) in modes(pool) {
            for (direction, errors) in [("over", &judged.over), ("under", &judged.under)] {
                let labels = [("pool", pool.name.as_str()), ("mode", mode), ("direction", direction)];
                let mut metric = family.encode_family(&labels)?;
                metric.encode_histogram::<NoLabelSet>(float(errors.sum), judged.predictions, &buckets(errors), None)?;
            }
        }
    }
    for (name, help, read) in TOTALS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for pool in pools {
            for (mode, judged) in modes(pool) {
                let labels = [("pool", pool.name.as_str()), ("mode", mode)];
                ConstCounter::new(read(judged)).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    let help = "Rendered prompts by whether their engine announced them as they were rendered";
    let mut family = encoder.encode_descriptor("rendered_prompts", help, None, MetricType::Counter)?;
    for pool in pools {
        let totals = &pool.prefixes.totals;
        let outcomes = [
            ("confirmed", totals.confirmed_prompts),
            ("unconfirmed", totals.unconfirmed_prompts),
            ("skipped", totals.skipped_prompts),
        ];
        for (outcome, count) in outcomes {
            let labels = [("pool", pool.name.as_str()), ("outcome", outcome)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// Those that a prediction was ever made in.
fn modes(pool: &PoolStatus) -> impl Iterator<Item = (&'static str, &Judged)> {
    let modes = pool.prefixes.truth.modes.iter().filter(|(_, judged)| judged.predictions > 0);
    modes.map(|(mode, judged)| (*mode, judged))
}

fn buckets(errors: &Errors) -> Vec<(f64, u64)> {
    let ends = BUCKETS.into_iter().map(f64::from).chain([f64::INFINITY]);
    ends.zip(errors.counts).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a sum of tokens stays far below 2^53")]
const fn float(sum: u64) -> f64 {
    sum as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::registry::Registry;
    use shared::wire::Completion;
    use tokio::sync::watch;

    use super::super::tables::TableCollector;
    use super::*;
    use crate::publish::status::Status;
    use crate::publish::truth::{Mode, Truth};

    #[test]
    fn errors_are_a_histogram_by_mode_and_direction() {
        let mut truth = Truth::default();
        let prompt = Completion {
            prompt_tokens: 1000,
            has_cached_tokens: true,
            predicted_elsewhere_tokens: Some(500),
            ..Completion::default()
        };
        for predicted in [500, 10] {
            let completion = Completion { predicted_cached_tokens: predicted, ..prompt };
            truth.observe(&completion, Mode::Exact, 16);
        }
        let mut pool = PoolStatus { name: "p".to_owned(), ..PoolStatus::default() };
        pool.prefixes.truth = truth.status();
        pool.prefixes.totals.unconfirmed_prompts = 3;
        let (_keep, status) = watch::channel(Arc::new(Status { pools: vec![pool], ..Status::default() }));
        let mut registry = Registry::with_prefix("kvasir");
        registry.register_collector(Box::new(TableCollector::new(status)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"kvasir_prediction_error_tokens_bucket{le="0.0",pool="p",mode="exact",direction="over"} 0"#,
            r#"kvasir_prediction_error_tokens_bucket{le="16.0",pool="p",mode="exact",direction="over"} 1"#,
            r#"kvasir_prediction_error_tokens_bucket{le="+Inf",pool="p",mode="exact",direction="over"} 2"#,
            r#"kvasir_prediction_error_tokens_sum{pool="p",mode="exact",direction="over"} 510.0"#,
            r#"kvasir_prediction_error_tokens_bucket{le="0.0",pool="p",mode="exact",direction="under"} 2"#,
            r#"kvasir_predictions_total{pool="p",mode="exact"} 2"#,
            r#"kvasir_wrong_routes_total{pool="p",mode="exact"} 1"#,
            r#"kvasir_rendered_prompts_total{pool="p",outcome="unconfirmed"} 3"#,
            r#"kvasir_prefix_doubted{pool="p"} 0"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("learned\""), "{text}");
    }
}
