//! Several pools behind one listener: the model that a request names decides.

use std::path::Path;
use std::process::Command;

use e2e::binaries::Binaries;
use e2e::client::{Client, Version, answer, try_answer};
use e2e::control_plane::ControlPlane;
use e2e::echo;
use e2e::gateway::Gateway;
use e2e::process::Process;
use e2e::sim::Sim;
use e2e::wait::{SOON, eventually};
use serde_json::json;

fn ask(client: &Client, model: &str) -> reqwest::RequestBuilder {
    let body = json!({"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]});
    client.post("/v1/chat/completions", body.to_string())
}

/// Two engines of each model.
async fn start(binaries: &Binaries, folder: &Path, models: &[&'static str]) -> Vec<(&'static str, Sim)> {
    let mut sims = Vec::new();
    for model in models {
        let own = folder.join(model);
        std::fs::create_dir(&own).unwrap();
        sims.push((*model, Sim::start(binaries, &own, 2, &["--model".to_owned(), (*model).to_owned()]).await));
    }
    sims
}

/// The pools of these engines, as the configuration lists them.
fn pools(sims: &[(&str, Sim)]) -> String {
    let pool = |(model, sim): &(&str, Sim)| {
        let endpoints = sim.addresses.join(", ");
        let rules = format!("[{{models: [{model}-too], targets: [{{model: {model}}}]}}]");
        format!(
            "- {{name: {model}, explain: true, rewrites: {rules}, discovery: {{static: {{endpoints: [{endpoints}]}}}}}}\n"
        )
    };
    sims.iter().map(pool).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_decides_the_pool_and_an_unknown_one_is_404() {
    let Some(binaries) = Binaries::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let sims = start(&binaries, folder.path(), &["alpha", "beta"]).await;
    let echo = echo::start().await;
    let pools = format!("{}- {{name: echo, discovery: {{static: {{endpoints: ['{echo}']}}}}}}", pools(&sims));
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
            let renamed = answer(ask(&client, &format!("{model}-too"))).await;
            assert_eq!((&renamed.json()["model"], renamed.status), (&json!(format!("{model}-too")), 200));
            assert_eq!((&renamed.decision()["pool"], &renamed.decision()["model"]), (&json!(model), &json!(model)));
        }
    }
    let seen = answer(ask(&client, "sim-model").header("x-gateway-model-name", "forged")).await.json();
    assert_eq!(seen["headers"]["x-gateway-model-name"], "sim-model");
    assert_eq!(seen["headers"]["x-gateway-base-model-name"], "sim-model");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_envoy_was_not_rendered_for_is_a_503_and_never_another_pools_request() {
    let Some(binaries) = Binaries::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let sims = start(&binaries, folder.path(), &["alpha", "beta", "gamma"]).await;
    let listen = "listen: {grpc: '127.0.0.1:0', http: '127.0.0.1:0'}";
    std::fs::write(folder.path().join("serve.yaml"), format!("{listen}\npools:\n{}", pools(&sims))).unwrap();
    let control = ControlPlane::start(&binaries, folder.path(), "serve.yaml").await;
    let (wasm, grpc) = (binaries.wasm.display(), &control.grpc);
    let gateway = format!("listen: '127.0.0.1:0', admin: '127.0.0.1:0', wasm: '{wasm}', controlPlane: '{grpc}'");
    let rendered = format!("{listen}\ngateway: {{{gateway}}}\npools:\n{}", pools(&sims[..2]));
    std::fs::write(folder.path().join("rendered.yaml"), rendered).unwrap();
    let mut command = Command::new(&binaries.kvasir);
    let output = command.args(["envoy", "--config", "rendered.yaml"]).current_dir(folder.path()).output().unwrap();
    let bootstrap = serde_json::from_slice(&output.stdout).unwrap();
    let gateway = Gateway::start(&binaries, folder.path(), "envoy", 1, &bootstrap).await;
    let client = gateway.client(Version::Http1);
    eventually("listed pools are served, an unlisted one is refused", SOON, async || {
        let statuses = [
            answer(ask(&client, "alpha")).await.status,
            answer(ask(&client, "beta")).await.status,
            answer(ask(&client, "gamma")).await.status,
        ];
        statuses == [200, 200, 503]
    })
    .await;
    let refused = answer(ask(&client, "gamma")).await;
    assert_eq!(refused.json()["error"]["code"], "pool_not_listed", "{refused:?}");
    assert_eq!(refused.header("content-type"), "application/json");
}
