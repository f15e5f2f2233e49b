//! Reading request bodies: median time and throughput of `BodyScanner` beside a `serde_json::Value` of the same bytes.
//!
//! Run with `cargo bench -p shared --bench body_scan`. Medians of one machine at one time: compare within a run only.
#![expect(clippy::print_stdout, reason = "the report is the purpose")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures wall time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shared::api::{ApiKind, BodyScanner, PromptView, ResponseForm, ResponseScanner};

const ROUNDS: usize = 200;

fn main() {
    let prose = "The quick brown fox jumps over the lazy dog. ";
    let code = "fn main() {\n    println!(\"hi\\t{}\", x);\n}\n";
    println!("{:<28} {:>9} {:>10} {:>8} {:>10} {:>7}", "body", "bytes", "scan", "GB/s", "serde_json", "ratio");
    for kib in [4, 32, 256, 1024] {
        report(&format!("{kib} KiB prose, one message"), &chat(prose, kib << 10, 1));
    }
    report("32 KiB prose, 40 messages", &chat(prose, 32 << 10, 40));
    report("256 KiB code, 20 messages", &chat(code, 256 << 10, 20));
    report("400 KiB irregular, 1 message", &chat(&irregular(400 << 10), 400 << 10, 1));
    report("4 KiB irregular, 1 message", &chat(&irregular(4 << 10), 4 << 10, 1));
    report("256 KiB Chinese, 4 messages", &chat("敏捷的棕色狐狸跳过了懒狗。", 256 << 10, 4));
    let ids: Vec<u32> = (0..40_000_u32).map(|at| at.wrapping_mul(2_654_435_761) % 150_000).collect();
    let tokens = json!({"model": "m", "prompt": ids}).to_string();
    report_kind("40,000 token ids", ApiKind::Completions, tokens.as_bytes());
    report_stream();
}

fn chat(text: &str, bytes: usize, messages: usize) -> Vec<u8> {
    let content = text.repeat(bytes / messages / text.len() + 1);
    let list: Vec<Value> = (0..messages).map(|_| json!({"role": "user", "content": content})).collect();
    json!({"model": "meta-llama/Llama-3.1-8B-Instruct", "stream": true, "max_tokens": 128, "messages": list})
        .to_string()
        .into_bytes()
}

/// Words of drawn lengths and an escape every 37 bytes or so, where no branch predictor can know it.
fn irregular(bytes: usize) -> String {
    let mut state = 1_u64;
    let mut draw = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut text = String::new();
    while text.len() < bytes {
        let word = "abcdefghijkl".get(..1 + usize::try_from(draw(11)).unwrap_or(0)).unwrap_or_default();
        text.push_str(word);
        text.push(match draw(16) {
            0 => '\n',
            1 => '"',
            2 => '\t',
            _ => ' ',
        });
    }
    text
}

fn report(name: &str, body: &[u8]) {
    report_kind(name, ApiKind::ChatCompletions, body);
}

fn report_kind(name: &str, kind: ApiKind, body: &[u8]) {
    let mut scanner = BodyScanner::new(kind);
    let scan = median(|| {
        scanner.restart(kind);
        let pushed = scanner.push(black_box(body)).is_ok();
        let bytes = scanner.finish().map(|view| match view.prompt {
            PromptView::Text(text) => text.len_bytes(),
            PromptView::Tokens(ids) => ids.count(),
        });
        black_box((pushed, bytes.is_ok_and(|bytes| bytes > 0)));
    });
    let tree = median(|| {
        black_box(serde_json::from_slice::<Value>(black_box(body)).is_ok());
    });
    let (scan_ns, tree_ns) = (nanos(scan), nanos(tree));
    let bytes = u32::try_from(body.len()).map_or(f64::NAN, f64::from);
    println!(
        "{name:<28} {bytes:>9} {:>7.2} us {:>8.2} {:>7.2} us {:>6.1}x",
        scan_ns / 1e3,
        bytes / scan_ns,
        tree_ns / 1e3,
        tree_ns / scan_ns
    );
}

fn report_stream() {
    let chunk = format!(
        "data: {}\n\n",
        json!({"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": "meta-llama/Llama-3.1-8B-Instruct", "choices": [{"index": 0, "delta": {"content": " token"},
            "logprobs": null, "finish_reason": null}], "usage": null})
    );
    let mut scanner = ResponseScanner::new(ResponseForm::Events);
    let time = median(|| {
        for _ in 0..100 {
            black_box(scanner.push(black_box(chunk.as_bytes())));
        }
    });
    println!("streamed chunk of {} bytes: {:.0} ns", chunk.len(), nanos(time) / 100.0);
}

fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

fn median(mut work: impl FnMut()) -> Duration {
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
