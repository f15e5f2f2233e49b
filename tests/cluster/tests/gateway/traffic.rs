//! Short chats at a steady rate over several connections, whatever becomes of earlier ones, and what became of each. A
//! request was with its engine between `sent` and `done`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::client::{Client, Version, try_answer};
use e2e::gateway::Gateway;
use e2e::prompts::{chat, prose};
use e2e::wait::{SOON, eventually, wait_for};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// Between two requests.
const PACE: Duration = Duration::from_millis(5);
const CONNECTIONS: usize = 8;
/// More at a time are not sent: a gateway that answers nothing must not be buried.
const AT_ONCE: usize = 256;
/// An engine is left alone when so many requests in a row went elsewhere: by chance, one of three would not be.
const ELSEWHERE: usize = 100;

/// A request's end.
#[derive(Clone, Debug)]
struct Record {
    sent: Instant,
    done: Instant,
    /// The engine that gave a whole answer; else what went wrong.
    engine: Result<String, String>,
}

/// Requests under way.
pub(crate) struct Traffic {
    records: Arc<std::sync::Mutex<Vec<Record>>>,
    stop: tokio::sync::watch::Sender<bool>,
    sender: JoinHandle<()>,
}

impl Traffic {
    pub(crate) fn start(gateway: &Gateway) -> Self {
        let clients: Vec<Client> = (0..CONNECTIONS)
            .map(|number| gateway.client(if number % 2 == 0 { Version::Http1 } else { Version::Http2 }))
            .collect();
        let records = Arc::default();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let sender = tokio::spawn(send(clients, Arc::clone(&records), stopped));
        Self { records, stop, sender }
    }

    /// Reads what has ended so far, of which nothing may have failed.
    fn look<T>(&self, read: impl FnOnce(&[Record]) -> T) -> T {
        let (found, failed) = {
            let records = self.records.lock().unwrap();
            (read(&records), records.iter().find_map(|record| record.engine.as_ref().err().cloned()))
        };
        // Outside the lock, which the requests under way still need.
        assert!(failed.is_none(), "a request failed: {}", failed.unwrap_or_default());
        found
    }

    /// The first whole answer by `engine` to a request that was sent after `since`: how long after.
    pub(crate) async fn until_answered_by(&self, engine: &str, since: Instant) -> Duration {
        wait_for(&format!("an answer by {engine}"), SOON, async || {
            self.look(|records| {
                let theirs = records.iter().filter(|r| r.sent >= since && r.is_by(engine));
                theirs.map(|r| r.done.duration_since(since)).min()
            })
        })
        .await
    }

    /// Waits until `engine` gets no more requests; how long after `since` the last one was sent that it got.
    pub(crate) async fn until_left_alone(&self, engine: &str, since: Instant) -> Duration {
        wait_for(&format!("{engine} is left alone"), SOON, async || {
            self.look(|records| {
                let last = records.iter().filter(|r| r.is_by(engine)).map(|r| r.sent).max().unwrap_or(since).max(since);
                let later = records.iter().filter(|r| r.sent > last).count();
                (later >= ELSEWHERE).then(|| last.duration_since(since))
            })
        })
        .await
    }

    /// Waits until as many requests have been answered as a row needs to have.
    pub(crate) async fn until_more(&self) {
        let begun = self.look(<[Record]>::len);
        eventually("requests go on", SOON, async || self.look(|records| records.len() >= begun + ELSEWHERE)).await;
    }

    /// Ends it. Every request must have been answered, with 200, by an engine; how many, by each.
    pub(crate) async fn stop(self, what: &str) -> BTreeMap<String, usize> {
        self.stop.send(true).unwrap();
        tokio::time::timeout(SOON * 4, self.sender).await.expect("all requests end").unwrap();
        let records = std::mem::take(&mut *self.records.lock().unwrap());
        let failed: Vec<&String> = records.iter().filter_map(|record| record.engine.as_ref().err()).collect();
        assert!(failed.is_empty(), "{} of {} requests failed: {:?}", failed.len(), records.len(), failed.first());
        let mut times: Vec<Duration> = records.iter().map(|record| record.done - record.sent).collect();
        times.sort_unstable();
        let (middle, most) = (quantile(&times, 500), quantile(&times, 999));
        eprintln!("{what}: {} requests, none failed; answered in {middle:.0?} p50, {most:.0?} p99.9", records.len());
        let mut counts = BTreeMap::new();
        for engine in records.into_iter().filter_map(|record| record.engine.ok()) {
            *counts.entry(engine).or_default() += 1;
        }
        counts
    }
}

impl Record {
    fn is_by(&self, engine: &str) -> bool {
        self.engine.as_ref().is_ok_and(|by| by == engine)
    }
}

/// Of sorted durations, of which there is at least one: what this share of them does not exceed.
pub(crate) fn quantile(sorted: &[Duration], permille: usize) -> Duration {
    sorted[(sorted.len() * permille).div_ceil(1000).max(1) - 1]
}

async fn send(
    clients: Vec<Client>,
    records: Arc<std::sync::Mutex<Vec<Record>>>,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) {
    let mut pace = tokio::time::interval(PACE);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut under_way = JoinSet::new();
    for (number, client) in (20_000_u64..).zip(clients.iter().cycle()) {
        let place = tokio::select! {
            _ = pace.tick() => Arc::clone(&places).acquire_owned().await.unwrap(),
            _ = stopped.changed() => break,
        };
        let (client, records) = (client.clone(), Arc::clone(&records));
        under_way.spawn(async move {
            let record = ask(&client, number).await;
            records.lock().unwrap().push(record);
            drop(place);
        });
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
}

async fn ask(client: &Client, number: u64) -> Record {
    let body = chat(&prose(number, 300), 4).to_string();
    let sent = Instant::now();
    let answer = try_answer(client.post("/v1/chat/completions", body)).await;
    let done = Instant::now();
    let engine = match answer {
        Err(error) => Err(format!("{error:?}")),
        Ok(answer) => {
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let whole = answer.status == 200 && body["choices"][0]["finish_reason"] == "length";
            if whole && !answer.engine().is_empty() {
                Ok(answer.engine().to_owned())
            } else {
                Err(format!("{answer:?}"))
            }
        }
    };
    Record { sent, done, engine }
}
