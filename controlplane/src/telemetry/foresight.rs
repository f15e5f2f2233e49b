//! Predicted against seen latencies, as metrics.

use std::fmt::Error;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::publish::foresight::BUCKETS;
use crate::publish::status::PoolStatus;

/// Everything of `pools`.
pub(super) fn encode(pools: &[PoolStatus], encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    let help =
        "Relative error of predicted latencies: |predicted - seen| / seen; ttft is to the first token, tpot per token";
    let mut family = encoder.encode_descriptor("latency_prediction_error", help, None, MetricType::Histogram)?;
    for pool in pools {
        for (kind, errors) in &pool.latency.kinds {
            let labels = [("pool", pool.name.as_str()), ("kind", *kind)];
            let ends = BUCKETS.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = ends.zip(errors.buckets).collect();
            let count = errors.buckets.iter().sum();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(errors.sum, count, &buckets, None)?;
        }
    }
    Ok(())
}
