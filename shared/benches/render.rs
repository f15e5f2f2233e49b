//! Rendering prompts and chaining them: median times for chats of several sizes, by a template of the usual kind (roles,
//! trimming, tools, a look back for the last question).
//!
//! Run with `cargo bench -p shared --bench render`. What counts is the filter's build in V8: `CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS=
//! "-C target-feature=+simd128" cargo bench -p shared --bench render --target wasm32-wasip1 --profile wasm`, with a WASI
//! runner on V8 as `CARGO_TARGET_WASM32_WASIP1_RUNNER`. Medians of one machine at one time: compare within a run only.
#![expect(clippy::print_stdout, reason = "the report is the purpose")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures wall time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shared::api::ApiKind;
use shared::prefix::{ChainRoot, chain};
use shared::template::{ChatTemplate, TemplateOptions, object};

const ROUNDS: usize = 1000;

/// V8 compiles a function well only after it has run for a while.
const WARM_UP: usize = 1000;

const TEMPLATE: &str = r##"
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- "# Tools\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}{{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and not message.content.startswith('<tool_response>') %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
    {%- elif message.role == 'assistant' %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' + content | trim }}
        {%- for call in message.tool_calls or [] %}
            {{- '\n<tool_call>' }}{{- call.function.arguments | tojson }}{{- '</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}"##;

fn main() {
    let only = std::env::args().nth(1).filter(|name| !name.starts_with("--")).unwrap_or_default();
    println!(
        "{:<32} {:>9} {:>9} {:>11} {:>11} {:>9}   microseconds",
        "chat", "bytes", "JSON", "render", "chain", "all"
    );
    for (name, kib, messages, with_tools) in [
        ("4 KiB, 5 messages", 4, 5, false),
        ("32 KiB, 1 message", 32, 1, false),
        ("32 KiB, 20 messages", 32, 20, false),
        ("32 KiB, 20 messages, 8 tools", 32, 20, true),
        ("100 KiB, 60 messages", 100, 60, false),
    ] {
        if name.contains(&only) {
            report(name, &chat(kib << 10, messages, with_tools));
        }
    }
}

fn chat(bytes: usize, messages: usize, with_tools: bool) -> Vec<u8> {
    let text = "The quick brown fox jumps over the lazy dog, \"quoted\" and\nbroken. ";
    let content = text.repeat(bytes / messages / text.len() + 1);
    let role = |at: usize| ["user", "assistant"].get(at % 2).copied().unwrap_or_default();
    let list: Vec<Value> = (0..messages).map(|at| json!({"role": role(at), "content": content})).collect();
    let mut body = json!({"model": "m", "stream": true, "messages": list});
    if with_tools {
        let tool = json!({"type": "function", "function": {"name": "get_weather", "description": "Gets the weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "The city's name"},
            "unit": {"type": "string", "enum": ["c", "f"]}, "days": {"type": "integer"}}, "required": ["city"]}}});
        let tools = ("tools".to_owned(), Value::from(vec![tool; 8]));
        body.as_object_mut().into_iter().for_each(|body| body.extend([tools.clone()]));
    }
    body.to_string().into_bytes()
}

fn report(name: &str, body: &[u8]) {
    let Ok(template) = ChatTemplate::compile(TEMPLATE, TemplateOptions::default()) else {
        println!("{name}: the template does not compile");
        return;
    };
    let render = || template.render_body(ApiKind::ChatCompletions, black_box(body), None);
    let json = median(|| {
        black_box(object(black_box(body)).is_ok());
    });
    let rendered = median(|| {
        black_box(render().is_ok());
    });
    let prompt = render().unwrap_or_default();
    let chained = median(|| hash(black_box(&prompt)));
    let whole = median(|| render().iter().for_each(|prompt| hash(prompt)));
    println!(
        "{name:<32} {:>9} {:>9.1} {:>11.1} {:>11.1} {:>9.1}",
        prompt.len(),
        micros(json),
        micros(rendered.saturating_sub(json)),
        micros(chained),
        micros(whole)
    );
}

/// A function of its own: V8 never compiles a loop that is running anew.
#[inline(never)]
fn hash(prompt: &str) {
    let mut keys = Vec::new();
    chain(ChainRoot::new("m", None, None), 128, [prompt.as_bytes()], &mut keys);
    black_box(keys.len());
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn median(mut work: impl FnMut()) -> Duration {
    (0..WARM_UP).for_each(|_| work());
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times.get(ROUNDS / 2).copied().unwrap_or_default()
}
