//! The comparison against a real Envoy, in small. Needs `ENVOY_BIN`; without it these tests say so and pass, except where
//! `CI=true` promises that there is one.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end by a panic, and says why"
)]

use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn envoy() -> Option<PathBuf> {
    let binary = std::env::var_os("ENVOY_BIN").map(PathBuf::from);
    if binary.is_none() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI must set ENVOY_BIN");
        eprintln!("NOT TESTED: set ENVOY_BIN to the path of an Envoy to run this test");
    }
    binary
}

/// Runs `kvasir-bench overhead` with its temporary files in `directory`.
fn overhead(directory: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvasir-bench"));
    command.arg("overhead").args(["--rounds", "2", "--seconds", "0.2"]).args(arguments);
    command.env("TMPDIR", directory.path()).output().expect("the bench starts")
}

/// The processes that `pid` started, by their ids.
fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Gone, or dead and only waiting for its parent.
fn ended(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

fn within_20_s(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn figure(json: &serde_json::Value, variant: &str, shape: &str, name: &str) -> f64 {
    let cells = json["cells"].as_array().expect("cells");
    let cell = cells.iter().find(|cell| cell["variant"] == variant && !cell["shape"][shape].is_null());
    cell.expect("the cell was measured")[name]["value"].as_f64().expect("a number")
}

#[test]
fn ext_proc_is_compared_with_plain_envoy() {
    let Some(envoy) = envoy() else { return };
    let directory = TempDir::new().expect("a directory");
    let json = directory.path().join("out.json");
    let (envoy, file) = (envoy.display().to_string(), json.display().to_string());
    let arguments = ["--variants", "plain,ext_proc", "--body", "4KiB", "--concurrency", "2", "--streams", "4"];
    let output = overhead(&directory, &[arguments.as_slice(), &["--envoy", &envoy, "--json", &file]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let json = serde_json::from_slice(&std::fs::read(&json).expect("the file was written")).expect("JSON");
    assert!(figure(&json, "ext_proc", "whole", "added_p50_us") > 20.0, "a hop to another process cannot be free");
    assert!(figure(&json, "plain", "whole", "envoy_cpu_us") > 1.0);
    assert!(figure(&json, "ext_proc", "whole", "ext_proc_cpu_us") > 1.0);
    assert!(figure(&json, "ext_proc", "streamed", "added_total_cpu_us") > 0.0);
    let coalescing = figure(&json, "plain", "streamed", "chunks_per_event");
    assert!((0.5..=1.01).contains(&coalescing), "events reach Envoy one by one: {coalescing}");

    let left: Vec<_> =
        std::fs::read_dir(directory.path()).expect("readable").flatten().map(|entry| entry.path()).collect();
    assert_eq!(left, [directory.path().join("out.json")], "nothing but the asked-for file is left");
}

#[test]
fn a_missing_filter_is_named_before_anything_is_measured() {
    let directory = TempDir::new().expect("a directory");
    let output = overhead(&directory, &["--envoy", "/no/such/envoy", "--wasm", "/no/such/filter.wasm"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the filter (see --wasm) is not at /no/such/filter.wasm"), "{said}");
    assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), 0);
}

#[test]
fn an_envoy_that_does_not_start_is_reported_with_its_own_words() {
    let directory = TempDir::new().expect("a directory");
    // A program that refuses Envoy's flags, and says so.
    let output = overhead(&directory, &["--envoy", "/bin/ls", "--variants", "plain"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("did not start") && said.contains("it ended"), "{said}");
    assert!(said.contains("option") || said.contains("ls:"), "{said}");
}

#[test]
fn children_end_with_the_bench_however_it_ends() {
    let Some(envoy) = envoy() else { return };
    for signal in [Signal::TERM, Signal::KILL] {
        let directory = TempDir::new().expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvasir-bench"));
        command.args(["overhead", "--variants", "plain,ext_proc", "--seconds", "60", "--envoy"]).arg(&envoy);
        command.env("TMPDIR", directory.path()).stderr(Stdio::null()).stdout(Stdio::null());
        let mut bench = command.spawn().expect("the bench starts");
        let pid = bench.id();
        within_20_s("the backend, the external processor and two Envoys run", || children(pid).len() == 4);
        let started = children(pid);
        kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), signal).expect("it runs");
        bench.wait().expect("it ended");
        within_20_s("a child outlived the bench", || started.iter().all(|child| ended(*child)));
        if signal == Signal::TERM {
            assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), 0, "files are left");
        }
    }
}
