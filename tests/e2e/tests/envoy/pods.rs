//! Pods come and go under load, and no request notices.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use e2e::client::{Answer, Version, try_answer};
use e2e::prompts::{chat, prose};
use e2e::stack::Stack;
use e2e::wait::{SOON, eventually};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Requests without end, and what became of them.
struct Load {
    senders: JoinSet<Vec<Result<Answer, String>>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn start(stack: &Stack) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let numbers = Arc::new(AtomicU64::new(4000));
        let mut senders = JoinSet::new();
        for sender in 0..8 {
            let version = if sender % 2 == 0 { Version::Http1 } else { Version::Http2 };
            let (client, stop, numbers) = (stack.client(version), Arc::clone(&stop), Arc::clone(&numbers));
            senders.spawn(async move {
                let mut results = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let body = chat(&prose(numbers.fetch_add(1, Ordering::Relaxed), 1500), 16).to_string();
                    let result = try_answer(client.post("/v1/chat/completions", body)).await;
                    results.push(result.map_err(|error| format!("{error:?}")));
                }
                results
            });
        }
        Self { senders, stop }
    }

    /// Ends it; every request must have been answered with 200. How many, per engine.
    async fn stop(self) -> BTreeMap<String, usize> {
        self.stop.store(true, Ordering::Relaxed);
        let mut counts = BTreeMap::new();
        for result in self.senders.join_all().await.into_iter().flatten() {
            let answer = result.unwrap_or_else(|error| panic!("a request was lost: {error}"));
            assert_eq!(answer.status, 200, "{answer:?}");
            *counts.entry(answer.engine().to_owned()).or_default() += 1;
        }
        counts
    }
}

async fn received(stack: &Stack, index: usize) -> u64 {
    stack.sim.states().await[index]["requests"]["received"].as_u64().unwrap()
}

async fn finished_after(stack: &Stack, index: usize, more: u64) {
    let before = stack.sim.states().await[index]["requests"]["answered"].as_u64().unwrap();
    eventually("requests go on", SOON, async || {
        stack.sim.states().await[index]["requests"]["answered"].as_u64().unwrap() >= before + more
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_added_drained_and_removed_under_load_without_a_failed_request() {
    let Some(stack) = Stack::new().engines(3).start().await else { return };
    let addresses = stack.sim.addresses.clone();
    let listed = |rows: &[Value]| stack.write_endpoints(rows);
    listed(&[json!(addresses[0]), json!(addresses[1])]);
    eventually("the third is gone", SOON, async || {
        stack.client(Version::Http1).get("/v1/models").await.candidate(&addresses[2]).is_none()
            && stack.control().state_of(&addresses[2]).await.is_none()
    })
    .await;
    let load = Load::start(&stack);
    finished_after(&stack, 0, 20).await;

    listed(&[json!(addresses[0]), json!(addresses[1]), json!(addresses[2])]);
    finished_after(&stack, 2, 20).await;

    listed(&[json!({"address": addresses[0], "draining": true}), json!(addresses[1]), json!(addresses[2])]);
    eventually("it drains", SOON, async || {
        let asked = stack.client(Version::Http1).get("/v1/models").await;
        asked.candidate(&addresses[0]).is_none() && stack.sim.in_flight().await[0] == 0
    })
    .await;
    let drained = received(&stack, 0).await;
    finished_after(&stack, 1, 20).await;
    finished_after(&stack, 2, 20).await;
    assert_eq!(received(&stack, 0).await, drained, "no new requests go to a draining pod");

    listed(&[json!(addresses[1]), json!(addresses[2])]);
    eventually("it is gone", SOON, async || stack.control().state_of(&addresses[0]).await.is_none()).await;
    finished_after(&stack, 1, 20).await;

    // Gone at once, without draining, with requests in it.
    listed(&[json!(addresses[2])]);
    eventually("it is gone", SOON, async || stack.control().state_of(&addresses[1]).await.is_none()).await;
    finished_after(&stack, 2, 40).await;
    let counts = load.stop().await;
    assert_eq!(counts.len(), 3, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_stops_listening_under_load_costs_no_request() {
    let Some(stack) = Stack::new().engines(3).start().await else { return };
    let load = Load::start(&stack);
    finished_after(&stack, 0, 20).await;
    let victim = stack.sim.addresses[0].clone();
    stack.sim.fault(&victim, json!({"kind": "refuse"})).await;
    eventually("ejected", SOON, async || stack.control().state_of(&victim).await.as_deref() == Some("unhealthy")).await;
    finished_after(&stack, 1, 20).await;
    stack.sim.reset().await;
    finished_after(&stack, 0, 20).await;
    load.stop().await;
}
