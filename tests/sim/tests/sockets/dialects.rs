//! Every dialect, whole and streamed, and what they say about the prefix cache.

use serde_json::{Value, json};

use crate::rig::{Rig, chat, instant_engine, rig, rig_with, streamed};

/// The `data:` payloads of a stream.
async fn events(rig: &Rig, path: &str, body: &Value) -> Vec<String> {
    let response = rig.post(path, body).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let text = response.text().await.unwrap();
    assert!(text.ends_with("\n\n"));
    text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
}

fn parsed(events: &[String]) -> Vec<Value> {
    events.iter().map(|event| serde_json::from_str(event).unwrap_or_else(|_| panic!("{event}"))).collect()
}

#[tokio::test]
async fn a_chat_stream_is_role_words_finish_usage_done() {
    let rig = rig_with(instant_engine).await;
    let mut body = streamed("hello", 3);
    body["stream_options"] = json!({"include_usage": true});
    let mut events = events(&rig, "/v1/chat/completions", &body).await;
    assert_eq!(events.pop().unwrap(), "[DONE]");
    let chunks = parsed(&events);
    assert_eq!(chunks.len(), 6);
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let words: String =
        chunks[1..4].iter().map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().unwrap()).collect();
    assert_eq!(words.len(), 12);
    assert_eq!(chunks[4]["choices"][0]["finish_reason"], "length");
    assert_eq!(chunks[5]["choices"], json!([]));
    assert_eq!(
        chunks[5]["usage"],
        json!({"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14, "prompt_tokens_details": {"cached_tokens": 0}})
    );
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"] && chunk["object"] == "chat.completion.chunk"));
    assert!(chunks[..5].iter().all(|chunk| chunk.get("usage").is_none()));
    let whole = rig.ask("/v1/chat/completions", &chat("hello", 3)).await;
    assert_eq!(whole["choices"][0]["message"]["content"], words, "whole and streamed answers agree");
}

#[tokio::test]
async fn without_include_usage_a_stream_has_none_and_continuous_usage_is_in_every_chunk() {
    let rig = rig_with(instant_engine).await;
    let mut body = streamed("hello", 2);
    let plain = events(&rig, "/v1/chat/completions", &body).await;
    assert!(plain.iter().all(|event| !event.contains("usage")));
    body["stream_options"] = json!({"include_usage": true, "continuous_usage_stats": true});
    let mut continuous = events(&rig, "/v1/chat/completions", &body).await;
    continuous.pop();
    let counts: Vec<u64> =
        parsed(&continuous).iter().map(|chunk| chunk["usage"]["completion_tokens"].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 1, 2, 2, 2]);
}

#[tokio::test]
async fn the_same_conversation_gets_the_same_answer_in_every_chat_dialect() {
    let rig = rig_with(instant_engine).await;
    let conversation = json!([{"role": "user", "content": "tell me"}]);
    let chat = rig
        .ask(
            "/v1/chat/completions",
            &json!({"model": "sim-model", "max_completion_tokens": 6, "messages": [
                {"role": "system", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "tell me"}]}]}),
        )
        .await;
    let text = chat["choices"][0]["message"]["content"].as_str().unwrap();
    let messages = json!({"model": "sim-model", "max_tokens": 6, "system": "be brief", "messages": conversation});
    let responses =
        json!({"model": "sim-model", "max_output_tokens": 6, "instructions": "be brief", "input": conversation});
    let anthropic = rig.ask("/v1/messages", &messages).await;
    assert_eq!(anthropic["content"][0]["text"], text);
    assert_eq!(anthropic["stop_reason"], "max_tokens");
    assert_eq!(anthropic["usage"]["output_tokens"], 6);
    let response = rig.ask("/v1/responses", &responses).await;
    assert_eq!(response["output"][0]["content"][0]["text"], text);
    assert_eq!(response["usage"]["input_tokens"], chat["usage"]["prompt_tokens"]);
    for (path, body, part, last) in [
        ("/v1/messages", messages, "/delta/text", "message_stop"),
        ("/v1/responses", responses, "/delta", "response.completed"),
    ] {
        let mut body = body.clone();
        body["stream"] = true.into();
        let chunks = parsed(&events(&rig, path, &body).await);
        let words: String = chunks.iter().filter_map(|chunk| chunk.pointer(part).and_then(Value::as_str)).collect();
        assert_eq!(words, text, "{path}");
        assert_eq!(chunks.last().unwrap()["type"], last);
    }
}

#[tokio::test]
async fn completions_take_prompts_in_four_shapes() {
    let rig = rig_with(instant_engine).await;
    for (prompt, choices, tokens) in [
        (json!("bal gor "), 1, 2),
        (json!(["bal ", "bal gor "]), 2, 3),
        (json!([1, 2, 3]), 1, 3),
        (json!([[1, 2, 3], [4]]), 2, 4),
    ] {
        let body = json!({"model": "sim-model", "prompt": prompt, "max_tokens": 2});
        let answer = rig.ask("/v1/completions", &body).await;
        assert_eq!(answer["choices"].as_array().unwrap().len(), choices, "{prompt}");
        assert_eq!(answer["usage"]["prompt_tokens"], tokens, "{prompt}");
        assert_eq!(answer["usage"]["completion_tokens"], 2 * choices);
    }
    let default = rig.ask("/v1/completions", &json!({"model": "sim-model", "prompt": "x"})).await;
    assert_eq!(default["usage"]["completion_tokens"], 16);
}

#[tokio::test]
async fn several_samples_differ_and_count_their_prompt_once() {
    let rig = rig_with(instant_engine).await;
    let mut body = chat("hello", 4);
    body["n"] = 2.into();
    let answer = rig.ask("/v1/chat/completions", &body).await;
    assert_ne!(answer["choices"][0]["message"], answer["choices"][1]["message"]);
    assert_eq!(answer["usage"]["prompt_tokens"], 11);
    assert_eq!(answer["usage"]["completion_tokens"], 8);
    for n in [0_u32, 5000] {
        body["n"] = n.into();
        assert_eq!(rig.post("/v1/chat/completions", &body).await.status(), 400);
    }
}

#[tokio::test]
async fn the_next_turn_finds_prompt_and_answer_cached() {
    let rig = rig_with(instant_engine).await;
    let question = "q".repeat(400);
    let first = rig.ask("/v1/chat/completions", &chat(&question, 40)).await;
    let answer = first["choices"][0]["message"]["content"].as_str().unwrap();
    let second = rig
        .ask(
            "/v1/chat/completions",
            &json!({"model": "sim-model", "max_tokens": 1, "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
                {"role": "user", "content": "and then?"}]}),
        )
        .await;
    // All but the newest token of the first turn has KV; hits come in whole blocks.
    let kept = first["usage"]["total_tokens"].as_u64().unwrap() - 1;
    assert_eq!(second["usage"]["prompt_tokens_details"]["cached_tokens"], kept / 16 * 16);
}

#[tokio::test]
async fn adapters_salts_and_engines_do_not_share_blocks() {
    let rig = rig_with(instant_engine).await;
    let cached = async |body: &Value| {
        rig.ask("/v1/chat/completions", body).await["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    let plain = chat(&"x".repeat(1000), 1);
    assert_eq!(cached(&plain).await, 0);
    assert_eq!(cached(&plain).await, 336);
    let mut salted = plain.clone();
    salted["cache_salt"] = "mine".into();
    assert_eq!(cached(&salted).await, 0);
    let mut adapted = plain.clone();
    adapted["model"] = "adapter-a".into();
    assert_eq!(cached(&adapted).await, 0);
    assert_eq!(cached(&adapted).await, 336);
    let other = rig.client.post(rig.url(1, "/v1/chat/completions")).json(&plain).send().await.unwrap();
    assert_eq!(other.headers()["x-sim-engine"], rig.cluster.addresses()[1].to_string());
    let other: Value = other.json().await.unwrap();
    assert_eq!(other["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
}

#[tokio::test]
async fn answers_follow_the_seed() {
    let text = async |seed| {
        let rig = rig_with(|config| {
            instant_engine(config);
            config.seed = seed;
        })
        .await;
        rig.ask("/v1/chat/completions", &chat("hello", 8)).await["choices"][0]["message"]["content"].clone()
    };
    assert_eq!(text(1).await, text(1).await);
    assert_ne!(text(1).await, text(2).await);
}

#[tokio::test]
async fn an_unlimited_answer_stops_by_itself() {
    let rig = rig_with(instant_engine).await;
    let body = json!({"model": "sim-model", "messages": [{"role": "user", "content": "x"}]});
    let answer = rig.ask("/v1/chat/completions", &body).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"]["completion_tokens"], 128);
}

#[tokio::test]
async fn embeddings_are_prefilled_and_deterministic() {
    let rig = rig_with(instant_engine).await;
    let body = json!({"model": "sim-model", "input": ["alpha", "beta"], "dimensions": 8});
    let (first, second) = (rig.ask("/v1/embeddings", &body).await, rig.ask("/v1/embeddings", &body).await);
    assert_eq!(first["data"], second["data"]);
    assert_eq!(first["data"][1]["embedding"].as_array().unwrap().len(), 8);
    assert_ne!(first["data"][0]["embedding"], first["data"][1]["embedding"]);
    assert_eq!(first["usage"]["completion_tokens"], 0);
}

#[tokio::test]
async fn mistakes_are_answered_in_the_callers_dialect() {
    let rig = rig().await;
    let mut unknown = chat("x", 1);
    unknown["model"] = "nope".into();
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let response = rig.post(path, &unknown).await;
        assert_eq!(response.status(), 404);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["message"], "The model `nope` does not exist.");
        match path {
            "/v1/messages" => {
                assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("not_found_error")))
            }
            _ => assert_eq!((&body["error"]["type"], &body["error"]["code"]), (&json!("NotFoundError"), &json!(404))),
        }
    }
    for body in ["{\"model\":", "[]", "{\"model\":\"sim-model\"}", "\u{fffd}"] {
        let response = rig.client.post(rig.url(0, "/v1/chat/completions")).body(body).send().await.unwrap();
        assert_eq!(response.status(), 400, "{body}");
        assert_eq!(response.json::<Value>().await.unwrap()["error"]["type"], "BadRequestError");
    }
    for body in [chat(&"x".repeat(600_000), 1), chat("x", 200_000)] {
        let response = rig.post("/v1/chat/completions", &body).await;
        assert_eq!(response.status(), 400);
        let body: Value = response.json().await.unwrap();
        assert!(
            body["error"]["message"].as_str().unwrap().contains("maximum context length is 131072 tokens"),
            "{body}"
        );
    }
    let empty = rig.post("/v1/completions", &json!({"model": "sim-model", "prompt": []})).await;
    assert_eq!(empty.status(), 400);
}

#[tokio::test]
async fn models_and_tokenizer_describe_what_the_engine_uses() {
    let rig = rig_with(instant_engine).await;
    let models: Value = rig.client.get(rig.url(0, "/v1/models")).send().await.unwrap().json().await.unwrap();
    assert_eq!(models["data"][0]["id"], "sim-model");
    assert_eq!(models["data"][1]["parent"], "sim-model");
    let tokens = rig.ask("/tokenize", &chat("hello", 1)).await;
    let answer = rig.ask("/v1/chat/completions", &chat("hello", 1)).await;
    assert_eq!(tokens["count"], answer["usage"]["prompt_tokens"]);
    let text = rig.ask("/detokenize", &json!({"tokens": tokens["tokens"]})).await;
    assert_eq!(text["prompt"], "<|im_start|>user<|im_sep|>hello<|im_end|><|im_start|>assistant<|im_sep|>");
    let ids = json!({"model": "sim-model", "max_tokens": 1, "prompt": tokens["tokens"]});
    let completion = rig.ask("/v1/completions", &ids).await;
    assert_eq!(completion["choices"][0]["text"], answer["choices"][0]["message"]["content"], "same ids, same answer");
}

#[tokio::test]
async fn http2_works_on_the_same_port() {
    let rig = rig_with(instant_engine).await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let response = client.post(rig.url(0, "/v1/chat/completions")).json(&streamed("x", 3)).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert!(response.text().await.unwrap().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn token_ids_in_are_token_ids_out_and_continue_the_same_prefix() {
    let rig = rig_with(instant_engine).await;
    let ids: Vec<u32> = (1000..1064).collect();
    let mut body = json!({"token_ids": ids, "sampling_params": {"max_tokens": 3}});
    let whole = rig.ask("/inference/v1/generate", &body).await;
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["usage"]["prompt_tokens"], 64);
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let mut events = events(&rig, "/inference/v1/generate", &body).await;
    assert_eq!(events.pop().unwrap(), "[DONE]");
    let chunks = parsed(&events);
    let streamed: Vec<&Value> = chunks[..3].iter().map(|chunk| &chunk["choices"][0]["token_ids"][0]).collect();
    assert_eq!(json!(streamed), whole["choices"][0]["token_ids"]);
    let reasons: Vec<&Value> = chunks[..3].iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
    assert_eq!(json!(reasons), json!([null, null, "length"]));
    assert_eq!(chunks[3]["choices"], json!([]));
    assert_eq!(
        chunks[3]["usage"]["prompt_tokens_details"]["cached_tokens"], 48,
        "all whole blocks but the last token's"
    );
    let text = rig.ask("/v1/completions", &json!({"model": "sim-model", "prompt": ids, "max_tokens": 3})).await;
    let spoken = rig.ask("/detokenize", &json!({"tokens": whole["choices"][0]["token_ids"]})).await;
    assert_eq!(text["choices"][0]["text"], spoken["prompt"]);
}

#[tokio::test]
async fn sglang_counts_in_every_chunk_and_repeats_the_answer_so_far() {
    let rig = rig_with(instant_engine).await;
    let ids: Vec<u32> = (2000..2064).collect();
    let mut body = json!({"input_ids": ids, "sampling_params": {"max_new_tokens": 2}});
    let whole = rig.ask("/generate", &body).await;
    assert_eq!(whole["meta_info"]["finish_reason"], json!({"type": "length", "length": 2}));
    body["stream"] = true.into();
    let mut events = events(&rig, "/generate", &body).await;
    assert_eq!(events.pop().unwrap(), "[DONE]");
    let chunks = parsed(&events);
    assert_eq!((chunks.len(), &chunks[1]["output_ids"]), (2, &whole["output_ids"]));
    assert_eq!(chunks[1]["text"], whole["text"]);
    for (tokens, chunk) in [(1, &chunks[0]), (2, &chunks[1])] {
        let told = &chunk["meta_info"];
        let counts = [&told["prompt_tokens"], &told["completion_tokens"], &told["cached_tokens"]];
        assert_eq!(json!(counts), json!([64, tokens, 48]));
        assert_eq!(told["finish_reason"].is_null(), tokens == 1);
    }
    let several = rig.ask("/generate", &json!({"text": ["a", "b"], "lora_path": "adapter-a"})).await;
    assert_eq!(several.as_array().map(Vec::len), Some(2));
    for wrong in [json!({}), json!({"text": "a", "input_ids": [1]})] {
        let refused = rig.post("/generate", &wrong).await;
        assert_eq!(refused.status(), 400);
        assert!(refused.json::<Value>().await.unwrap()["error"]["message"].is_string());
    }
}

#[tokio::test]
async fn anthropic_counts_without_a_limit() {
    let rig = rig_with(instant_engine).await;
    let conversation = json!({"model": "sim-model", "messages": [{"role": "user", "content": "hello"}]});
    let counted = rig.ask("/v1/messages/count_tokens", &conversation).await;
    let mut limited = conversation;
    limited["max_tokens"] = 1.into();
    let answered = rig.ask("/v1/messages", &limited).await;
    assert_eq!(counted["input_tokens"], answered["usage"]["input_tokens"]);
}
