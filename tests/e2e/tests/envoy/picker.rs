//! What is the endpoint picker's alone: how gateways read its choice, what they say to it, its death and return, and that
//! it chooses as the filter does.

use bytes::Bytes;
use e2e::client::{Answer, Client, Version, answer};
use e2e::prompts::{chat, prose, streamed};
use e2e::stack::{Mode, Stack};
use e2e::wait::{SOON, eventually};
use hyper::body::Frame;
use hyper::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::bodies::Frames;

const CHAT: &str = "/v1/chat/completions";
const PROMPT: usize = 12_000;

fn filters(bootstrap: &mut Value) -> &mut Vec<Value> {
    let chain = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0];
    chain["filters"][0]["typed_config"]["http_filters"].as_array_mut().unwrap()
}

fn pool_cluster(bootstrap: &mut Value) -> &mut Value {
    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
    clusters.iter_mut().find(|cluster| cluster["name"] == "kvasir-pool-llama").unwrap()
}

/// The choice is taken from dynamic metadata alone, as Istio does.
fn by_metadata(bootstrap: &mut Value) {
    let policy = &mut pool_cluster(bootstrap)["load_balancing_policy"]["policies"][0]["typed_extension_config"];
    policy["typed_config"]["override_host_sources"] =
        json!([{"metadata": {"key": "envoy.lb", "path": [{"key": "x-gateway-destination-endpoint"}]}}]);
}

/// A header of these tests becomes the subset of a request.
fn subset_by_header(bootstrap: &mut Value) {
    let rule = json!({
        "header": "x-allowed",
        "on_header_present":
            {"metadata_namespace": "envoy.lb.subset_hint", "key": "x-gateway-destination-endpoint-subset", "type": "STRING"},
    });
    let filter = json!({
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
            "request_rules": [rule],
        },
    });
    filters(bootstrap).insert(0, filter);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_choice_in_metadata_is_followed_and_subsets_are_kept_to() {
    let change = |bootstrap: &mut Value| {
        by_metadata(bootstrap);
        subset_by_header(bootstrap);
    };
    let Some(stack) = Stack::new().mode(Mode::Picker).workers(1).bootstrap(change).start().await else { return };
    let client = stack.client(Version::Http2);
    for seed in 0..6 {
        let first = client.ask(&prose(6000 + seed, PROMPT)).await;
        let again = client.send_chat(&streamed(&prose(6000 + seed, PROMPT), 4)).await;
        assert_eq!((again.status, again.engine()), (200, first.engine()), "{}", again.decision());
        assert!(again.cached_share() > 0.9, "{:?}", again.usage());
    }
    let within = async |addresses: &str| {
        answer(client.post(CHAT, chat("hello", 4).to_string()).header("x-allowed", addresses)).await
    };
    assert_eq!(within("127.0.0.1,10.0.0.1:1").await.status, 200);
    let nobody = within("10.0.0.1:1").await;
    assert_eq!((nobody.status, nobody.header("x-llm-d-request-dropped-reason")), (503, "rejected-no-endpoints"));
}

/// Envoy 1.40 sends a body twice when it streams it both ways, ends it with trailers, and may retry: so no retries here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_end_a_body_as_well_as_anything() {
    let no_retries = |bootstrap: &mut Value| {
        let manager = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
        let routes = &mut manager["typed_config"]["route_config"]["virtual_hosts"][0]["routes"];
        routes[0]["route"].as_object_mut().unwrap().remove("retry_policy").unwrap();
    };
    let stack = Stack::new().mode(Mode::Picker).engines(1).workers(1).bootstrap(no_retries).start().await;
    let Some(stack) = stack else { return };
    let body = chat(&prose(6100, 3000), 4).to_string().into_bytes();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("none"));
    let mut frames: Vec<Frame<Bytes>> =
        body.chunks(700).map(|chunk| Frame::data(Bytes::copy_from_slice(chunk))).collect();
    frames.push(Frame::trailers(trailers));
    let passed = answer(stack.client(Version::Http2).post(CHAT, reqwest::Body::wrap(Frames(frames)))).await;
    assert_eq!(passed.status, 200, "{passed:?}");
    assert!(passed.usage()["prompt_tokens"].as_u64() > Some(600), "the whole prompt: {}", passed.usage());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_picker_a_gateway_refuses_or_goes_on_as_it_is_told_and_asks_again_on_return() {
    for open in [false, true] {
        let change = move |bootstrap: &mut Value| {
            filters(bootstrap)[0]["typed_config"]["failure_mode_allow"] = json!(open);
        };
        let stack = Stack::new().mode(Mode::Picker).workers(1).bootstrap(change).start().await;
        let Some(mut stack) = stack else { return };
        let grpc = stack.control().grpc.clone();
        let mut under_way = stack.client(Version::Http1).open_chat(&streamed("hello", 100_000)).await;
        assert!(under_way.chunk().await.unwrap().is_some());
        stack.kill_control_plane();
        let client = stack.client(Version::Http1);
        if open {
            // Envoy lets only requests through whose body it has not begun to stream.
            let gone = client.get("/v1/models").await;
            assert_eq!(gone.status, 200, "{gone:?}");
            assert!(gone.header("x-kvasir-decision").is_empty());
        } else {
            let gone = client.ask("anybody there?").await;
            assert!((500..=504).contains(&gone.status), "{gone:?}");
        }
        drop(under_way);
        stack.restart_control_plane(&grpc).await;
        eventually("it chooses again", SOON, async || {
            let asked = stack.client(Version::Http1).ask("hello again").await;
            asked.status == 200 && !asked.header("x-kvasir-decision").is_empty()
        })
        .await;
        eventually("nothing is left", SOON, async || {
            let text = stack.control().text("/metrics").await;
            text.contains("kvasir_epp_streams 0\n") && text.contains("kvasir_epp_in_flight{stage=\"decoding\"} 0\n")
        })
        .await;
    }
}

/// What a decision was made of, without the draw among equals: words, and numbers.
fn weighed(answer: &Answer) -> (Vec<Value>, Vec<f64>) {
    let decision = answer.decision();
    let mut rows = decision["candidates"].as_array().unwrap().clone();
    rows.sort_by_key(|row| row["endpoint"].to_string());
    let mut words: Vec<Value> =
        ["pool", "prefix", "decided_by", "dropped"].iter().map(|field| decision[field].clone()).collect();
    let mut numbers = vec![decision["prompt_tokens"].as_f64().unwrap()];
    for row in &rows {
        words.push(row["endpoint"].clone());
        numbers.extend(
            ["matched_tokens", "reload_tokens", "uncached_tokens", "own_ttft_ms"]
                .map(|field| row[field].as_f64().unwrap()),
        );
    }
    (words, numbers)
}

/// The fleet's rates are fitted anew with every answer: tokens and times move a little between two requests.
fn close(ours: &[f64], theirs: &[f64]) -> bool {
    ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= 2.0 + 0.05 * a.abs().max(b.abs()))
}

/// Is somebody weighed who holds most of the prompt, and is nobody at work?
fn is_settled(answer: &Answer) -> bool {
    let decision = answer.decision();
    let rows = decision["candidates"].as_array().unwrap();
    let number = |row: &Value, field: &str| row[field].as_f64().unwrap();
    let calm = rows.iter().all(|row| row["waiting"] == 0 && row["decoding"] == 0);
    calm && rows.iter().any(|row| number(row, "matched_tokens") > 4.0 * number(row, "uncached_tokens"))
}

/// Both are asked the same until what is on its way between them (a booking that ended, a route that is news) has arrived.
async fn same_story(filter: &Client, picker: &Client, seed: u64) {
    let prompt = prose(seed, 2000 + 1000 * usize::try_from(seed % 10).unwrap());
    filter.ask(&prompt).await;
    for body in [chat(&prompt, 4), streamed(&format!("{prompt} and more"), 4)] {
        eventually("both say the same", SOON, async || {
            let (ours, theirs) = (picker.send_chat(&body).await, filter.send_chat(&body).await);
            let ((words, numbers), (their_words, their_numbers)) = (weighed(&ours), weighed(&theirs));
            let same = words == their_words && close(&numbers, &their_numbers);
            same && is_settled(&ours) && ours.cached_share() > 0.8 && theirs.cached_share() > 0.8
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_filter_and_the_picker_choose_alike_and_give_the_same_reasons() {
    let Some(stack) = Stack::new().workers(1).with_a_picker().start().await else { return };
    let (filter, picker) = (stack.gateways[0].client(Version::Http2), stack.gateways[1].client(Version::Http2));
    for seed in 6200..6212 {
        same_story(&filter, &picker, seed).await;
    }
    for client in [&filter, &picker] {
        let malformed = answer(client.post(CHAT, "{\"model\": 7}")).await;
        assert_eq!((malformed.status, &malformed.body), (400, &answer(filter.post(CHAT, "{\"model\": 7}")).await.body));
        assert_eq!(client.send_chat(&json!({"model": "nobody", "messages": []})).await.status, 404);
    }
}
