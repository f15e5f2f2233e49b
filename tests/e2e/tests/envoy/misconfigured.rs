//! A wrong configuration is an answer and a log line, never a hanging request or a dead VM.

use std::time::{Duration, Instant};

use e2e::client::Version;
use e2e::prompts::prose;
use e2e::stack::{Mode, Stack};
use e2e::wait::{SOON, eventually};
use serde_json::Value;

const PLUGIN: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";

fn change_plugin(bootstrap: &mut Value, from: &str, to: &str) {
    let path = format!("{PLUGIN}/configuration/value");
    let text = bootstrap.pointer_mut(&path).unwrap();
    let changed = text.as_str().unwrap().replace(from, to);
    assert_ne!(text.as_str(), Some(changed.as_str()));
    *text = Value::String(changed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_mode_on_a_host_that_cannot_hold_answers_and_says_which_setting_is_missing() {
    let builder = Stack::new().bootstrap(|bootstrap| {
        let plugin = bootstrap.pointer_mut(PLUGIN).and_then(Value::as_object_mut).unwrap();
        plugin.remove("allow_on_headers_stop_iteration").unwrap();
    });
    let Some(stack) = builder.start().await else { return };
    let client = stack.client(Version::Http1);
    for number in 0..10 {
        let asked = Instant::now();
        let answer = client.ask(&prose(6000 + number, 500)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let limit = if number == 0 { Duration::from_secs(3) } else { Duration::from_secs(1) };
        assert!(asked.elapsed() < limit, "request {number} took {:?}", asked.elapsed());
    }
    let log = stack.gateway().log();
    assert!(log.contains("set allow_on_headers_stop_iteration"), "{log}");
    eventually("counted", SOON, async || stack.gateway().stat("kvasir_rescued_requests_total").await > 0.5).await;
    // Every worker finds out for itself; none hangs.
    for number in 0..10 {
        let asked = Instant::now();
        assert_eq!(stack.client(Version::Http2).ask(&prose(6100 + number, 500)).await.status, 200);
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_cluster_name_is_a_503_with_its_reason_and_no_crash() {
    let builder =
        Stack::new().bootstrap(|bootstrap| change_plugin(bootstrap, "kvasir-controlplane", "no-such-cluster"));
    let Some(stack) = builder.start_unready().await else { return };
    for version in [Version::Http1, Version::Http2] {
        let refused = stack.client(version).ask("hello").await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert_eq!(refused.json()["error"]["code"], "no_routing_table");
    }
    eventually("the log names the cluster", SOON, async || stack.gateway().log().contains("no-such-cluster")).await;
    eventually("it keeps trying", SOON, async || stack.gateway().stat("kvasir_table_age_milliseconds").await > 0.0)
        .await;
    assert!(stack.gateway().stat("envoy_wasm_kvasir_vm_reload").await < 0.5);
    assert!(!stack.gateway().log().contains("panicked"), "{}", stack.gateway().log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_no_table_describes_is_a_503_that_names_it() {
    for mode in [Mode::Hold, Mode::State] {
        let builder = Stack::new().mode(mode).bootstrap(|bootstrap| change_plugin(bootstrap, "llama", "alpaca"));
        let Some(stack) = builder.start_unready().await else { return };
        eventually("the table is there, the pool is not", SOON, async || {
            let refused = stack.client(Version::Http1).ask("hello").await;
            assert_eq!(refused.status, 503, "{refused:?}");
            refused.json()["error"]["message"].as_str().unwrap().contains("pool `alpaca`")
        })
        .await;
    }
}
