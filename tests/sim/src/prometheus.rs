//! vLLM's `/metrics` page of one engine. Names, labels and help are vLLM's; every series carries `engine` and `model_name`, the
//! two info metrics carry their own labels.

use std::fmt::{self, Write};

use crate::engine::{EngineConfig, EngineSnapshot};
use crate::observed::Observed;

/// Everything the page shows.
pub(crate) struct Page<'a> {
    pub(crate) model: &'a str,
    pub(crate) config: &'a EngineConfig,
    pub(crate) state: &'a EngineSnapshot,
    pub(crate) observed: &'a Observed,
    pub(crate) adapters: Adapters<'a>,
}

/// Adapter names of one engine.
pub(crate) struct Adapters<'a> {
    pub(crate) max: usize,
    pub(crate) running: &'a [String],
    pub(crate) waiting: &'a [String],
    /// Unix seconds of the page: the value of `lora_requests_info`.
    pub(crate) stamp: f64,
}

/// Writes the page.
pub(crate) fn render(page: &Page<'_>) -> Result<String, fmt::Error> {
    let mut out = String::with_capacity(16 * 1024);
    let labels = format!("engine=\"0\",model_name=\"{}\"", escape(page.model));
    gauges(&mut out, &labels, page.state)?;
    counters(&mut out, &labels, page.state)?;
    head(&mut out, "request_success_total", "Count of successfully processed requests.", "counter")?;
    for (reason, count) in page.observed.finished() {
        writeln!(out, "vllm:request_success_total{{{labels},finished_reason=\"{}\"}} {count}", reason.name())?;
    }
    for (name, help, histogram) in page.observed.histograms() {
        head(&mut out, name, help, "histogram")?;
        for (bound, count) in histogram.buckets() {
            writeln!(out, "vllm:{name}_bucket{{{labels},le=\"{bound:?}\"}} {count}")?;
        }
        writeln!(out, "vllm:{name}_bucket{{{labels},le=\"+Inf\"}} {}", histogram.count())?;
        writeln!(out, "vllm:{name}_count{{{labels}}} {}", histogram.count())?;
        writeln!(out, "vllm:{name}_sum{{{labels}}} {}", histogram.sum())?;
    }
    infos(&mut out, page)?;
    Ok(out)
}

fn gauges(out: &mut String, labels: &str, state: &EngineSnapshot) -> fmt::Result {
    let gauges = [
        ("num_requests_running", "Number of requests in model execution batches.", f64::from(state.running)),
        ("num_requests_waiting", "Number of requests waiting to be processed.", f64::from(state.waiting)),
        ("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", state.kv_used),
    ];
    for (name, help, value) in gauges {
        head(out, name, help, "gauge")?;
        writeln!(out, "vllm:{name}{{{labels}}} {value}")?;
    }
    Ok(())
}

fn counters(out: &mut String, labels: &str, state: &EngineSnapshot) -> fmt::Result {
    let counters = [
        ("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.", state.prefix_queries),
        ("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.", state.prefix_hits),
        ("num_preemptions", "Cumulative number of preemption from the engine.", state.preemptions),
        ("prompt_tokens", "Number of prefill tokens processed.", state.prompt_tokens),
        ("prompt_tokens_cached", "Number of cached prompt tokens (local + external).", state.cached_prompt_tokens),
        ("generation_tokens", "Number of generation tokens processed.", state.generation_tokens),
    ];
    for (name, help, value) in counters {
        head(out, &format!("{name}_total"), help, "counter")?;
        writeln!(out, "vllm:{name}_total{{{labels}}} {value}")?;
    }
    Ok(())
}

fn infos(out: &mut String, page: &Page<'_>) -> fmt::Result {
    let Page { config, adapters, .. } = page;
    head(out, "cache_config_info", "Information of the LLMEngine CacheConfig", "gauge")?;
    writeln!(
        out,
        "vllm:cache_config_info{{block_size=\"{size}\",enable_prefix_caching=\"True\",engine=\"0\",\
         hash_block_size=\"{size}\",kv_cache_size_tokens=\"{tokens}\",num_gpu_blocks=\"{blocks}\",\
         prefix_caching_hash_algo=\"sha256\"}} 1",
        size = config.block_size,
        blocks = config.num_gpu_blocks,
        tokens = u64::from(config.num_gpu_blocks) * u64::from(config.block_size),
    )?;
    if adapters.max == 0 {
        return Ok(());
    }
    head(out, "lora_requests_info", "Running stats on lora requests.", "gauge")?;
    writeln!(
        out,
        "vllm:lora_requests_info{{max_lora=\"{}\",running_lora_adapters=\"{}\",waiting_lora_adapters=\"{}\"}} {}",
        adapters.max,
        escape(&adapters.running.join(",")),
        escape(&adapters.waiting.join(",")),
        adapters.stamp,
    )
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) -> fmt::Result {
    writeln!(out, "# HELP vllm:{name} {help}\n# TYPE vllm:{name} {kind}")
}

/// A label value as the text format wants it.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;

    #[test]
    fn every_series_has_a_type_and_label_values_are_escaped() {
        let engine = Engine::new(EngineConfig::default()).unwrap();
        let (state, observed) = (engine.metrics(), Observed::new(1.0));
        let running = ["a\"b".to_owned()];
        let adapters = Adapters { max: 2, running: &running, waiting: &[], stamp: 1.5 };
        let page = Page { model: "m\"x", config: engine.config(), state: &state, observed: &observed, adapters };
        let text = render(&page).unwrap();
        let mut typed = std::collections::HashSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                typed.insert(rest.split(' ').next().unwrap().to_owned());
            } else if !line.starts_with('#') {
                let name = line.split('{').next().unwrap();
                let base = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
                assert!(typed.contains(name) || base.is_some_and(|base| typed.contains(base)), "{line}");
            }
        }
        assert!(text.contains(r#"vllm:num_requests_running{engine="0",model_name="m\"x"} 0"#), "{text}");
        assert!(text.contains(r#"running_lora_adapters="a\"b",waiting_lora_adapters=""} 1.5"#));
        assert!(text.contains(r#"le="1.0"}"#));
    }
}
