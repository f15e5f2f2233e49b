//! Endpoints that fail: left alone, tried, admitted again; and all requests have somewhere to go meanwhile.

use super::*;
use crate::headers;
use crate::testing::{CHAT, Driven, at, brain, chat_body, pool, post};
use crate::wire;

const TOKEN: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";

fn pods(ports: &[u16], settings: impl FnOnce(&mut wire::PoolSettings)) -> Brain {
    let mut rows = pool("p", ports, &[]);
    settings(rows.settings.as_mut().unwrap());
    brain(vec![rows])
}

fn ask(brain: &mut Brain, seed: u64, ms: u64) -> Driven {
    let id = seed.to_string();
    post(brain, CHAT, &[("x-request-id", &id), ("x-kvasir-explain", "1")], chat_body("m", "x").as_bytes(), at(ms))
}

fn answer(driven: &mut Driven, status: u16, brain: &mut Brain, ms: u64) -> Vec<Effect> {
    let by = driven.destination()[0].to_owned();
    driven.on(
        Input::ResponseHeaders { status, event_stream: true, encoded: false, served_by: Some(&by) },
        brain,
        at(ms),
    )
}

/// A request of the session at `address`, which has to be chosen.
fn ask_at(brain: &mut Brain, address: &str, ms: u64) -> Driven {
    let session = format!("{:x}", EndpointId::of(address).0);
    let driven = post(brain, CHAT, &[("x-session-token", &session)], chat_body("m", "x").as_bytes(), at(ms));
    assert_eq!(driven.destination()[0], address, "at {ms} ms");
    driven
}

/// Who is chosen first for 50 requests.
fn chosen(brain: &mut Brain, ms: u64) -> Vec<String> {
    let first = |seed| {
        let mut driven = ask(brain, seed, ms);
        let first = driven.destination()[0].to_owned();
        driven.on(Input::Ended, brain, at(ms));
        first
    };
    let mut all: Vec<String> = (0..50).map(first).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Why it went where it went.
fn decision(effects: &[Effect]) -> serde_json::Value {
    let told = effects.iter().find_map(|effect| {
        let Effect::AddResponseHeader(name, value) = effect else { return None };
        (name == headers::DECISION).then(|| serde_json::from_str(value).unwrap())
    });
    told.unwrap_or_else(|| panic!("no decision: {effects:?}"))
}

fn turned(effects: &[Effect]) -> Vec<&Turned> {
    let of = |effect| if let &Effect::Count(Event::Turned(ref turned)) = effect { Some(turned) } else { None };
    effects.iter().filter_map(of).collect()
}

fn named(turned: fn(String) -> Turned) -> Turned {
    turned("p".to_owned())
}

const ONE: &str = "10.0.0.1:1";
const TWO: &str = "10.0.0.1:2";

/// `ONE` has answered 500 three times, the last time at `ms`.
fn broken(brain: &mut Brain, ms: u64) {
    for left in (0..3).rev() {
        let mut driven = ask_at(brain, ONE, ms - left);
        let effects = answer(&mut driven, 500, brain, ms - left);
        let opened = named(|pool| Turned::Opened { pool });
        assert_eq!(turned(&effects), if left == 0 { vec![&opened] } else { vec![] });
        driven.on(Input::Ended, brain, at(ms - left));
    }
}

#[test]
fn who_answers_500_three_times_is_left_alone_then_tried_by_one_then_back() {
    let mut brain = pods(&[1, 2], |_| {});
    broken(&mut brain, 100);
    assert_eq!(
        brain.report(1).pools[0].failures,
        [wire::EndpointFailure { endpoint: EndpointId::of(ONE).0, count: 3 }]
    );
    assert_eq!(chosen(&mut brain, 800), [TWO]);

    let mut tries = ask_at(&mut brain, ONE, 1100);
    assert_eq!(chosen(&mut brain, 1100), [TWO], "one at a time");
    assert_eq!(turned(&answer(&mut tries, 200, &mut brain, 1110)), [] as [&Turned; 0], "headers are no token");
    let effects = tries.on(Input::ResponseBody { chunk: TOKEN, end_of_stream: false }, &mut brain, at(1200));
    assert_eq!(turned(&effects), [&named(|pool| Turned::Closed { pool })]);
    tries.on(Input::Ended, &mut brain, at(1200));
    assert_eq!(chosen(&mut brain, 1200), [ONE, TWO]);
}

#[test]
fn who_fails_when_it_is_tried_is_left_alone_for_longer() {
    let mut brain = pods(&[1, 2], |_| {});
    broken(&mut brain, 100);
    let mut tries = ask_at(&mut brain, ONE, 1100);
    answer(&mut tries, 502, &mut brain, 1100);
    tries.on(Input::Ended, &mut brain, at(1100));
    assert_eq!(chosen(&mut brain, 2599), [TWO]);
    assert_eq!(chosen(&mut brain, 3100), [ONE, TWO]);
}

#[test]
fn a_client_that_leaves_while_it_tries_makes_room() {
    let mut brain = pods(&[1, 2], |_| {});
    broken(&mut brain, 100);
    ask_at(&mut brain, ONE, 1100).on(Input::Ended, &mut brain, at(1101));
    assert_eq!(chosen(&mut brain, 1101), [ONE, TWO]);
}

#[test]
fn the_only_endpoint_is_asked_however_it_fails_and_the_decision_says_so() {
    let mut brain = pods(&[1], |_| {});
    broken(&mut brain, 100);
    let mut last_resort = ask(&mut brain, 1, 101);
    let effects = answer(&mut last_resort, 200, &mut brain, 102);
    let told = decision(&effects);
    assert_eq!((&told["decided_by"], &told["candidates"][0]["circuit"]), (&"last_resort".into(), &"open".into()));
    assert_eq!(told["dropped"][0]["reason"], "circuit_open");
    last_resort.on(Input::ResponseBody { chunk: TOKEN, end_of_stream: false }, &mut brain, at(110));
    let number = brain.ledger.number(EndpointId::of(ONE));
    assert_eq!(brain.ledger.standing(number, at(110)), crate::circuit::Standing::Closed, "it serves");
}

#[test]
fn first_tokens_that_do_not_come_in_time_open_the_circuit() {
    let mut brain = pods(&[1, 2], |settings| settings.first_token_timeout_seconds = 0.5);
    let mut silent: Vec<Driven> = (0..3).map(|ms| ask_at(&mut brain, ONE, ms)).collect();
    let limit = Effect::TryFor(Duration::from_millis(500));
    assert!(silent.iter().all(|driven| driven.effects.contains(&limit)));
    // Headers come before the token does.
    answer(&mut silent[0], 200, &mut brain, 10);
    assert_eq!(brain.pass_time(at(499)), []);
    let stalled = || named(|pool| Turned::Stalled { pool });
    assert_eq!(brain.pass_time(at(501)), [stalled(), stalled()]);
    assert_eq!(brain.pass_time(at(502)), [stalled(), named(|pool| Turned::Opened { pool })]);
    assert_eq!(chosen(&mut brain, 600), [TWO]);
    let failures = brain.report(1).pools[0].failures.clone();
    assert_eq!(failures, [wire::EndpointFailure { endpoint: EndpointId::of(ONE).0, count: 3 }]);
    for driven in &mut silent {
        driven.on(Input::Ended, &mut brain, at(700));
    }
    assert_eq!((brain.ledger.in_flight(), brain.pass_time(at(9000))), (0, vec![]));
}

#[test]
fn a_response_in_one_piece_may_take_its_time() {
    let mut brain = pods(&[1], |settings| settings.first_token_timeout_seconds = 0.5);
    let body = br#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    let whole = post(&mut brain, CHAT, &[], body, at(0));
    assert!(!whole.effects.iter().any(|effect| matches!(effect, Effect::TryFor(_))));
    assert_eq!(brain.pass_time(at(60_000)), []);
}

#[test]
fn what_fails_elsewhere_is_a_last_resort_unless_this_worker_knows_better() {
    let mut brain = pods(&[1, 2], |_| {});
    let tell = |brain: &mut Brain, failing: [bool; 2], ms| {
        let row =
            |(slot, failing)| wire::LiveEndpoint { slot, slowness: 1.0, failing, ..wire::LiveEndpoint::default() };
        let endpoints = (0..).zip(failing).map(row).collect();
        let pools = vec![wire::LivePool { name: "p".to_owned(), endpoints, ..wire::LivePool::default() }];
        brain.set_live(wire::Live { epoch: 1, pools, counted: Vec::new() }, at(ms)).unwrap();
    };
    tell(&mut brain, [true, false], 0);
    assert_eq!(chosen(&mut brain, 1), [TWO]);
    tell(&mut brain, [true, true], 2);
    assert_eq!(chosen(&mut brain, 3), [ONE, TWO], "nobody is better");
    tell(&mut brain, [true, false], 4);
    assert_eq!(chosen(&mut brain, 2005), [ONE, TWO], "a control plane that is silent is not believed");

    let mut brain = pods(&[1, 2], |_| {});
    broken(&mut brain, 100);
    tell(&mut brain, [true, false], 1100);
    assert_eq!(chosen(&mut brain, 1100), [ONE, TWO], "who left it alone tries it");
}

#[test]
fn who_comes_back_gets_its_share_by_and_by() {
    let mut brain = pods(&[1, 2], |settings| settings.slow_start_seconds = 10.0);
    let slowness = |brain: &mut Brain, ms| {
        let mut driven = ask(brain, 1, ms);
        let effects = answer(&mut driven, 200, brain, ms);
        driven.on(Input::Ended, brain, at(ms));
        let told = decision(&effects);
        let of = |address: &str| {
            let rows = told["candidates"].as_array().unwrap();
            rows.iter().find(|row| row["endpoint"] == address).map(|row| row["slowness"].as_f64().unwrap())
        };
        [of(ONE), of(TWO)]
    };
    assert_eq!(slowness(&mut brain, 0), [Some(1.0); 2], "the first table's are not new");
    let state = |brain: &mut Brain, version, state: wire::EndpointState, ms| {
        let mut endpoints = pool("p", &[1, 2], &[]).endpoints;
        endpoints[0].state = state.into();
        let change = wire::PoolChange { name: "p".to_owned(), endpoints, ..wire::PoolChange::default() };
        let delta = wire::Segment { epoch: 1, version, pools: vec![change], ..wire::Segment::default() };
        brain.fold(&prost::Message::encode_to_vec(&delta), at(ms)).unwrap();
    };
    state(&mut brain, 2, wire::EndpointState::Unhealthy, 100);
    assert_eq!(slowness(&mut brain, 100), [None, Some(1.0)]);
    state(&mut brain, 3, wire::EndpointState::Ready, 1000);
    assert_eq!(slowness(&mut brain, 1000), [Some(4.0), Some(1.0)]);
    assert_eq!(slowness(&mut brain, 6000), [Some(2.5), Some(1.0)]);
    assert_eq!(slowness(&mut brain, 11_000), [Some(1.0), Some(1.0)]);
}
