//! What the engine renders and tokenizes, told in four ways that must agree, and the published vocabulary.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use vllm_sim::language::{LanguageConfig, write_builtin};

use crate::rig::{chat, instant_engine, rig_with};

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vllm-sim-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn tool_talk() -> Value {
    json!({"model": "sim-model", "max_tokens": 2, "return_prompt_text": true, "return_token_ids": true,
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"z": 1, "a": 2}}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{\"b\": 1, \"a\": \"é\"}"}}]},
    ]})
}

#[tokio::test]
async fn answer_render_and_tokenize_agree_on_text_and_tokens() {
    let rig = rig_with(instant_engine).await;
    let body = tool_talk();
    let answer = rig.ask("/v1/chat/completions", &body).await;
    let text = answer["prompt_text"].as_str().unwrap();
    assert!(text.contains("<|im_start|>user<|im_sep|>one\ntwo<|im_end|>"), "{text}");
    assert!(text.contains(r#""function": {"name": "weather", "arguments": {"b": 1, "a": "é"}}}]<|im_end|>"#), "{text}");
    assert!(text.contains(r#""description": null, "parameters": {"#), "{text}");
    let rendered = rig.ask("/v1/chat/completions/render", &body).await;
    assert_eq!(rendered["prompt_text"], text);
    assert_eq!(rendered["token_ids"], answer["prompt_token_ids"]);
    assert_eq!(rig.ask("/tokenize", &body).await["tokens"], rendered["token_ids"]);
    assert_eq!(rig.ask("/tokenize", &json!({"prompt": text})).await["tokens"], rendered["token_ids"]);
    assert_eq!(rig.ask("/detokenize", &json!({"tokens": rendered["token_ids"]})).await["prompt"], text);
    let mut stream = body.clone();
    stream["stream"] = true.into();
    let events = rig.post("/v1/chat/completions", &stream).await.text().await.unwrap();
    let first: Value = serde_json::from_str(events.lines().next().unwrap().strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(first["prompt_text"], text);
    assert_eq!(events.matches("prompt_text").count(), 1, "in the first chunk only");
}

#[tokio::test]
async fn the_published_vocabulary_and_template_make_the_same_engine() {
    let scratch = Scratch::new("published");
    write_builtin(&scratch.0).unwrap();
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(scratch.0.join("tokenizer_config.json")).unwrap()).unwrap();
    let template = scratch.file("chat.jinja", config["chat_template"].as_str().unwrap());
    let builtin = rig_with(instant_engine).await;
    let loaded = rig_with(|config| {
        instant_engine(config);
        config.language = LanguageConfig {
            chat_template: Some(template),
            tokenizer: Some(scratch.0.join("tokenizer.json")),
            non_canonical: 0.0,
        };
    })
    .await;
    let mut body = tool_talk();
    body["max_tokens"] = 30.into();
    let answers = (builtin.ask("/v1/chat/completions", &body).await, loaded.ask("/v1/chat/completions", &body).await);
    for part in ["prompt_text", "prompt_token_ids", "usage"] {
        assert_eq!(answers.0[part], answers.1[part], "{part}");
    }
    assert_eq!(answers.0["choices"], answers.1["choices"]);
}

#[tokio::test]
async fn a_template_of_ones_own_is_used_and_its_refusal_is_a_bad_request() {
    let scratch = Scratch::new("template");
    let template = scratch.file(
        "chat.jinja",
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system here') }}{% endif %}[{{ m.content }}]{% endfor %}",
    );
    let rig = rig_with(|config| {
        instant_engine(config);
        config.language.chat_template = Some(template);
    })
    .await;
    let mut body = chat("hello", 1);
    body["return_prompt_text"] = true.into();
    assert_eq!(rig.ask("/v1/chat/completions", &body).await["prompt_text"], "[hello]");
    body["messages"][0]["role"] = "system".into();
    let refused = rig.post("/v1/chat/completions", &body).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["message"], "no system here");
}

#[test]
fn write_tokenizer_writes_both_files_and_a_missing_one_is_named() {
    let scratch = Scratch::new("write");
    let run = |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_vllm-sim")).args(arguments).output().unwrap();
    assert!(run(&["write-tokenizer", scratch.0.to_str().unwrap()]).status.success());
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        assert!(Path::exists(&scratch.0.join(name)), "{name}");
    }
    let missing = run(&["--tokenizer", "/nowhere/tokenizer.json"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/tokenizer.json"));
}
