//! Several pools behind one listener: the model that a request names decides.

use e2e::binaries::Binaries;
use e2e::client::{Client, Version, answer, try_answer};
use e2e::process::Process;
use e2e::sim::Sim;
use e2e::wait::{SOON, eventually};
use serde_json::json;

fn ask(client: &Client, model: &str) -> reqwest::RequestBuilder {
    let body = json!({"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]});
    client.post("/v1/chat/completions", body.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_decides_the_pool_and_an_unknown_one_is_404() {
    let Some(binaries) = Binaries::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut sims = Vec::new();
    for model in ["alpha", "beta"] {
        let own = folder.path().join(model);
        std::fs::create_dir(&own).unwrap();
        sims.push((model, Sim::start(&binaries, &own, 2, &["--model".to_owned(), model.to_owned()]).await));
    }
    let pools: String = sims
        .iter()
        .map(|(model, sim)| {
            let endpoints = sim.addresses.join(", ");
            format!("- {{name: {model}, explain: true, discovery: {{static: {{endpoints: [{endpoints}]}}}}}}\n")
        })
        .collect();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "listen: {{grpc: '127.0.0.1:0', http: '127.0.0.1:0'}}
gateway: {{listen: '127.0.0.1:{port}', admin: '127.0.0.1:0', wasm: '{}', workers: 1}}
pools:
{pools}",
        binaries.wasm.display(),
    );
    std::fs::write(folder.path().join("kvasir.yaml"), config).unwrap();
    let envoy = binaries.envoy.display().to_string();
    let arguments = ["standalone", "--envoy", &envoy, "--config", "kvasir.yaml"];
    let _kvasir = Process::start(folder.path(), "kvasir", &binaries.kvasir, &arguments);
    let client = Client::new(&format!("127.0.0.1:{port}"), Version::Http1);
    eventually("models are known: an unknown one is 404", SOON * 2, async || {
        try_answer(ask(&client, "gamma")).await.is_ok_and(|answer| answer.status == 404)
    })
    .await;
    for (model, sim) in &sims {
        for _ in 0..4 {
            let served = answer(ask(&client, model)).await;
            assert_eq!(served.status, 200, "{model}: {served:?}");
            assert!(sim.addresses.iter().any(|address| address == served.engine()), "{model}: {served:?}");
            assert_eq!(served.decision()["pool"], *model);
        }
    }
}
