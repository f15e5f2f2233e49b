//! Reading Prometheus text.

/// The sum of all samples of `metric` and of those whose names it begins with a `_`, over all labels.
///
/// Envoy writes `name|stage=waiting` as a label when its tag extraction knows `stage`, else as `name_stage_waiting`.
#[must_use]
pub fn sum(text: &str, metric: &str) -> f64 {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    samples
        .filter(|(name, _)| {
            name.strip_prefix(metric).is_some_and(|rest| rest.is_empty() || rest.starts_with(['{', '_']))
        })
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn labels_are_summed_over_and_longer_words_are_other_metrics() {
        let text = "# TYPE a gauge\na{x=\"1\"} 2\na{x=\"2\"} 3\na_x_3{} 4\nab 100\n";
        assert!((sum(text, "a") - 9.0).abs() < 1e-9);
    }
}
