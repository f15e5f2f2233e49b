//! Where a request would go, asked over HTTP and by the command line.

use std::path::Path;

use serde_json::Value;
use tokio::process::Command;

use crate::gateway::{Gateway, chat};
use crate::rig::{DEADLINE, Engine, Rig, ready_count, scraped_once};

async fn ask(rig: &Rig, query: &str, body: &str) -> (u16, Value) {
    let url = format!("http://{}/api/v1/explain{query}", rig.running.http);
    let response = reqwest::Client::new().post(url).body(body.to_owned()).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Runs `kvasir explain`; the answer on stdout, else what it says on stderr.
async fn kvasir(config: &Path, request: &Path, more: &[&str]) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvasir"));
    command.arg("explain").arg("--config").arg(config).arg("--request").arg(request).args(more).kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_explanation_counts_everybodys_bookings_and_prefixes() {
    let (a, b) = (Engine::start().await, Engine::start().await);
    let endpoints = format!("[{}, {}]", a.address, b.address);
    let rig = Rig::start_as("explained", &scraped_once(), &endpoints).await;
    rig.until("ready", |view| ready_count(view) == 2).await;
    let mut gateway = Gateway::connect(&rig, "one").await;
    gateway.until(|brain| brain.pool("p").is_some_and(|pool| pool.endpoints().count() == 2)).await;
    let body = chat("llama", &"tell me about wolves ".repeat(40));
    let went = gateway.route(&body).split(',').next().unwrap().to_owned();
    gateway.report().await;
    rig.until_get("/api/v1/table?pool=p", |_, text| !text.contains("\"chunks\":0,\"memberships\"")).await;

    let (status, told) = ask(&rig, "", &body).await;
    assert_eq!((status, &told["pool"], &told["decided_by"]), (200, &"p".into(), &"cost".into()));
    assert!(told["destination"].as_str().unwrap().contains(','), "{told}");
    let rows = told["candidates"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let busy = rows.iter().find(|row| row["endpoint"] == went.as_str()).unwrap();
    assert_eq!(busy["waiting"], 1);
    assert!(busy["matched_tokens"].as_f64().unwrap() > 100.0, "{busy}");
    let terms = ["own_ttft_ms", "queue_harm_ms", "stall_ms", "decode_harm_ms", "preemption_risk_ms"];
    let sum: f64 = terms.iter().map(|term| busy[term].as_f64().unwrap()).sum();
    assert!((sum - busy["cost_ms"].as_f64().unwrap()).abs() < 0.01, "{busy}");
    assert!(gateway.brain.ledger.busy().count() == 1, "an explanation books nothing");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateway_would_refuse_is_refused_in_its_words() {
    let engine = Engine::start().await;
    let rig = Rig::start("refused", "maxBody: 1KiB", &format!("[{}]", engine.address)).await;
    rig.until("ready", |view| ready_count(view) == 1).await;
    let (status, told) = ask(&rig, "", &chat("gpt", "hello")).await;
    assert_eq!((status, &told["error"]["code"]), (404, &"model_not_found".into()));
    let (status, told) = ask(&rig, "?path=/v1/messages", "{").await;
    assert_eq!((status, &told["error"]["type"]), (400, &"invalid_request_error".into()));
    let (status, told) = ask(&rig, "", &chat("llama", &"x".repeat(2000))).await;
    assert_eq!((status, &told["error"]["code"]), (413, &"request_too_large".into()));
    let (status, told) = ask(&rig, "?pool=q", &chat("llama", "hello")).await;
    assert_eq!((status, &told["error"]), (404, &"no pool named q".into()));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_asks_the_running_control_plane_or_looks_for_itself() {
    let engine = Engine::start().await;
    let rig = Rig::start("asked", "", &format!("[{}]", engine.address)).await;
    rig.until("ready", |view| ready_count(view) == 1).await;
    rig.write("body.json", &chat("llama", "hello"));
    let request = rig.folder.join("body.json");

    // The file's port 0 is nobody's: it looks for itself.
    let alone = kvasir(&rig.folder.join("kvasir.yaml"), &request, &[]).await.unwrap();
    assert!(alone.contains("no control plane at http://127.0.0.1:0"), "{alone}");
    assert!(alone.contains(&format!("destination  {}", engine.address)), "{alone}");

    let text = std::fs::read_to_string(rig.folder.join("kvasir.yaml")).unwrap();
    rig.write("there.yaml", &text.replace("http: '127.0.0.1:0'", &format!("http: '{}'", rig.running.http)));
    let there = rig.folder.join("there.yaml");
    let asked = kvasir(&there, &request, &[]).await.unwrap();
    assert!(asked.contains(&format!("as the control plane at http://{} knows it", rig.running.http)), "{asked}");
    let json: Value = serde_json::from_str(&kvasir(&there, &request, &["--json"]).await.unwrap()).unwrap();
    assert_eq!(json["destination"], engine.address.to_string());

    rig.write("body.json", &chat("gpt", "hello"));
    let refusal = kvasir(&there, &request, &[]).await.unwrap_err();
    assert!(refusal.contains("the model `gpt` does not exist"), "{refusal}");
    let other = kvasir(&there, &request, &["--pool", "q"]).await.unwrap_err();
    assert!(other.contains("--pool q: the configuration has p"), "{other}");
    rig.stop().await;
}
