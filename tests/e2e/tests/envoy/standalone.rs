//! `kvasir standalone`, the one command of a first try: it routes, mends its Envoy, and takes it along when it ends.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::binaries::Binaries;
use e2e::client::{Client, Version, try_answer};
use e2e::process::Process;
use e2e::prompts::chat;
use e2e::sim::Sim;
use e2e::wait::{SOON, eventually, wait_for};

const STARTED: Duration = Duration::from_millis(2500);

/// Free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The Envoys whose parent is `pid`.
fn children(pid: u32) -> Vec<u32> {
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes
        .filter(|process: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            // pid (name) state parent
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok()) == Some(pid)
        })
        .collect()
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap().success());
}

fn write_config(folder: &Path, binaries: &Binaries, sim: &Sim, port: u16) -> PathBuf {
    let config = format!(
        "listen: {{grpc: '127.0.0.1:0', http: '127.0.0.1:0'}}
gateway: {{listen: '127.0.0.1:{port}', admin: '127.0.0.1:0', wasm: '{}', workers: 1}}
pools: [{{name: llama, explain: true, discovery: {{static: {{endpoints: [{}]}}}}}}]
",
        binaries.wasm.display(),
        sim.addresses.join(", "),
    );
    let path = folder.join("kvasir.yaml");
    std::fs::write(&path, config).unwrap();
    path
}

async fn answers(client: &Client) -> bool {
    let request = client.post("/v1/chat/completions", chat("hello", 4).to_string());
    try_answer(request).await.is_ok_and(|answer| answer.status == 200)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standalone_routes_and_restarts_a_dead_envoy_and_ends_with_it() {
    let Some(binaries) = Binaries::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let sim = Sim::start(&binaries, folder.path(), 2, &[]).await;
    let port = free_port();
    let config = write_config(folder.path(), &binaries, &sim, port);
    let envoy = binaries.envoy.display().to_string();
    let arguments = ["standalone", "--envoy", &envoy, "--config", &config.display().to_string()];
    let mut kvasir = Process::start(folder.path(), "kvasir", &binaries.kvasir, &arguments);
    let client = Client::new(&format!("127.0.0.1:{port}"), Version::Http1);
    eventually("it routes", SOON * 2, async || answers(&client).await).await;

    // An Envoy that ends sooner has not started, to its supervisor.
    let routing = Instant::now();
    eventually("it has run for a while", SOON, async || answers(&client).await && routing.elapsed() > STARTED).await;
    let first = children(kvasir.id())[0];
    signal(first, "KILL");
    let second = wait_for("another Envoy", SOON, async || children(kvasir.id()).into_iter().find(|pid| *pid != first));
    let second = second.await;
    eventually("it routes again", SOON * 2, async || answers(&client).await).await;

    signal(kvasir.id(), "TERM");
    let status = wait_for("it ends", SOON, async || kvasir.ended()).await;
    assert!(status.success(), "{status}");
    assert!(!Path::new(&format!("/proc/{second}")).exists(), "and Envoy with it");
}
