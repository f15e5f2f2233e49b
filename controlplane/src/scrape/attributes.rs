//! Numbers about an endpoint that only a scheduling profile asks for: custom metrics of its engine, and how busy its GPUs
//! are by NVIDIA's DCGM exporter. A number that is not there is not in the map: unknown, never 0.

use std::collections::BTreeMap;
use std::time::Duration;

use super::engine::Engine;
use super::exposition::{Sample, samples};

/// DCGM's gauge of a GPU's utilization, percent.
const GPU_PERCENT: &str = "DCGM_FI_DEV_GPU_UTIL";

/// Where each attribute of a pool's profile comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// From the engine's own metrics.
    pub custom: Vec<Custom>,
    /// From a DCGM exporter at the endpoint's address.
    pub gpu: Option<Gpu>,
}

/// An attribute from an engine's metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custom {
    /// Name of the attribute.
    pub attribute: String,
    /// Only endpoints of this engine have it.
    pub engine: Engine,
    /// Which series.
    pub metric: MetricSpec,
}

/// The attribute from DCGM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Name of the attribute.
    pub attribute: String,
    /// Of the exporter.
    pub port: u16,
    /// Starts with `/`.
    pub path: String,
    /// How often it is asked, at most.
    pub interval: Duration,
}

/// Series of one name, all of whose labels have these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricSpec {
    name: String,
    labels: BTreeMap<String, String>,
}

impl MetricSpec {
    /// `name` or `name{label=value,other="value"}`; `None` when it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (name, labels) = match text.split_once('{') {
            Some((name, rest)) => (name.trim(), rest.strip_suffix('}')?.trim()),
            None => (text, ""),
        };
        let mut pairs = BTreeMap::new();
        for pair in labels.split(',').filter(|_| !labels.is_empty()) {
            let (label, value) = pair.split_once('=')?;
            let (label, value) = (label.trim(), value.trim());
            let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            if !is_name(label, false) || unquoted.contains('"') {
                return None;
            }
            pairs.insert(label.to_owned(), unquoted.to_owned());
        }
        is_name(name, true).then(|| Self { name: name.to_owned(), labels: pairs })
    }

    fn matches(&self, sample: &Sample<'_>) -> bool {
        let has = |(label, value): (&String, &String)| sample.label(label).is_some_and(|found| found == value.as_str());
        sample.name == self.name && self.labels.iter().all(has)
    }
}

fn is_name(text: &str, colons: bool) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    !text.is_empty() && text.chars().all(legal) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// The custom attributes of an endpoint of `engine` whose metrics are `text`; of several series the first.
#[must_use]
pub fn custom(text: &str, engine: Engine, wanted: &[Custom]) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let wanted: Vec<&Custom> = wanted.iter().filter(|custom| custom.engine == engine).collect();
    if wanted.is_empty() {
        return found;
    }
    for sample in samples(text) {
        for custom in wanted.iter().filter(|custom| custom.metric.matches(&sample)) {
            if let Some(value) = sample.value().filter(|value| value.is_finite()) {
                found.entry(custom.attribute.clone()).or_insert(value);
            }
        }
    }
    found
}

/// The busiest GPU of a DCGM exporter whose metrics are `text`, 0..=1. Where both the series and the endpoint name their pod,
/// it must be the same.
#[must_use]
pub fn gpu_utilization(text: &str, pod: Option<&str>) -> Option<f64> {
    let ours = |sample: &Sample<'_>| match (sample.label("pod"), pod) {
        (Some(theirs), Some(pod)) => theirs == pod,
        (None, _) | (_, None) => true,
    };
    let gauges = samples(text).filter(|sample| sample.name == GPU_PERCENT && ours(sample));
    let percents = gauges.filter_map(|sample| sample.value()).filter(|percent| percent.is_finite());
    percents.max_by(f64::total_cmp).map(|percent| (percent / 100.0).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(attribute: &str, engine: Engine, metric: &str) -> Custom {
        Custom { attribute: attribute.to_owned(), engine, metric: MetricSpec::parse(metric).unwrap() }
    }

    #[test]
    fn labels_are_the_same_with_and_without_quotes() {
        assert_eq!(MetricSpec::parse("a:b{x=1, y=\"z\"}"), MetricSpec::parse(" a:b {y=z,x=\"1\"} "));
        for bad in ["", "{x=1}", "a{x=1", "a{x}", "1a", "a b", "a{1=2}"] {
            assert_eq!(MetricSpec::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn custom_metrics_are_read_of_their_engine_only() {
        let text = "depth{queue=\"a\"} 3\ndepth{queue=\"b\"} 4\nheat NaN\n";
        let all = [
            wanted("b", Engine::Vllm, "depth{queue=b}"),
            wanted("first", Engine::Vllm, "depth"),
            wanted("heat", Engine::Vllm, "heat"),
            wanted("other", Engine::Sglang, "depth"),
        ];
        let got: Vec<(String, f64)> = custom(text, Engine::Vllm, &all).into_iter().collect();
        assert_eq!(got, [("b".to_owned(), 4.0), ("first".to_owned(), 3.0)]);
    }

    #[test]
    fn the_busiest_gpu_counts() {
        let text = "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 40\nDCGM_FI_DEV_GPU_UTIL{gpu=\"1\"} 85\nDCGM_FI_DEV_FB_USED 9\n";
        assert!((gpu_utilization(text, Some("a")).unwrap() - 0.85).abs() < 1e-12);
        assert_eq!(gpu_utilization("DCGM_FI_DEV_FB_USED 9\n", None), None);
        let shared = "DCGM_FI_DEV_GPU_UTIL{pod=\"a\"} 10\nDCGM_FI_DEV_GPU_UTIL{pod=\"b\"} 90\n";
        assert!((gpu_utilization(shared, Some("a")).unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(gpu_utilization(shared, Some("c")), None);
        assert!((gpu_utilization(shared, None).unwrap() - 0.9).abs() < 1e-12);
    }
}
