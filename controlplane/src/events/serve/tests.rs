//! Engines on real sockets that dial a gate.

use super::*;
use crate::events::sources::{Address, Source};
use crate::events::subscribe::Update;
use crate::events::subscribe::tests::engine::{Engine, Habits};
use crate::events::subscribe::tests::{Watcher, options};

fn follower(replay: Option<Address>) -> Follower {
    let events = Address { host: "127.0.0.1".to_owned(), port: 1 };
    Follower::new(Source { events, replay, topic: String::new(), rank: 0 }, options())
}

fn watch(follower: Follower) -> Watcher {
    Watcher::of(follower, 64, async |follower, out, stop| follower.follow(out, stop).await)
}

async fn gate(stop: &CancellationToken) -> (Gate, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gate = Gate::new();
    tokio::spawn(gate.clone().serve(listener, Pace::default(), stop.clone()));
    (gate, address)
}

#[tokio::test]
async fn engines_that_dial_one_port_are_told_apart_by_their_topics() {
    let test = async {
        let stop = CancellationToken::new();
        let (gate, address) = gate(&stop).await;
        let (a, b) = (follower(None), follower(None));
        let admissions = [gate.admit("a", "kv@a@", None, &a), gate.admit("b", "kv@b@", None, &b)];
        let (mut a, mut b) = (watch(a), watch(b));
        let first = Engine::dialling(address, Habits { topic: "kv@a@m", ..Habits::default() }).await;
        let second = Engine::dialling(address, Habits { topic: "kv@b@m", ..Habits::default() }).await;
        for engine in [&first, &second] {
            crate::events::subscribe::tests::eventually(|| engine.subscribers() > 0).await;
        }
        first.publish();
        first.publish();
        second.publish();
        assert_eq!(a.until_batch(1).await, [0, 1]);
        assert_eq!(b.until_batch(0).await, [0]);
        assert_eq!((a.stats.borrow().messages, b.stats.borrow().messages), (2, 1));
        drop(second);
        b.until(|update| matches!(update, Update::Disconnected(_))).await;
        assert!(a.stats.borrow().connected && !b.stats.borrow().connected);
        drop(admissions);
        a.end().await;
        b.end().await;
        stop.cancel();
    };
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn an_engine_known_by_its_address_is_met_before_its_first_batch_and_asked_for_its_past() {
    let test = async {
        let stop = CancellationToken::new();
        let (gate, address) = gate(&stop).await;
        // Its replay endpoint is bound as ever.
        let past = Engine::start(Habits::default()).await;
        (0..3).for_each(|_| past.publish());
        let follower = follower(past.source("").replay);
        let admission = gate.admit("a", "", Some("127.0.0.1".parse().unwrap()), &follower);
        let mut watcher = watch(follower);
        let _engine = Engine::dialling(address, Habits::default()).await;
        assert_eq!(watcher.until_batch(2).await, [0, 1, 2]);
        drop(admission);
        watcher.end().await;
        stop.cancel();
    };
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn what_nobody_or_several_claim_is_counted_and_delivered_to_none() {
    let test = async {
        let stop = CancellationToken::new();
        let (gate, address) = gate(&stop).await;
        let followers = [follower(None), follower(None), follower(None)];
        let [a, b, again] = &followers;
        let _admissions = [
            gate.admit("h:1", "kv@h@", None, a),
            gate.admit("h:2", "kv@h@", None, b),
            gate.admit("h:1", "kv@h:1@", None, a),
            gate.admit("h:1", "kv@h:1@", None, again),
        ];
        let stats = followers.each_ref().map(Follower::stats);
        for (topic, unknown, heard) in [
            ("kv@h@m", 1, [0, 0, 0]),
            ("kv@x@m", 2, [0, 0, 0]),
            ("kv@h:1@m", 2, [1, 0, 1]),
            ("kv@h:10@m", 3, [1, 0, 1]),
        ] {
            let engine = Engine::dialling(address, Habits { topic, ..Habits::default() }).await;
            crate::events::subscribe::tests::eventually(|| engine.subscribers() > 0).await;
            engine.publish();
            crate::events::subscribe::tests::eventually(|| {
                let messages = stats.each_ref().map(|stats| stats.borrow().messages);
                (gate.unknown(), messages) == (unknown, heard)
            })
            .await;
        }
        stop.cancel();
    };
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn an_engine_that_came_back_before_it_was_missed_is_not_gone() {
    let test = async {
        let stop = CancellationToken::new();
        let (gate, address) = gate(&stop).await;
        let follower = follower(None);
        let _admission = gate.admit("a", "kv@a@", None, &follower);
        let mut watcher = watch(follower);
        let dial = async || Engine::dialling(address, Habits { topic: "kv@a@m", ..Habits::default() }).await;
        let mut old = Some(dial().await);
        let first = old.as_ref().unwrap();
        crate::events::subscribe::tests::eventually(|| first.subscribers() > 0).await;
        first.publish();
        assert_eq!(watcher.until_batch(0).await, [0]);
        let mut heard = Vec::new();
        for _ in 0..2 {
            let new = dial().await;
            crate::events::subscribe::tests::eventually(|| new.subscribers() > 0).await;
            new.publish();
            heard.extend(watcher.until(|update| *update == Update::Connected).await);
            // Dropped with the first of the new ones: it was replaced by then.
            drop(old.take());
            drop(new);
            heard.extend(watcher.until(|update| matches!(update, Update::Disconnected(_))).await);
        }
        let gone = heard.iter().filter(|update| matches!(update, Update::Disconnected(_))).count();
        assert_eq!((gone, watcher.stats.borrow().connects), (2, 3));
        stop.cancel();
        watcher.end().await;
    };
    tokio::task::LocalSet::new().run_until(test).await;
}
