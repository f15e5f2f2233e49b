//! The binary: flags, ready file, ports, signals, idle cost.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::rig::{DEADLINE, chat, client};

/// A running `vllm-sim`, ended with its own pid.
struct Process {
    child: Child,
    ready_file: PathBuf,
}

impl Process {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let ready_file = std::env::temp_dir().join(format!("vllm-sim-{}-{name}.json", std::process::id()));
        let child = Command::new(env!("CARGO_BIN_EXE_vllm-sim"))
            .args(arguments)
            .arg("--ready-file")
            .arg(&ready_file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, ready_file }
    }

    fn addresses(&mut self) -> Vec<SocketAddr> {
        let started = Instant::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(&self.ready_file) {
                return serde_json::from_str(&text).unwrap();
            }
            assert!(self.child.try_wait().unwrap().is_none(), "it ended before it was ready");
            assert!(started.elapsed() < DEADLINE, "no ready file");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// CPU time used so far, in clock ticks of 10 ms.
    fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_file(&self.ready_file).ok();
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vllm-sim")).args(arguments).output().unwrap()
}

/// Two neighbouring ports that are free now.
fn free_pair() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

#[tokio::test]
async fn a_base_port_gives_consecutive_ports_and_sigterm_ends_it_well() {
    let port = free_pair();
    let mut process = Process::start("base", &["--engines", "2", "--port", &port.to_string(), "--speedup", "100"]);
    let addresses = process.addresses();
    assert_eq!(addresses.iter().map(SocketAddr::port).collect::<Vec<_>>(), [port, port + 1]);
    for address in addresses {
        let url = format!("http://{address}/v1/chat/completions");
        let response = client().post(url).json(&chat("x", 2)).send().await.unwrap();
        assert_eq!(response.headers()["x-sim-engine"], address.to_string());
    }
    let pid = process.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(process.child.wait().unwrap().success());
}

#[test]
fn a_hundred_idle_engines_cost_next_to_nothing() {
    let mut process = Process::start("idle", &["--engines", "100", "--port", "0"]);
    let mut ports: Vec<u16> = process.addresses().iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 100);
    let before = process.cpu_ticks();
    // A measuring window, not a wait.
    std::thread::sleep(Duration::from_secs(1));
    assert!(process.cpu_ticks() - before <= 2, "more than 2 % of a core");
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    for (arguments, words) in [
        (&["--block-size", "0"][..], "block_size: must be at least 1, got 0"),
        (&["--speedup", "0"], "speedup: must be a finite number above 0"),
        (&["--engines", "2", "--slow", "2=2"], "there is no engine 2"),
        (&["--fault", "0={\"kind\":\"slow\"}"], "factor: must be"),
        (&["--slow", "zero=2"], "is not an engine's index"),
        (&["--num-gpu-blocks", "10", "--max-model-len", "161"], "must fit into the 160 tokens"),
        (&["--engines", "2", "--port", "65535"], "port above 65535"),
    ] {
        let output = run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
}

#[test]
fn help_shows_examples_and_every_fault() {
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    for words in [
        "Examples:",
        "--speedup",
        "refuse",
        "kill",
        "error",
        "stall",
        "die_before_first_byte",
        "die_mid_stream",
        "slow",
    ] {
        assert!(help.contains(words), "{words}");
    }
}
