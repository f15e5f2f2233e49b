//! Requests that wait: every outcome, and nothing left behind.

use proptest::prelude::{any, proptest};

use super::*;
use crate::testing::{CHAT, Driven, at, brain, chat_body, pool, post};
use crate::wire;
use crate::wire::flow_control::Hold;

mod llm_d;
mod sessions;

fn band(priority: i32, ttl_seconds: f64) -> wire::Band {
    wire::Band { priority, limit: 1.0, ttl_seconds, deadline: true, ..wire::Band::default() }
}

fn flow(bands: Vec<wire::Band>) -> wire::FlowControl {
    // One prompt at a time on each endpoint.
    let hold = Hold::Prediction(wire::Prediction { token_budget: 1.0, ignore_tpot: false });
    wire::FlowControl { bands, skip: 8, hold: Some(hold), ..wire::FlowControl::default() }
}

/// A pool of the endpoints `ports` that holds requests.
fn held(ports: &[u16], flow: wire::FlowControl) -> Brain {
    let mut rows = pool("p", ports, &[]);
    let settings = rows.settings.as_mut().unwrap();
    let objective = |name: &str, priority| wire::Objective { name: name.to_owned(), priority };
    settings.objectives = vec![objective("vip", 10), objective("batch", -10)];
    settings.flow = Some(flow);
    brain(vec![rows])
}

fn ask(brain: &mut Brain, name: &str, objective: &str, ms: u64) -> Driven {
    let headers = [("x-request-id", name), ("x-llm-d-inference-objective", objective), ("x-kvasir-explain", "1")];
    post(brain, CHAT, &headers, chat_body("m", name).as_bytes(), at(ms))
}

fn is_steered(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Steer { .. }))
}

fn ticket(driven: &Driven) -> Ticket {
    let found = driven.effects.iter().find_map(|effect| {
        let Effect::Wait(ticket) = effect else { return None };
        Some(*ticket)
    });
    found.unwrap_or_else(|| panic!("does not wait: {:?}", driven.effects))
}

/// The answer that was made here: status, reason, seconds to stay away.
fn refusal(effects: &[Effect]) -> (u16, String, Option<u64>) {
    let reply = effects.iter().find_map(|effect| {
        let Effect::Reply(reply) = effect else { return None };
        Some(reply)
    });
    let reply = reply.unwrap_or_else(|| panic!("not answered: {effects:?}"));
    let header = |name| reply.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
    let retry = header("retry-after").and_then(|seconds| seconds.parse().ok());
    (reply.status, header("x-llm-d-request-dropped-reason").unwrap_or_default(), retry)
}

#[test]
fn a_request_waits_for_a_busy_endpoint_and_goes_when_that_is_free() {
    let mut brain = held(&[1], flow(vec![band(0, 2.0)]));
    let mut first = ask(&mut brain, "first", "", 0);
    assert!(is_steered(&first.effects), "an idle endpoint is open");
    let mut second = ask(&mut brain, "second", "", 10);
    let place = ticket(&second);
    assert!(second.lifecycle.is_queued() && brain.waiting("p") == 1);
    brain.pump(at(20));
    assert!(brain.turns().is_empty());

    first.on(
        Input::ResponseHeaders { status: 200, event_stream: true, encoded: false, served_by: Some("10.0.0.1:1") },
        &mut brain,
        at(30),
    );
    first.on(Input::ResponseBody { chunk: b"data: {\"choices\":[]}\n\n", end_of_stream: false }, &mut brain, at(30));
    brain.pump(at(60));
    assert_eq!(brain.turns(), [place]);
    assert!(brain.turns().is_empty(), "told once");
    let effects = second.on(Input::Turn, &mut brain, at(61));
    assert!(is_steered(&effects), "{effects:?}");
    let left = Effect::Count(Event::LeftQueue { pool: "p".to_owned(), milliseconds: 51, sent: true });
    assert!(effects.contains(&left));
    let answered =
        Input::ResponseHeaders { status: 200, event_stream: true, encoded: false, served_by: Some("10.0.0.1:1") };
    let told = second.on(answered, &mut brain, at(70));
    let told = told.iter().find_map(|effect| {
        let Effect::AddResponseHeader(name, value) = effect else { return None };
        (name == "x-kvasir-decision").then(|| serde_json::from_str::<serde_json::Value>(value).unwrap())
    });
    assert_eq!(told.unwrap()["waited_ms"], 50.0);
    for driven in [&mut first, &mut second] {
        driven.on(Input::Ended, &mut brain, at(100));
    }
    assert_eq!((brain.ledger.in_flight(), brain.waiting("p")), (0, 0));
}

#[test]
fn who_waits_too_long_is_told_when_to_come_back() {
    let mut brain = held(&[1], flow(vec![band(0, 1.5)]));
    let _busy = ask(&mut brain, "first", "", 0);
    let mut late = ask(&mut brain, "second", "", 0);
    // The service level's share of it: 0.9 x 2 s is longer than the band's time.
    brain.pump(at(1799));
    assert!(brain.turns().is_empty());
    brain.pump(at(1800));
    assert_eq!(brain.turns().len(), 1);
    let (status, reason, retry) = refusal(&late.on(Input::Turn, &mut brain, at(1800)));
    assert_eq!((status, reason.as_str()), (429, "rejected-ttl-expired"));
    assert!((5..=8).contains(&retry.unwrap()), "{retry:?}");
}

#[test]
fn who_would_get_its_first_token_too_late_is_refused_at_once_and_batch_is_not() {
    let bands = vec![band(0, 2.0), wire::Band { deadline: false, ..band(-1, 60.0) }];
    let hold = Hold::Prediction(wire::Prediction { token_budget: 1e9, ignore_tpot: true });
    let mut brain = held(&[1], wire::FlowControl { hold: Some(hold), ..flow(bands) });
    // 100,000 tokens queue there already: 6.5 s by the rates that are assumed.
    let others = Some(wire::Bookings { waiting: 5, decoding: 0, queued_tokens: 100_000, context_tokens: 100_000 });
    let row = wire::LiveEndpoint { slot: 0, slowness: 1.0, others, ..wire::LiveEndpoint::default() };
    let live = wire::LivePool { name: "p".to_owned(), gateways: 1, endpoints: vec![row], ..wire::LivePool::default() };
    brain.set_live(wire::Live { epoch: 1, pools: vec![live], counted: Vec::new() }, at(0)).unwrap();
    let (status, reason, retry) = refusal(&ask(&mut brain, "late", "", 0).effects);
    assert_eq!((status, reason.as_str(), retry.is_some()), (429, "rejected-saturated", true));
    assert!(is_steered(&ask(&mut brain, "batch", "batch", 0).effects));
}

#[test]
fn the_higher_band_goes_first_and_each_has_its_place() {
    let mut brain = held(&[1], flow(vec![band(10, 9.0), band(0, 9.0), band(-10, 9.0)]));
    let mut busy = ask(&mut brain, "busy", "", 0);
    let order = ["batch", "", "vip", "batch", "unknown", "vip"];
    let mut queued: Vec<(Ticket, &str, Driven)> = (1..)
        .zip(order)
        .map(|(number, objective)| {
            let driven = ask(&mut brain, &format!("r{number}"), objective, number);
            (ticket(&driven), objective, driven)
        })
        .collect();
    let mut served = Vec::new();
    for round in 0..6 {
        busy.on(Input::Ended, &mut brain, at(100 + 30 * round));
        brain.pump(at(100 + 30 * round));
        let turns = brain.turns();
        assert_eq!(turns.len(), 1, "one at a time");
        let place = queued.iter().position(|(ticket, _, _)| *ticket == turns[0]).unwrap();
        let (_, objective, mut driven) = queued.remove(place);
        assert!(is_steered(&driven.on(Input::Turn, &mut brain, at(100 + 30 * round))));
        served.push(objective);
        busy = driven;
    }
    assert_eq!(served, ["vip", "vip", "", "unknown", "batch", "batch"]);
}

#[test]
fn a_client_that_leaves_frees_its_place_and_what_was_booked_for_it() {
    let mut brain = held(&[1], flow(vec![band(0, 9.0)]));
    let mut busy = ask(&mut brain, "busy", "", 0);
    let mut gone = ask(&mut brain, "gone", "", 1);
    gone.on(Input::Ended, &mut brain, at(2));
    assert_eq!(brain.waiting("p"), 0);
    let mut late = ask(&mut brain, "late", "", 3);
    busy.on(Input::Ended, &mut brain, at(4));
    brain.pump(at(30));
    assert_eq!((brain.turns().len(), brain.ledger.in_flight()), (1, 1), "booked for it already");
    late.on(Input::Ended, &mut brain, at(31));
    assert_eq!((brain.ledger.in_flight(), brain.waiting("p")), (0, 0));
}

/// What the others did a moment ago they did not go on doing all the time.
#[test]
fn when_the_control_plane_is_silent_other_gateways_have_what_this_one_has() {
    let mut brain = held(&[1], flow(vec![band(0, 2.0)]));
    let rows = wire::LivePool { name: "p".to_owned(), gateways: 2, ..wire::LivePool::default() };
    brain.set_live(wire::Live { epoch: 1, pools: vec![rows], counted: Vec::new() }, at(0)).unwrap();
    let mut first = ask(&mut brain, "first", "", 10);
    assert!(is_steered(&first.effects));
    first.on(Input::Ended, &mut brain, at(20));
    let mut soon = ask(&mut brain, "second", "", 30);
    ticket(&soon);
    soon.on(Input::Ended, &mut brain, at(40));
    let later = ask(&mut brain, "third", "", 3000);
    assert!(is_steered(&later.effects), "{:?}", later.effects);
}

#[test]
fn an_empty_pool_is_waited_for_and_then_it_is_503() {
    let mut brain = held(&[], flow(vec![band(0, 0.5)]));
    let mut lonely = ask(&mut brain, "r", "", 0);
    ticket(&lonely);
    brain.pump(at(1801));
    assert_eq!(brain.turns().len(), 1);
    let (status, reason, _) = refusal(&lonely.on(Input::Turn, &mut brain, at(1801)));
    assert_eq!((status, reason.as_str()), (503, "rejected-no-endpoints"));
}

#[test]
fn what_is_no_inference_request_or_cannot_be_held_never_waits() {
    let mut brain = held(&[1], flow(vec![band(0, 9.0)]));
    let _busy = ask(&mut brain, "busy", "", 0);
    let headers: [(&[u8], &[u8]); 2] = [(b":method", b"GET"), (b":path", b"/v1/models")];
    let listing = Input::RequestHeaders { headers: &headers, end_of_stream: true };
    assert!(is_steered(&Lifecycle::default().on(listing, &mut brain, &Plan::default(), at(1))));
    let headers: [(&[u8], &[u8]); 2] = [(b":method", b"POST"), (b":path", CHAT.as_bytes())];
    let mut unheld = Lifecycle::default();
    let begin = Input::RequestHeaders { headers: &headers, end_of_stream: false };
    unheld.on(begin, &mut brain, &Plan::default(), at(1));
    assert!(is_steered(&unheld.on(Input::BodyOverdue, &mut brain, &Plan::default(), at(2))));
}

#[test]
fn whoever_waits_in_a_pool_that_lost_its_endpoints_is_told_so_tried_or_not() {
    let mut brain = held(&[1], wire::FlowControl { skip: 0, ..flow(vec![band(0, 9.0)]) });
    let _busy = ask(&mut brain, "busy", "", 0);
    let mut waiting: Vec<Driven> = (0..3).map(|n| ask(&mut brain, &format!("r{n}"), "", 1)).collect();
    let gone = wire::PoolChange { name: "p".to_owned(), removed_slots: vec![0], ..wire::PoolChange::default() };
    let delta = wire::Segment { epoch: 1, version: 2, part: 0, parts: 0, pools: vec![gone] };
    brain.fold(&prost::Message::encode_to_vec(&delta), at(2)).unwrap();
    brain.pump(at(9001));
    assert_eq!(brain.turns().len(), 3);
    for driven in &mut waiting {
        let (status, reason, _) = refusal(&driven.on(Input::Turn, &mut brain, at(9001)));
        assert_eq!((status, reason.as_str()), (503, "rejected-no-endpoints"));
    }
}

#[test]
fn no_service_level_that_a_client_names_makes_it_wait_for_ever() {
    let mut brain = held(&[1], flow(vec![band(0, 9.0)]));
    let _busy = ask(&mut brain, "busy", "", 0);
    let headers = [("x-request-id", "patient"), ("x-llm-d-slo-ttft-ms", "1e12")];
    let patient = post(&mut brain, CHAT, &headers, chat_body("m", "patient").as_bytes(), at(1));
    let place = ticket(&patient);
    brain.pump(at(600_000));
    assert!(brain.turns().is_empty());
    brain.pump(at(600_001));
    assert_eq!(brain.turns(), [place]);
}

#[test]
fn a_full_queue_refuses_at_once() {
    let mut brain = held(&[1], wire::FlowControl { max_requests: 1, ..flow(vec![band(0, 9.0)]) });
    let _busy = ask(&mut brain, "busy", "", 0);
    let _waits = ask(&mut brain, "waits", "", 1);
    let refused = ask(&mut brain, "refused", "", 2);
    let (status, reason, retry) = refusal(&refused.effects);
    assert_eq!((status, reason.as_str()), (429, "rejected-saturated"));
    assert!(retry.is_some());
}

#[test]
fn llm_ds_detectors_hold_too() {
    for hold in [
        Hold::Concurrency(wire::Concurrency { requests: 1.0, tokens: 0.0 }),
        Hold::Utilization(wire::Utilization { queue_depth: 1.0, kv_share: 0.8, stale_after_ms: 0 }),
    ] {
        let mut brain = held(&[1, 2], wire::FlowControl { hold: Some(hold), ..flow(vec![band(0, 9.0)]) });
        let mut all: Vec<Driven> = (0..2).map(|n| ask(&mut brain, &format!("r{n}"), "", 0)).collect();
        assert!(all.iter().all(|driven| is_steered(&driven.effects)), "{hold:?}");
        let mut third = ask(&mut brain, "third", "", 1);
        let place = ticket(&third);
        all[0].on(Input::Ended, &mut brain, at(40));
        brain.pump(at(41));
        assert_eq!(brain.turns(), [place], "{hold:?}");
        assert!(is_steered(&third.on(Input::Turn, &mut brain, at(41))));
    }
}

#[test]
fn a_shell_that_cannot_let_requests_wait_sends_them_all() {
    let mut brain = held(&[1], flow(vec![band(0, 9.0)]));
    brain.queueless = true;
    for name in ["a", "b", "c"] {
        assert!(is_steered(&ask(&mut brain, name, "", 0).effects));
    }
}

#[test]
fn without_flow_control_from_now_on_everybody_goes() {
    let mut brain = held(&[1], flow(vec![band(0, 9.0)]));
    let _busy = ask(&mut brain, "busy", "", 0);
    let mut waits = ask(&mut brain, "waits", "", 1);
    let settings = wire::PoolSettings { flow: None, ..crate::testing::settings() };
    let change = wire::PoolChange { name: "p".to_owned(), settings: Some(settings), ..wire::PoolChange::default() };
    let delta = wire::Segment { epoch: 1, version: 2, part: 0, parts: 0, pools: vec![change] };
    brain.fold(&prost::Message::encode_to_vec(&delta), at(2)).unwrap();
    brain.pump(at(3));
    assert_eq!(brain.turns().len(), 1);
    assert!(is_steered(&waits.on(Input::Turn, &mut brain, at(3))));
}

proptest! {
    #[test]
    fn whatever_happens_nobody_is_stuck_and_everything_comes_back(
        way in 0usize..3,
        steps in proptest::collection::vec((any::<u8>(), 0u64..200), 0..120),
    ) {
        let bands = vec![band(10, 0.4), wire::Band { min_share: 0.2, ..band(0, 0.3) }, wire::Band { deadline: false, ..band(-10, 1.0) }];
        let mut brain = held(&[1, 2], in_one_of_ways(way, wire::FlowControl { max_requests: 12, ..flow(bands) }));
        sessions::live(&mut brain, 0);
        let (mut version, mut empty) = (1, false);
        let (mut now, mut live): (u64, Vec<Driven>) = (0, Vec::new());
        let mut places: std::collections::BTreeMap<Ticket, usize> = std::collections::BTreeMap::new();
        for (number, (choice, wait)) in (0..).zip(steps) {
            now += wait;
            match choice % 4 {
                0 | 1 => {
                    let objective = ["vip", "", "batch"][usize::from(choice) / 4 % 3];
                    let (name, session) = (format!("r{number}"), format!("s{}", choice / 64));
                    let headers = [("x-request-id", name.as_str()), ("x-llm-d-inference-objective", objective), ("x-conversation", &session)];
                    let driven = post(&mut brain, CHAT, &headers, chat_body("m", &name).as_bytes(), at(now));
                    if driven.lifecycle.is_queued() {
                        places.insert(ticket(&driven), live.len());
                    }
                    live.push(driven);
                }
                2 => {
                    let count = live.len().max(1);
                    if let Some(driven) = live.get_mut(usize::from(choice) % count) {
                        driven.on(Input::Ended, &mut brain, at(now));
                    }
                }
                _ if choice < 32 => {
                    (version, empty) = (version + 1, !empty);
                    llm_d::come_and_go(&mut brain, version, empty);
                }
                _ => {}
            }
            brain.pump(at(now));
            for place in brain.turns() {
                let driven = &mut live[places[&place]];
                driven.on(Input::Turn, &mut brain, at(now));
                assert!(!driven.lifecycle.is_queued());
            }
        }
        // The longest time to wait has passed: whoever still waited was told.
        brain.pump(at(now + 1500));
        brain.pump(at(now + 4000));
        for place in brain.turns() {
            live[places[&place]].on(Input::Turn, &mut brain, at(now + 4000));
        }
        assert!(live.iter().all(|driven| !driven.lifecycle.is_queued()));
        assert_eq!(brain.waiting("p"), 0);
        for driven in &mut live {
            driven.on(Input::Ended, &mut brain, at(now + 4000));
        }
        assert_eq!(brain.ledger.in_flight(), 0);
        assert_eq!(brain.ledger.busy().count(), 0);
        assert_eq!(brain.session_requests("p"), 0);
    }
}

/// `flow` as it is, by llm-d's rules, or with a cap on sessions.
fn in_one_of_ways(way: usize, flow: wire::FlowControl) -> wire::FlowControl {
    let hold = Some(Hold::Concurrency(wire::Concurrency { requests: 2.0, tokens: 0.0 }));
    let sessions = wire::Sessions {
        header: "x-conversation".to_owned(),
        capacity_share: 0.3,
        ttl_seconds: 1.0,
        idle_seconds: 0.3,
    };
    match way {
        0 => flow,
        1 => wire::FlowControl { hold, skip: 0, soft_ceilings: true, no_endpoint_ttl_seconds: 1.0, ..flow },
        _ => wire::FlowControl { sessions: Some(sessions), no_endpoint_ttl_seconds: 1.0, ..flow },
    }
}
