//! Prompts and request bodies. Texts of different seeds share no prefix chunk; the same seed gives the same text.

use serde_json::{Value, json};

/// `bytes` of ASCII words that depend on `seed`.
#[must_use]
pub fn prose(seed: u64, bytes: usize) -> String {
    const WORDS: [&str; 8] = ["amber", "basalt", "cedar", "delta", "ember", "fjord", "granite", "harbour"];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    let mut text = format!("{seed:016x} ");
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = usize::try_from(state % 8).ok().and_then(|at| WORDS.get(at)).unwrap_or(&"");
        text.push_str(word);
        text.push(' ');
    }
    text.truncate(bytes);
    text
}

/// A chat request with one message.
#[must_use]
pub fn chat(prompt: &str, max_tokens: u32) -> Value {
    json!({
        "model": "sim-model",
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": prompt}],
    })
}

/// The same, streamed, with usage in the last event.
#[must_use]
pub fn streamed(prompt: &str, max_tokens: u32) -> Value {
    let mut body = chat(prompt, max_tokens);
    if let Some(fields) = body.as_object_mut() {
        fields.insert("stream".to_owned(), json!(true));
        fields.insert("stream_options".to_owned(), json!({"include_usage": true}));
    }
    body
}
