//! What the engine reports about itself, and that what leaves is really gone.

use serde_json::json;
use vllm_sim::engine::EngineConfig;

use crate::rig::{chat, rig, rig_with, series, streamed};

#[tokio::test]
async fn the_page_counts_what_happened() {
    let rig = rig().await;
    let body = chat(&"x".repeat(1000), 5);
    for _ in 0..2 {
        rig.ask("/v1/chat/completions", &body).await;
    }
    let page = rig.scrape(0).await;
    let prompt = rig.ask("/tokenize", &body).await["count"].as_f64().unwrap();
    for (name, value) in [
        ("vllm:num_requests_running", 0.0),
        ("vllm:num_requests_waiting", 0.0),
        ("vllm:kv_cache_usage_perc", 0.0),
        ("vllm:prefix_cache_queries_total", 2.0 * prompt),
        ("vllm:prefix_cache_hits_total", 336.0),
        ("vllm:prompt_tokens_total", 2.0 * prompt),
        ("vllm:generation_tokens_total", 10.0),
        ("vllm:num_preemptions_total", 0.0),
        ("vllm:time_to_first_token_seconds_count", 2.0),
        ("vllm:inter_token_latency_seconds_count", 8.0),
        ("vllm:e2e_request_latency_seconds_count", 2.0),
        ("vllm:request_queue_time_seconds_count", 2.0),
        ("vllm:request_prompt_tokens_sum", 2.0 * prompt),
        ("vllm:request_generation_tokens_sum", 10.0),
        ("vllm:cache_config_info", 1.0),
    ] {
        assert!((series(&page, name) - value).abs() < 1e-9, "{name} is {}", series(&page, name));
    }
    assert!(
        page.contains("vllm:request_success_total{engine=\"0\",model_name=\"sim-model\",finished_reason=\"length\"} 2")
    );
    assert!(page.contains("block_size=\"16\"") && page.contains("num_gpu_blocks=\"18000\""));
    assert!(page.contains("vllm:lora_requests_info{max_lora=\"1\",running_lora_adapters=\"\""));
}

#[tokio::test]
async fn real_time_is_the_formula_divided_by_the_speedup() {
    let rig = rig_with(|config| config.speedup = 4.0).await;
    let started = std::time::Instant::now();
    let answer = rig.ask("/v1/chat/completions", &chat(&"x".repeat(20_000), 10)).await;
    let took = started.elapsed().as_secs_f64();
    let prompt = answer["usage"]["prompt_tokens"].as_f64().unwrap();
    let prefill = 13e-3 + 57e-6 * prompt + 1e-9 * prompt * prompt;
    let decode: f64 = (1..10).map(|k| 13e-3 + 20e-6 + 40e-9 * (prompt + f64::from(k))).sum();
    let page = rig.scrape(0).await;
    let measured = series(&page, "vllm:request_inference_time_seconds_sum");
    assert!((measured - (prefill + decode) / 4.0).abs() < 1e-9);
    assert!(took >= (0.020 + prefill + decode) / 4.0, "answered before its time: {took}");
}

#[tokio::test]
async fn a_running_adapter_is_listed() {
    let rig = rig_with(|config| config.speedup = 1.0).await;
    let mut body = streamed("x", 5000);
    body["model"] = "adapter-a".into();
    let mut response = rig.post("/v1/chat/completions", &body).await;
    response.chunk().await.unwrap().unwrap();
    let page = rig.scrape(0).await;
    assert!(page.contains("running_lora_adapters=\"adapter-a\",waiting_lora_adapters=\"\""), "{page}");
    assert!((series(&page, "vllm:num_requests_running") - 1.0).abs() < 1e-9);
    assert!(series(&page, "vllm:kv_cache_usage_perc") > 0.0);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_blocks() {
    let rig = rig_with(|config| config.speedup = 1.0).await;
    let mut response = rig.post("/v1/chat/completions", &streamed("x", 50_000)).await;
    response.chunk().await.unwrap().unwrap();
    assert!(rig.state(0).await["blocks"]["used"].as_u64().unwrap() > 0);
    drop(response);
    let state = rig.until(0, |state| state["in_flight"] == 0).await;
    assert_eq!(state["blocks"]["used"], 0);
    assert_eq!(state["requests"]["aborted"], 1);
    // The same for one that waits for a whole answer and gives up.
    let url = rig.url(0, "/v1/chat/completions");
    let waiting = tokio::spawn(rig.client.post(url).json(&chat("x", 50_000)).send());
    rig.until(0, |state| state["running"] == 1).await;
    waiting.abort();
    let state = rig.until(0, |state| state["in_flight"] == 0).await;
    assert_eq!(state["requests"]["aborted"], 2);
    assert_eq!(state["requests"]["received"], 2);
}

#[tokio::test]
async fn a_full_cache_preempts_and_everyone_is_answered_in_full() {
    let rig = rig_with(|config| {
        config.engines = 1;
        config.engine = EngineConfig { num_gpu_blocks: 40, ..EngineConfig::default() };
    })
    .await;
    let calls = (0..12).map(|n| {
        let (client, url) = (rig.client.clone(), rig.url(0, "/v1/chat/completions"));
        tokio::spawn(async move {
            let body = chat(&format!("{n:0>200}"), 100);
            client.post(url).json(&body).send().await.unwrap().json::<serde_json::Value>().await.unwrap()
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap()["usage"]["completion_tokens"], 100);
    }
    let state = rig.state(0).await;
    assert!(state["preemptions"].as_u64().unwrap() > 0, "{state}");
    assert_eq!(state["requests"]["finished"], 12);
    assert_eq!(state["blocks"]["used"], 0);
    assert_eq!(state["faults"], json!({"refusing": false, "slow": 1.0, "answer": null}));
}
