//! The two clocks of the engine model: twenty requests in virtual time, and the same twenty over HTTP against a real cluster of
//! simulated engines, each to the pod that the brain chose in the lab.
//!
//! Cached tokens agree exactly; a busy machine may add to times, so only their medians are compared.

use std::net::SocketAddr;
use std::time::Duration;

use lab::outcome::percentile;
use lab::scenario::Scenario;
use lab::workload::{Arrival, Kind, Rhythm, Workload};
use lab::world::run;
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};
use vllm_sim::cluster::{Cluster, ClusterConfig};

const REQUESTS: usize = 20;
const DEADLINE: Duration = Duration::from_secs(60);

/// What the client of a real pod saw.
struct Seen {
    ttft: f64,
    tpot: f64,
    cached_tokens: u64,
    prompt_tokens: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn virtual_time_and_real_time_tell_the_same() {
    let scenario = Scenario {
        rhythm: Rhythm::Even,
        pods: 4,
        warm: 0.0,
        until: (REQUESTS as f64 + 0.5) / 8.0,
        ..Scenario::new(Kind::Hot, 8.0)
    };
    let outcome = run(&scenario).unwrap();
    assert_eq!(outcome.judged().count(), REQUESTS);
    let cluster = Cluster::start(ClusterConfig { engines: scenario.pods, ..ClusterConfig::default() }).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut workload = Workload::new((scenario.workload, scenario.rhythm), scenario.rate, scenario.seed);
    let begin = Instant::now() + Duration::from_millis(100);
    let asked: Vec<_> = outcome
        .records
        .iter()
        .map(|record| {
            let (arrival, pod) = (workload.next_arrival(), cluster.addresses()[record.pod.unwrap()]);
            assert!((arrival.at - record.arrived).abs() < 1e-9);
            tokio::spawn(timeout(DEADLINE, ask(client.clone(), pod, arrival, begin)))
        })
        .collect();
    let (mut ttfts, mut tpots, mut hits) = (Vec::new(), Vec::new(), 0);
    for (task, record) in asked.into_iter().zip(&outcome.records) {
        let seen = task.await.unwrap().expect("answered before the deadline");
        assert_eq!(seen.prompt_tokens, u64::from(record.prompt_tokens));
        assert_eq!(seen.cached_tokens, u64::from(record.cached_tokens), "{record:?}");
        hits += usize::from(seen.cached_tokens > 0);
        ttfts.push((record.ttft().unwrap(), seen.ttft));
        tpots.push((record.tpot().unwrap(), seen.tpot));
    }
    assert!((5..REQUESTS).contains(&hits), "{hits} hits prove nothing");
    for (name, pairs, slack) in [("TTFT", ttfts, 0.010), ("TPOT", tpots, 0.002)] {
        let (told, seen): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let (told, seen) = (percentile(told, 0.5), percentile(seen, 0.5));
        assert!((seen - told).abs() <= 0.25 * told + slack, "{name}: {told} s in virtual time, {seen} s in real time");
    }
}

async fn ask(client: reqwest::Client, pod: SocketAddr, arrival: Arrival, begin: Instant) -> Seen {
    let body = arrival.prompt.body(Some(arrival.prompt.answer.tokens));
    let sent = begin + Duration::from_secs_f64(arrival.at);
    sleep_until(sent).await;
    let request = client.post(format!("http://{pod}/v1/chat/completions")).header("content-type", "application/json");
    let mut response = request.body(body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let (mut text, mut first, mut scanned) = (String::new(), None, 0);
    let mut last = Instant::now();
    while let Some(bytes) = response.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&bytes).unwrap());
        while let Some(length) = text[scanned..].find("\n\n") {
            let event = &text[scanned..scanned + length];
            scanned += length + 2;
            if has_content(event) {
                last = Instant::now();
                first.get_or_insert(last);
            }
        }
    }
    let usage = text.lines().filter_map(data).find_map(|event| event.get("usage").filter(|u| u.is_object()).cloned());
    let usage = usage.unwrap_or_else(|| panic!("no usage in {text}"));
    let first = first.expect("a token");
    Seen {
        ttft: (first - sent).as_secs_f64(),
        tpot: (last - first).as_secs_f64() / f64::from(arrival.prompt.answer.tokens - 1),
        cached_tokens: usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap(),
        prompt_tokens: usage["prompt_tokens"].as_u64().unwrap(),
    }
}

fn data(line: &str) -> Option<Value> {
    serde_json::from_str(line.strip_prefix("data: ")?).ok()
}

fn has_content(event: &str) -> bool {
    let text =
        event.lines().find_map(data).and_then(|event| Some(event["choices"][0]["delta"]["content"].as_str()?.len()));
    text.is_some_and(|length| length > 0)
}
