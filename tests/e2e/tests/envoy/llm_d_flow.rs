//! llm-d's own configuration of flow control and admission, in force: who waits, who is refused, and with what words.

use bytes::Bytes;
use e2e::client::{Answer, Client, Version, answer};
use e2e::prompts::{chat, prose, streamed};
use e2e::stack::{Mode, Stack};
use e2e::wait::{SOON, eventually};
use reqwest::Response;
use serde_json::Value;
use tokio::task::JoinHandle;

/// One request at a time is a full pool.
const PLUGINS: &str = "plugins: [{type: queue-scorer}, {type: concurrency-detector, parameters: {maxConcurrency: 1}}], \
                       schedulingProfiles: [{name: default, plugins: [{pluginRef: queue-scorer}]}]";

async fn one_engine(mode: Mode, sections: &str) -> Option<Stack> {
    let document = format!(
        "endpointPickerConfig: {{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, {PLUGINS}, {sections}}}"
    );
    Stack::new().engines(1).workers(1).mode(mode).pool(&document).pool("objectives: {batch: -10}").start().await
}

async fn gated(mode: Mode, flow: &str) -> Option<Stack> {
    let detector = "saturationDetector: {pluginRef: concurrency-detector}";
    one_engine(mode, &format!("featureGates: [flowControl], flowControl: {{{detector}, {flow}}}")).await
}

/// Keeps the engine busy until it is dropped.
async fn occupy(stack: &Stack) -> Response {
    let mut response = stack.client(Version::Http1).open_chat(&streamed(&prose(1, 500), 100_000)).await;
    let first: Option<Bytes> = response.chunk().await.unwrap();
    assert!(first.is_some_and(|chunk| chunk.starts_with(b"data: ")));
    response
}

fn ask(client: Client, objective: &'static str, body: Value) -> JoinHandle<Answer> {
    tokio::spawn(async move {
        let request = client.post("/v1/chat/completions", body.to_string());
        answer(request.header("x-llm-d-inference-objective", objective)).await
    })
}

async fn until_queued(stack: &Stack, requests: f64) {
    eventually("it waits", SOON, async || stack.gateway().stat("kvasir_flow_queued_total").await >= requests).await;
}

/// Takes the pool's endpoints away, and returns when the gateway knows.
async fn empty(stack: &Stack) {
    stack.write_endpoints(&[]);
    eventually("the pool is empty", SOON, async || {
        let asked = stack.client(Version::Http1).get("/v1/models").await;
        asked.header("x-llm-d-request-dropped-reason") == "rejected-no-endpoints"
    })
    .await;
}

async fn all_comes_back(stack: &Stack) {
    eventually("nothing is in flight", SOON, async || {
        let engines: u64 = stack.sim.in_flight().await.iter().sum();
        stack.gateway().stat("kvasir_in_flight").await < 0.5 && engines == 0
    })
    .await;
}

fn is_refused(answer: &Answer, status: u16, reason: &str) {
    let told = answer.header("x-llm-d-request-dropped-reason");
    assert_eq!((answer.status, told), (status, reason), "{answer:?}");
}

in_both_modes! {
    async fn a_full_pool_is_waited_for_until_the_time_to_wait_is_over(mode) {
        let Some(stack) = gated(mode, "defaultRequestTTL: 1s, priorityBands: [{priority: 0, maxRequests: 1}]").await else { return };
        let busy = occupy(&stack).await;
        let waits = ask(stack.client(Version::Http1), "", chat(&prose(2, 500), 4));
        until_queued(&stack, 1.0).await;
        let full = ask(stack.client(Version::Http1), "", chat("hello", 4)).await.unwrap();
        is_refused(&full, 429, "rejected-saturated");
        is_refused(&waits.await.unwrap(), 429, "rejected-ttl-expired");
        let sent = ask(stack.client(Version::Http1), "", chat(&prose(3, 500), 4));
        until_queued(&stack, 2.0).await;
        drop(busy);
        assert_eq!(sent.await.unwrap().status, 200);
        all_comes_back(&stack).await;
    }

    async fn a_pool_without_endpoints_is_waited_for(mode) {
        let flow = "defaultRequestTTL: 300ms, noEndpointRequestTTL: 60s";
        let Some(stack) = gated(mode, flow).await else { return };
        let endpoints = stack.control().api("/api/v1/endpoints").await;
        let address = endpoints[0]["address"].clone();
        empty(&stack).await;
        let waits = ask(stack.client(Version::Http1), "", chat(&prose(4, 500), 4));
        until_queued(&stack, 1.0).await;
        stack.write_endpoints(&[address]);
        let answer = waits.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        all_comes_back(&stack).await;
    }

    async fn a_pool_that_stays_empty_is_said_to_be(mode) {
        let Some(stack) = gated(mode, "noEndpointRequestTTL: 300ms").await else { return };
        empty(&stack).await;
        let refused = ask(stack.client(Version::Http1), "", chat("hello", 4)).await.unwrap();
        is_refused(&refused, 503, "rejected-no-endpoints");
    }

    async fn without_the_gate_a_full_pool_refuses_the_sheddable_alone(mode) {
        let detector = "flowControl: {saturationDetector: {pluginRef: concurrency-detector}}";
        let Some(stack) = one_engine(mode, detector).await else { return };
        let idle = ask(stack.client(Version::Http1), "batch", chat("hello", 4)).await.unwrap();
        assert_eq!(idle.status, 200, "{idle:?}");
        let busy = occupy(&stack).await;
        let shed = ask(stack.client(Version::Http1), "batch", chat("hello", 4)).await.unwrap();
        is_refused(&shed, 429, "rejected-saturated");
        assert!(shed.header("retry-after").parse::<u64>().unwrap() >= 5);
        let usual = ask(stack.client(Version::Http1), "", chat("hello", 4)).await.unwrap();
        assert_eq!(usual.status, 200, "{usual:?}");
        drop(busy);
        all_comes_back(&stack).await;
    }
}
