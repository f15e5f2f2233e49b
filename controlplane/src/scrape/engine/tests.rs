//! Texts in the shape of each engine's `/metrics` beside what they must be read as.

use std::collections::BTreeMap;

use super::*;

const NOW: Timestamp = Timestamp::from_nanos(42);

fn read(engine: Engine, text: &str) -> LoadSample {
    engine.read(text, NOW).unwrap()
}

#[test]
fn vllm_with_two_data_parallel_ranks_and_adapters() {
    let text = r#"
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="llama"} 3.0
vllm:num_requests_running{engine="1",model_name="llama"} 4.0
vllm:num_requests_waiting{engine="0",model_name="llama"} 1.0
vllm:num_requests_waiting{engine="1",model_name="llama"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="llama"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="llama"} 0.75
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="1000",enable_prefix_caching="True"} 1.0
vllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="1000",enable_prefix_caching="True"} 1.0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 1.7e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="sql,chat",waiting_lora_adapters="tiny"} 1.8e+09
"#;
    let got = read(Engine::Vllm, text);
    assert_eq!((got.at, got.running, got.waiting), (NOW, 7, 1));
    assert!((got.kv_used - 0.5).abs() < 1e-12);
    assert_eq!(got.kv_capacity_tokens(), Some(32_000));
    let adapters = got.adapters.unwrap();
    assert_eq!(
        (adapters.running.as_slice(), adapters.most),
        (["chat".to_owned(), "sql".to_owned()].as_slice(), Some(4))
    );
    assert_eq!((adapters.waiting.as_slice(), adapters.names().len()), (["tiny".to_owned()].as_slice(), 3));
}

#[test]
fn vllm_before_its_cache_is_sized() {
    let text = "vllm:num_requests_waiting 0\nvllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"None\"} 1.0\n";
    assert_eq!(read(Engine::Vllm, text).kv_capacity_tokens(), None);
}

#[test]
fn the_start_of_the_process_is_read_whatever_the_engine() {
    let text = "process_start_time_seconds 1.7e9\nvllm:num_requests_waiting 0\nsglang:num_queue_reqs 0\n";
    for engine in [Engine::Vllm, Engine::Sglang] {
        assert_eq!(read(engine, text).started, Some(1.7e9));
    }
    assert_eq!(read(Engine::Vllm, "vllm:num_requests_waiting 0\n").started, None);
}

#[test]
fn sglang() {
    let text = "sglang:num_running_reqs{model_name=\"m\"} 5\nsglang:num_queue_reqs{model_name=\"m\"} 2\n\
                sglang:token_usage{model_name=\"m\"} 0.31\nsglang:cache_config_info{page_size=\"64\",num_pages=\"100\"} 1\n";
    let got = read(Engine::Sglang, text);
    assert_eq!((got.running, got.waiting, got.kv_capacity_tokens()), (5, 2, Some(6400)));
}

#[test]
fn trtllm() {
    let text = "trtllm_num_requests_running 5\ntrtllm_num_requests_waiting 2\ntrtllm_kv_cache_utilization 0.5\n\
                trtllm_kv_cache_tokens_per_block 32\ntrtllm_kv_cache_max_blocks 10\n";
    let got = read(Engine::Trtllm, text);
    assert_eq!((got.running, got.waiting, got.kv_capacity_tokens()), (5, 2, Some(320)));
}

#[test]
fn triton_with_trtllm() {
    let text = r#"
nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 2
nv_trt_llm_request_metrics{model="m",request_type="scheduled",version="1"} 6
nv_trt_llm_request_metrics{model="m",request_type="max",version="1"} 512
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m"} 0.125
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="m"} 64
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="m"} 100
"#;
    let got = read(Engine::TritonTensorrtLlm, text);
    assert_eq!((got.running, got.waiting, got.kv_capacity_tokens()), (6, 2, Some(6400)));
}

#[test]
fn triton_counts_its_queue_only() {
    let text = "nv_inference_pending_request_count{model=\"a\"} 2\nnv_inference_pending_request_count{model=\"b\"} 3\n\
                nv_inference_exec_count{model=\"a\"} 1000000\n";
    let got = read(Engine::Triton, text);
    assert_eq!((got.running, got.waiting), (0, 5));
}

#[test]
fn another_engines_text_is_refused_and_the_missing_metric_named() {
    let error = Engine::Vllm.read("sglang:num_queue_reqs 1\n", NOW).unwrap_err();
    assert_eq!(error.to_string(), "no vllm:num_requests_waiting in the metrics");
}

#[test]
fn absurd_values_are_bounded() {
    let text = "vllm:num_requests_waiting 1e30\nvllm:num_requests_running -5\nvllm:kv_cache_usage_perc NaN\n";
    let got = read(Engine::Vllm, text);
    assert_eq!((got.waiting, got.running), (u32::MAX, 0));
    assert!(got.kv_used.abs() < 1e-12);
}

#[test]
fn the_endpoints_label_names_its_engine() {
    let labels = BTreeMap::from([("llm-d.ai/engine-type".to_owned(), "sglang".to_owned())]);
    let endpoint = Discovered { address: String::new(), labels, draining: false, metrics: None };
    assert_eq!(Engine::of(&endpoint, Engine::Vllm), Engine::Sglang);
    let unknown = Discovered { labels: BTreeMap::new(), ..endpoint };
    assert_eq!(Engine::of(&unknown, Engine::Trtllm), Engine::Trtllm);
}

#[test]
fn the_configured_capacity_overrides_the_engines() {
    let sample = read(Engine::Vllm, "vllm:num_requests_waiting 0\n");
    assert_eq!(with_capacity(sample, Some(1600)).kv_capacity_tokens(), Some(1600));
}
