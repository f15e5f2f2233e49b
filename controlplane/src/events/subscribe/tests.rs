//! Against an engine on real sockets: everything that can happen to a stream, told by the updates that come out.

use tokio::time::timeout;

use super::*;
use crate::events::event::{BlockHash, KvEvent};

pub(in crate::events) mod engine;

use engine::{Engine, Habits};

/// Tests end by then.
const LONG: Duration = Duration::from_secs(20);

/// One that neither gives up nor waits for long.
pub(in crate::events) fn options() -> Options {
    Options { retry: (Duration::from_millis(5), Duration::from_millis(50)), ..Options::default() }
}

/// A follower and what it tells.
pub(in crate::events) struct Watcher {
    updates: mpsc::Receiver<Update>,
    pub(in crate::events) stats: watch::Receiver<Stats>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Watcher {
    fn dialling(source: Source, options: Options, waiting: usize) -> Self {
        let follower = Follower::new(source, options);
        Self::of(follower, waiting, async |follower, out, stop| follower.dial(out, stop).await)
    }

    pub(in crate::events) fn of<F>(
        follower: Follower,
        waiting: usize,
        run: impl AsyncFnOnce(Follower, mpsc::Sender<Update>, CancellationToken) -> F + 'static,
    ) -> Self
    where
        F: 'static,
    {
        let (out, updates) = mpsc::channel(waiting);
        let (stats, stop) = (follower.stats(), CancellationToken::new());
        let token = stop.clone();
        let task = tokio::task::spawn_local(async move {
            run(follower, out, token).await;
        });
        Self { updates, stats, stop, task }
    }

    async fn next(&mut self) -> Update {
        timeout(LONG, self.updates.recv()).await.expect("no update in time").expect("the follower ended")
    }

    /// Updates up to the first that is `last`, which is among them.
    pub(in crate::events) async fn until(&mut self, last: impl Fn(&Update) -> bool) -> Vec<Update> {
        let mut updates = Vec::new();
        loop {
            let update = self.next().await;
            let done = last(&update);
            updates.push(update);
            if done {
                return updates;
            }
        }
    }

    pub(in crate::events) async fn until_synced(&mut self) -> Vec<Update> {
        self.until(|update| matches!(update, Update::Synced(_))).await
    }

    /// Numbers of the batches up to this one.
    pub(in crate::events) async fn until_batch(&mut self, last: u64) -> Vec<u64> {
        numbers(&self.until_batch_updates(last).await)
    }

    async fn until_batch_updates(&mut self, last: u64) -> Vec<Update> {
        self.until(|update| numbers(std::slice::from_ref(update)) == [last]).await
    }

    pub(in crate::events) async fn end(self) {
        self.stop.cancel();
        timeout(LONG, self.task).await.expect("the follower does not stop").unwrap();
    }
}

/// Of the batches among these updates.
pub(in crate::events) fn numbers(updates: &[Update]) -> Vec<u64> {
    let mut numbers = Vec::new();
    for update in updates {
        let Update::Batch { batch, .. } = update else { continue };
        let [KvEvent::Removed(removed)] = &batch.events[..] else { panic!("{batch:?}") };
        let [BlockHash(seq)] = removed.hashes[..] else { panic!("{removed:?}") };
        numbers.push(seq);
    }
    numbers
}

fn resets(updates: &[Update]) -> Vec<ResetReason> {
    updates.iter().filter_map(|update| if let Update::Reset(reason) = update { Some(*reason) } else { None }).collect()
}

fn range(first: u64, last: u64) -> Vec<u64> {
    (first..=last).collect()
}

/// Polls until it holds.
pub(in crate::events) async fn eventually(condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LONG, poll).await.expect("it never came true");
}

/// Followed, subscribed, and known from the beginning.
async fn followed(engine: &Engine, topic: &str, options: Options) -> Watcher {
    let mut watcher = Watcher::dialling(engine.source(topic), options, 64);
    let start = watcher.until_synced().await;
    assert_eq!(start.first(), Some(&Update::Connected));
    assert_eq!(start.last(), Some(&Update::Synced(Coverage::Complete)));
    eventually(|| engine.subscribers() > 0).await;
    watcher
}

async fn local<T>(test: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(test).await
}

#[tokio::test]
async fn a_first_connection_brings_the_past_and_then_the_present_in_both_framings() {
    local(async {
        for replay_topic in [false, true] {
            let engine = Engine::start(Habits { replay_topic, ..Habits::default() }).await;
            (0..3).for_each(|_| engine.publish());
            let mut watcher = Watcher::dialling(engine.source("kv"), options(), 64);
            assert_eq!(numbers(&watcher.until_synced().await), range(0, 2));
            eventually(|| engine.subscribers() > 0).await;
            engine.publish();
            assert_eq!(watcher.until_batch(3).await, [3]);
            assert_eq!((watcher.stats.borrow().coverage, watcher.stats.borrow().messages), (Coverage::Complete, 1));
            watcher.end().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_gap_is_healed_by_a_replay() {
    local(async {
        let engine = Engine::start(Habits::default()).await;
        let mut watcher = followed(&engine, "kv-events", options()).await;
        engine.publish();
        watcher.until_batch(0).await;
        (0..5).for_each(|_| engine.lose());
        engine.publish();
        let updates = watcher.until_synced().await;
        assert!(matches!(updates[0], Update::Gap { missing: 5, .. }), "{updates:?}");
        assert_eq!((numbers(&updates), resets(&updates)), (range(1, 6), vec![]));
        let order = watcher.stats.borrow().order;
        assert_eq!((order.gaps, order.missed, order.lost), (1, 5, 0));
        watcher.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_gap_that_is_forgotten_resets_and_goes_on() {
    local(async {
        let engine = Engine::start(Habits { memory: 2, ..Habits::default() }).await;
        let mut watcher = followed(&engine, "kv-events", options()).await;
        engine.publish();
        watcher.until_batch(0).await;
        (0..5).for_each(|_| engine.lose());
        engine.publish();
        let updates = watcher.until_synced().await;
        assert_eq!((numbers(&updates), resets(&updates)), (range(5, 6), vec![ResetReason::Unrecoverable]));
        assert_eq!(updates.last(), Some(&Update::Synced(Coverage::Partial)));
        watcher.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_gap_with_nobody_to_ask_resets_and_goes_on() {
    local(async {
        let engine = Engine::start(Habits::default()).await;
        let source = Source { replay: None, ..engine.source("") };
        let mut watcher = Watcher::dialling(source, options(), 64);
        eventually(|| engine.subscribers() > 0).await;
        engine.publish();
        watcher.until_batch(0).await;
        engine.lose();
        engine.publish();
        let updates = watcher.until_batch_updates(2).await;
        assert_eq!(resets(&updates), [ResetReason::ReplayUnavailable]);
        watcher.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_replay_endpoint_that_does_not_answer_is_given_up() {
    local(async {
        let engine = Engine::start(Habits::default()).await;
        let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut source = engine.source("");
        source.replay.as_mut().unwrap().port = deaf.local_addr().unwrap().port();
        let options = Options { patience: Duration::from_millis(50), ..options() };
        let mut watcher = Watcher::dialling(source, options, 64);
        eventually(|| watcher.stats.borrow().order.replays_failed == 1 && engine.subscribers() > 0).await;
        engine.publish();
        watcher.until_batch(0).await;
        engine.lose();
        engine.publish();
        let updates = watcher.until_batch_updates(2).await;
        assert_eq!(resets(&updates), [ResetReason::ReplayUnavailable]);
        watcher.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_publisher_that_is_killed_and_restarted_is_followed_anew() {
    local(async {
        let first = Engine::start(Habits::default()).await;
        let mut watcher = followed(&first, "kv-events", options()).await;
        (0..3).for_each(|_| first.publish());
        watcher.until_batch(2).await;
        let ports = first.ports();
        drop(first);
        let gone = watcher.until(|update| matches!(update, Update::Disconnected(_))).await;
        assert_eq!(resets(&gone), [], "what is known may still be true");
        // The new one passes the old one's last number before it is heard.
        let second = Engine::start_on(ports, Habits { life: 2.0, ..Habits::default() }).await;
        (0..9).for_each(|_| second.lose());
        let back = watcher.until_synced().await;
        assert_eq!((numbers(&back), resets(&back)), (range(0, 8), vec![ResetReason::Restarted]));
        assert_eq!(back.last(), Some(&Update::Synced(Coverage::Complete)));
        watcher.end().await;
    })
    .await;
}

#[tokio::test]
async fn batches_missed_while_the_connection_was_down_come_after_it() {
    local(async {
        let engine = Engine::start(Habits::default()).await;
        let pace = Pace { ping: Duration::from_millis(20), silence: Duration::from_millis(200), ..Pace::default() };
        let mut watcher = followed(&engine, "kv-events", Options { pace, ..options() }).await;
        engine.publish();
        watcher.until_batch(0).await;
        engine.fall_silent();
        let updates = watcher.until(|update| matches!(update, Update::Disconnected(_))).await;
        assert_eq!(updates.last(), Some(&Update::Disconnected("peer silent for 200ms".to_owned())));
        assert!(engine.heard().1 > 0, "it was not even pinged");
        (0..4).for_each(|_| engine.publish());
        assert_eq!(watcher.until_batch(4).await, range(1, 4));
        watcher.end().await;
    })
    .await;
}

#[tokio::test]
async fn an_old_peer_is_never_pinged_and_subscribed_to_by_message() {
    local(async {
        let engine = Engine::start(Habits { minor: 0, ..Habits::default() }).await;
        let pace = Pace { ping: Duration::from_millis(5), old_silence: Duration::from_millis(200), ..Pace::default() };
        let mut watcher = followed(&engine, "kv", Options { pace, ..options() }).await;
        let updates = watcher.until(|update| matches!(update, Update::Disconnected(_))).await;
        assert_eq!(updates.last(), Some(&Update::Disconnected("peer silent for 200ms".to_owned())));
        assert_eq!(engine.heard().1, 0);
        engine.publish();
        watcher.until_batch(0).await;
        watcher.end().await;
    })
    .await;
}

#[tokio::test]
async fn only_the_wanted_topic_is_followed() {
    local(async {
        for unfiltered in [false, true] {
            let engine = Engine::start(Habits { topic: "kv@a", unfiltered, ..Habits::default() }).await;
            let source = Source { replay: None, ..engine.source("kv@b") };
            let mut other = Watcher::dialling(source, options(), 64);
            let mut wanted = followed(&engine, "kv@", options()).await;
            eventually(|| engine.subscribers() == 2).await;
            assert!(engine.heard().0.contains(&b"kv@b".to_vec()));
            engine.publish();
            wanted.until_batch(0).await;
            if unfiltered {
                eventually(|| other.stats.borrow().foreign == 1).await;
            }
            assert_eq!(other.stats.borrow().messages, 0);
            assert_eq!(other.next().await, Update::Connected);
            assert!(other.updates.try_recv().is_err());
            other.end().await;
            wanted.end().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_lags_loses_nothing_that_the_replay_remembers() {
    const MANY: u64 = 9000;
    local(async {
        let engine = Engine::start(Habits::default()).await;
        let mut watcher = Watcher::dialling(engine.source(""), options(), 1);
        eventually(|| engine.subscribers() > 0).await;
        (0..MANY).for_each(|_| engine.publish());
        eventually(|| watcher.stats.borrow().messages == MANY).await;
        assert!(watcher.stats.borrow().dropped > 0, "nothing was dropped: the test shows nothing");
        let mut next = 0;
        while next < MANY {
            for seq in numbers(&[watcher.next().await]) {
                assert_eq!(seq, next);
                next += 1;
            }
        }
        assert_eq!(watcher.stats.borrow().order.resets, 0);
        watcher.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_wrong_port_is_named_as_such() {
    local(async {
        let engine = Engine::start(Habits::default()).await;
        let mut source = engine.source("");
        source.events = source.replay.clone().unwrap();
        let mut watcher = Watcher::dialling(source, options(), 64);
        let refused = Update::Disconnected("peer is a ROUTER socket".to_owned());
        assert_eq!(watcher.next().await, refused);
        watcher.end().await;
    })
    .await;
}
