//! Which metric of which engine means what. Several series of one name (data-parallel ranks, models) are added up;
//! fractions are averaged. Triton without TensorRT-LLM has no gauge of running requests, only a counter of executions
//! (`nv_inference_exec_count`), which is no load: its running requests count as zero.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use shared::clock::Timestamp;

use super::exposition::{Sample, samples};
use crate::datastore::{Adapters, Discovered, LoadSample};

/// Label that names the engine of one endpoint, and its older alias.
const ENGINE_LABELS: [&str; 2] = ["llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type"];

/// Block size assumed when only the capacity in tokens is known: vLLM's default.
const USUAL_BLOCK_TOKENS: u32 = 16;

/// Whose metric names to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// vLLM, and everything that speaks its names.
    Vllm,
    /// SGLang.
    Sglang,
    /// TensorRT-LLM's own server.
    #[serde(alias = "trtllm-serve")]
    Trtllm,
    /// Triton with the TensorRT-LLM back end.
    TritonTensorrtLlm,
    /// Triton with another back end.
    Triton,
}

/// Why a text gives no load sample.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// The engine's queue metric is missing: another engine, or not an engine at all.
    #[error("no {0} in the metrics")]
    Missing(&'static str),
}

/// A sum over series, and how many there were.
#[derive(Clone, Copy, Debug, Default)]
struct Gathered {
    sum: f64,
    series: u32,
}

impl Gathered {
    fn add(&mut self, sample: &Sample<'_>) {
        if let Some(value) = sample.value().filter(|value| value.is_finite()) {
            self.sum += value;
            self.series += 1;
        }
    }

    fn mean(self) -> f64 {
        if self.series == 0 { 0.0 } else { self.sum / f64::from(self.series) }
    }
}

#[derive(Debug, Default)]
struct Readings {
    running: Gathered,
    waiting: Gathered,
    kv_used: Gathered,
    block_tokens: Option<u32>,
    blocks: Option<u64>,
    /// The newest `lora_requests_info` series: its timestamp and its adapters.
    adapters: Option<(f64, Adapters)>,
    started: Option<f64>,
}

impl Engine {
    /// As it stands in the configuration and in the endpoint's label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Trtllm => "trtllm",
            Self::TritonTensorrtLlm => "triton-tensorrt-llm",
            Self::Triton => "triton",
        }
    }

    /// The engine of one endpoint: its label when it names one, else the pool's.
    #[must_use]
    pub fn of(endpoint: &Discovered, pool: Self) -> Self {
        let label = ENGINE_LABELS.iter().find_map(|label| endpoint.labels.get(*label)).map(String::as_str);
        match label {
            Some("vllm") => Self::Vllm,
            Some("sglang") => Self::Sglang,
            Some("trtllm" | "trtllm-serve") => Self::Trtllm,
            Some("triton-tensorrt-llm") => Self::TritonTensorrtLlm,
            Some("triton") => Self::Triton,
            Some(_) | None => pool,
        }
    }

    /// Reads one answer of `/metrics` that arrived at `at`.
    ///
    /// # Errors
    /// When the engine's own queue metric is not there.
    pub fn read(self, text: &str, at: Timestamp) -> Result<LoadSample, ScrapeError> {
        let mut readings = Readings::default();
        for sample in samples(text) {
            if sample.name == "process_start_time_seconds" {
                readings.started = sample.value().filter(|value| value.is_finite());
            } else {
                self.take(&mut readings, &sample);
            }
        }
        if readings.waiting.series == 0 {
            return Err(ScrapeError::Missing(self.waiting_metric()));
        }
        Ok(LoadSample {
            at,
            running: count(readings.running.sum),
            waiting: count(readings.waiting.sum),
            kv_used: readings.kv_used.mean().clamp(0.0, 1.0),
            block_tokens: readings.block_tokens,
            blocks: readings.blocks,
            adapters: readings.adapters.map(|(_, adapters)| adapters),
            attributes: BTreeMap::new(),
            started: readings.started,
        })
    }

    const fn waiting_metric(self) -> &'static str {
        match self {
            Self::Vllm => "vllm:num_requests_waiting",
            Self::Sglang => "sglang:num_queue_reqs",
            Self::Trtllm => "trtllm_num_requests_waiting",
            Self::TritonTensorrtLlm => "nv_trt_llm_request_metrics",
            Self::Triton => "nv_inference_pending_request_count",
        }
    }

    fn take(self, readings: &mut Readings, sample: &Sample<'_>) {
        match self {
            Self::Vllm => vllm(readings, sample),
            Self::Sglang => sglang(readings, sample),
            Self::Trtllm => trtllm(readings, sample),
            Self::TritonTensorrtLlm => triton_trtllm(readings, sample),
            Self::Triton => {
                if sample.name == "nv_inference_pending_request_count" {
                    readings.waiting.add(sample);
                }
            }
        }
    }
}

impl Readings {
    fn block_size(&mut self, tokens: Option<u32>) {
        self.block_tokens = tokens.filter(|&tokens| tokens > 0).or(self.block_tokens);
    }

    fn add_blocks(&mut self, blocks: Option<u64>) {
        if let Some(blocks) = blocks.filter(|&blocks| blocks > 0) {
            self.blocks = Some(self.blocks.unwrap_or(0).saturating_add(blocks));
        }
    }
}

fn vllm(readings: &mut Readings, sample: &Sample<'_>) {
    match sample.name {
        "vllm:num_requests_running" => readings.running.add(sample),
        "vllm:num_requests_waiting" => readings.waiting.add(sample),
        "vllm:kv_cache_usage_perc" | "vllm:gpu_cache_usage_perc" => readings.kv_used.add(sample),
        "vllm:cache_config_info" => info_blocks(readings, sample, ("block_size", "num_gpu_blocks")),
        "vllm:lora_requests_info" => adapters(readings, sample),
        _ => {}
    }
}

fn sglang(readings: &mut Readings, sample: &Sample<'_>) {
    match sample.name {
        "sglang:num_running_reqs" => readings.running.add(sample),
        "sglang:num_queue_reqs" => readings.waiting.add(sample),
        "sglang:token_usage" => readings.kv_used.add(sample),
        "sglang:cache_config_info" => info_blocks(readings, sample, ("page_size", "num_pages")),
        _ => {}
    }
}

fn trtllm(readings: &mut Readings, sample: &Sample<'_>) {
    match sample.name {
        "trtllm_num_requests_running" => readings.running.add(sample),
        "trtllm_num_requests_waiting" => readings.waiting.add(sample),
        "trtllm_kv_cache_utilization" => readings.kv_used.add(sample),
        "trtllm_kv_cache_tokens_per_block" => readings.block_size(sample.value().map(count)),
        "trtllm_kv_cache_max_blocks" => readings.add_blocks(sample.value().map(|blocks| count(blocks).into())),
        _ => {}
    }
}

fn triton_trtllm(readings: &mut Readings, sample: &Sample<'_>) {
    match sample.name {
        "nv_trt_llm_request_metrics" => match sample.label("request_type").as_deref() {
            Some("waiting") => readings.waiting.add(sample),
            Some("scheduled") => readings.running.add(sample),
            _ => {}
        },
        "nv_trt_llm_kv_cache_block_metrics" => match sample.label("kv_cache_block_type").as_deref() {
            Some("fraction") => readings.kv_used.add(sample),
            Some("tokens_per") => readings.block_size(sample.value().map(count)),
            Some("max") => readings.add_blocks(sample.value().map(|blocks| count(blocks).into())),
            _ => {}
        },
        _ => {}
    }
}

fn info_blocks(readings: &mut Readings, sample: &Sample<'_>, (size, number): (&str, &str)) {
    readings.block_size(sample.label(size).and_then(|text| text.parse().ok()));
    readings.add_blocks(sample.label(number).and_then(|text| text.parse().ok()));
}

/// vLLM leaves a series for every set of adapters it ever had; the gauge's value is when it was last true.
fn adapters(readings: &mut Readings, sample: &Sample<'_>) {
    let Some(at) = sample.value() else { return };
    if readings.adapters.as_ref().is_some_and(|(newest, _)| *newest >= at) {
        return;
    }
    let names = |label| {
        let list = sample.label(label).unwrap_or_default();
        let names: BTreeSet<&str> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        names.into_iter().map(str::to_owned).collect()
    };
    let most = sample.label("max_lora").and_then(|most| most.trim().parse().ok()).filter(|&most| most > 0);
    let (running, waiting) = (names("running_lora_adapters"), names("waiting_lora_adapters"));
    readings.adapters = Some((at, Adapters { running, waiting, most }));
}

/// The sample with the KV capacity that the configuration states.
#[must_use]
pub fn with_capacity(sample: LoadSample, kv_cache_tokens: Option<u64>) -> LoadSample {
    let Some(tokens) = kv_cache_tokens else { return sample };
    let block = sample.block_tokens.unwrap_or(USUAL_BLOCK_TOKENS).max(1);
    LoadSample { block_tokens: Some(block), blocks: Some(tokens / u64::from(block)), ..sample }
}

/// A gauge as a count: negative and NaN are 0, beyond `u32` is its end.
fn count(value: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float casts saturate, NaN gives 0")]
    let count = value.round() as u32;
    count
}

#[cfg(test)]
mod tests;
