//! vLLM's `/metrics` page of one engine. Names, labels and help are vLLM's; every series carries `engine` and `model_name`, the
//! two info metrics carry their own labels.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use crate::cluster::Sleep;
use crate::engine::{EngineConfig, EngineSnapshot};
use crate::observed::Observed;

/// Everything the page shows.
pub(crate) struct Page<'a> {
    pub(crate) model: &'a str,
    /// The engines behind the port, by data-parallel rank.
    pub(crate) ranks: &'a [Rank<'a>],
    pub(crate) sleep: Sleep,
    pub(crate) hash_algorithm: &'a str,
    /// Adapters that can be served; without any there is no adapter metric.
    pub(crate) most_adapters: usize,
    /// Unix seconds of the page: the value of `lora_requests_info`.
    pub(crate) stamp: f64,
}

/// One engine.
pub(crate) struct Rank<'a> {
    pub(crate) config: &'a EngineConfig,
    pub(crate) state: &'a EngineSnapshot,
    pub(crate) observed: &'a Observed,
    pub(crate) adapters: Adapters<'a>,
}

/// Adapter names of one engine.
pub(crate) struct Adapters<'a> {
    pub(crate) running: &'a [String],
    pub(crate) waiting: &'a [String],
}

/// Writes the page.
pub(crate) fn render(page: &Page<'_>) -> Result<String, fmt::Error> {
    let mut out = String::with_capacity(16 * 1024);
    let labels: Vec<String> =
        (0..page.ranks.len()).map(|rank| format!("engine=\"{rank}\",model_name=\"{}\"", escape(page.model))).collect();
    let ranks: Vec<(&str, &Rank<'_>)> = labels.iter().map(String::as_str).zip(page.ranks).collect();
    gauges(&mut out, &ranks)?;
    sleep_state(&mut out, &ranks, page.sleep)?;
    counters(&mut out, &ranks)?;
    head(&mut out, "request_success_total", "Count of successfully processed requests.", "counter")?;
    for (labels, rank) in &ranks {
        for (reason, count) in rank.observed.finished() {
            writeln!(out, "vllm:request_success_total{{{labels},finished_reason=\"{}\"}} {count}", reason.name())?;
        }
    }
    histograms(&mut out, &ranks)?;
    infos(&mut out, page)?;
    Ok(out)
}

fn histograms(out: &mut String, ranks: &[(&str, &Rank<'_>)]) -> fmt::Result {
    let all: Vec<_> = ranks.iter().map(|(labels, rank)| (labels, rank.observed.histograms())).collect();
    let Some((_, first)) = all.first() else { return Ok(()) };
    for (at, (name, help, _)) in first.iter().enumerate() {
        head(out, name, help, "histogram")?;
        let of_rank = all.iter().filter_map(|(labels, histograms)| Some((labels, histograms.get(at)?.2)));
        for (labels, histogram) in of_rank {
            for (bound, count) in histogram.buckets() {
                writeln!(out, "vllm:{name}_bucket{{{labels},le=\"{bound:?}\"}} {count}")?;
            }
            writeln!(out, "vllm:{name}_bucket{{{labels},le=\"+Inf\"}} {}", histogram.count())?;
            writeln!(out, "vllm:{name}_count{{{labels}}} {}", histogram.count())?;
            writeln!(out, "vllm:{name}_sum{{{labels}}} {}", histogram.sum())?;
        }
    }
    Ok(())
}

fn gauges(out: &mut String, ranks: &[(&str, &Rank<'_>)]) -> fmt::Result {
    type Figure = fn(&EngineSnapshot) -> f64;
    let gauges: [(&str, &str, Figure); 3] = [
        ("num_requests_running", "Number of requests in model execution batches.", |state| f64::from(state.running)),
        ("num_requests_waiting", "Number of requests waiting to be processed.", |state| f64::from(state.waiting)),
        ("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", |state| state.kv_used),
    ];
    for (name, help, figure) in gauges {
        head(out, name, help, "gauge")?;
        for (labels, rank) in ranks {
            writeln!(out, "vllm:{name}{{{labels}}} {}", figure(rank.state))?;
        }
    }
    Ok(())
}

fn sleep_state(out: &mut String, ranks: &[(&str, &Rank<'_>)], sleep: Sleep) -> fmt::Result {
    let help = "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; \
                weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2.";
    head(out, "engine_sleep_state", help, "gauge")?;
    for (labels, _) in ranks {
        for (name, is) in [
            ("awake", sleep == Sleep::Awake),
            ("weights_offloaded", sleep == Sleep::WeightsOffloaded),
            ("discard_all", sleep == Sleep::AllDiscarded),
        ] {
            writeln!(out, "vllm:engine_sleep_state{{{labels},sleep_state=\"{name}\"}} {}", u8::from(is))?;
        }
    }
    Ok(())
}

fn counters(out: &mut String, ranks: &[(&str, &Rank<'_>)]) -> fmt::Result {
    type Figure = fn(&EngineSnapshot) -> u64;
    let counters: [(&str, &str, Figure); 8] = [
        ("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.", |s| s.prefix_queries),
        ("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.", |s| s.prefix_hits),
        (
            "external_prefix_cache_queries",
            "External prefix cache queries from KV connector cross-instance cache sharing, in terms of number of queried tokens.",
            |s| s.external_queries,
        ),
        (
            "external_prefix_cache_hits",
            "External prefix cache hits from KV connector cross-instance cache sharing, in terms of number of cached tokens.",
            |s| s.external_hits,
        ),
        ("num_preemptions", "Cumulative number of preemption from the engine.", |s| s.preemptions),
        ("prompt_tokens", "Number of prefill tokens processed.", |s| s.prompt_tokens),
        ("prompt_tokens_cached", "Number of cached prompt tokens (local + external).", |s| s.cached_prompt_tokens),
        ("generation_tokens", "Number of generation tokens processed.", |s| s.generation_tokens),
    ];
    for (name, help, figure) in counters {
        head(out, &format!("{name}_total"), help, "counter")?;
        for (labels, rank) in ranks {
            writeln!(out, "vllm:{name}_total{{{labels}}} {}", figure(rank.state))?;
        }
    }
    Ok(())
}

fn infos(out: &mut String, page: &Page<'_>) -> fmt::Result {
    head(out, "cache_config_info", "Information of the LLMEngine CacheConfig", "gauge")?;
    for (index, Rank { config, .. }) in page.ranks.iter().enumerate() {
        writeln!(
            out,
            "vllm:cache_config_info{{block_size=\"{size}\",enable_prefix_caching=\"True\",engine=\"{index}\",\
             hash_block_size=\"{size}\",kv_cache_size_tokens=\"{tokens}\",num_gpu_blocks=\"{blocks}\",\
             prefix_caching_hash_algo=\"{}\"}} 1",
            page.hash_algorithm,
            size = config.block_size,
            blocks = config.num_gpu_blocks,
            tokens = u64::from(config.num_gpu_blocks) * u64::from(config.block_size),
        )?;
    }
    if page.most_adapters == 0 {
        return Ok(());
    }
    let of_all = |pick: fn(&Adapters<'_>) -> Vec<String>| {
        let names: BTreeSet<String> = page.ranks.iter().flat_map(|rank| pick(&rank.adapters)).collect();
        escape(&names.into_iter().collect::<Vec<_>>().join(","))
    };
    head(out, "lora_requests_info", "Running stats on lora requests.", "gauge")?;
    writeln!(
        out,
        "vllm:lora_requests_info{{max_lora=\"{}\",running_lora_adapters=\"{}\",waiting_lora_adapters=\"{}\"}} {}",
        page.most_adapters,
        of_all(|adapters| adapters.running.to_vec()),
        of_all(|adapters| adapters.waiting.to_vec()),
        page.stamp,
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
        let adapters = Adapters { running: &running, waiting: &[] };
        let rank = Rank { config: engine.config(), state: &state, observed: &observed, adapters };
        let page = Page {
            model: "m\"x",
            ranks: &[rank],
            sleep: Sleep::Awake,
            hash_algorithm: "sha256_cbor",
            most_adapters: 2,
            stamp: 1.5,
        };
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
