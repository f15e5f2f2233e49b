//! The cap on live sessions: whole sessions wait to begin, and nobody is stopped in the middle.

use prost::Message;

use super::*;

/// Sessions may fill half of 1000 tokens.
fn capped() -> Brain {
    let sessions = wire::Sessions {
        header: "x-conversation".to_owned(),
        capacity_share: 0.5,
        ttl_seconds: 30.0,
        idle_seconds: 10.0,
    };
    let hold = Hold::Prediction(wire::Prediction { token_budget: 1e9, ignore_tpot: true });
    let control = wire::FlowControl { hold: Some(hold), sessions: Some(sessions), ..flow(vec![band(0, 9.0)]) };
    let mut brain = held(&[1], control);
    live(&mut brain, 0);
    brain
}

/// One engine holds 1000 tokens, and answers are taken to have 100.
pub(super) fn live(brain: &mut Brain, now: u64) {
    let rates = wire::Rates {
        x: 65e-6,
        k: 44e-9,
        s0: 0.015,
        output_tokens: 100.0,
        bytes_per_token: 4.0,
        ..wire::Rates::default()
    };
    let scrape = Some(wire::Scrape { kv_capacity_tokens: 1000, ..wire::Scrape::default() });
    let endpoints = vec![wire::LiveEndpoint { slot: 0, slowness: 1.0, scrape, ..wire::LiveEndpoint::default() }];
    let rates = Some(rates);
    let live = wire::LivePool { name: "p".to_owned(), gateways: 1, rates, endpoints, ..wire::LivePool::default() };
    brain.set_live(wire::Live { epoch: 1, pools: vec![live], counted: Vec::new() }, at(now)).unwrap();
}

/// A first turn: 40 tokens that all sessions share, 100 of its own.
fn turn(brain: &mut Brain, session: &str, ms: u64) -> Driven {
    say(brain, session, "", ms)
}

/// The same and something that comes after it.
fn say(brain: &mut Brain, session: &str, more: &str, ms: u64) -> Driven {
    let headers = [("x-request-id", session), ("x-conversation", session)];
    let content = "shared, ".repeat(20) + &format!("{session:7} ").repeat(50) + more;
    post(brain, CHAT, &headers, chat_body("m", &content).as_bytes(), at(ms))
}

/// What `from` has routed is in the table of `to`.
fn tell(from: &mut Brain, to: &mut Brain) {
    let routes = from.report(1).pools.remove(0).routes;
    let keys = routes.into_iter().flat_map(|route| route.keys).collect();
    let residency = vec![wire::ResidencyGroup { holders: vec![0], keys, tokens: Vec::new() }];
    let change = wire::PoolChange { name: "p".to_owned(), residency, ..wire::PoolChange::default() };
    let delta = wire::Segment { epoch: 1, version: 2, part: 0, parts: 0, pools: vec![change] };
    to.fold(&delta.encode_to_vec(), at(1)).unwrap();
}

fn finish(driven: &mut Driven, brain: &mut Brain, prompt: u32, ms: u64) {
    let begin =
        Input::ResponseHeaders { status: 200, event_stream: true, encoded: false, served_by: Some("10.0.0.1:1") };
    driven.on(begin, brain, at(ms));
    let usage = format!(
        "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":10}}}}\n\ndata: [DONE]\n\n"
    );
    driven.on(Input::ResponseBody { chunk: usage.as_bytes(), end_of_stream: true }, brain, at(ms));
}

#[test]
fn a_new_session_waits_while_live_ones_fill_the_caches_and_later_turns_do_not() {
    let mut brain = capped();
    let mut first = turn(&mut brain, "a", 0);
    assert!(is_steered(&first.effects), "nobody lives yet");
    finish(&mut first, &mut brain, 290, 100);
    let mut second = turn(&mut brain, "b", 200);
    let place = ticket(&second);
    assert!(is_steered(&turn(&mut brain, "a", 300).effects), "a later turn");
    let third = ticket(&turn(&mut brain, "c", 400));
    brain.pump(at(9000));
    assert!(brain.turns().is_empty());
    // The second turn of a never ended: it lives on.
    brain.pump(at(20_000));
    assert!(brain.turns().is_empty());
    brain.pump(at(30_200));
    assert_eq!(brain.turns(), [place]);
    let (status, reason, retry) = refusal(&second.on(Input::Turn, &mut brain, at(30_200)));
    assert_eq!((status, reason.as_str(), retry.is_some()), (429, "rejected-ttl-expired", true));
    assert_eq!(brain.waiting("p"), 1);
    brain.abandon("p", third, at(30_300));
    assert_eq!(brain.waiting("p"), 0);
}

#[test]
fn sessions_begin_in_order_when_others_are_idle_for_long() {
    let mut brain = capped();
    let mut first = turn(&mut brain, "a", 0);
    finish(&mut first, &mut brain, 290, 100);
    let mut waiting: Vec<Driven> = ["b", "c"].into_iter().map(|name| turn(&mut brain, name, 200)).collect();
    let places: Vec<Ticket> = waiting.iter().map(ticket).collect();
    brain.pump(at(10_099));
    assert!(brain.turns().is_empty());
    live(&mut brain, 10_100);
    brain.pump(at(10_100));
    assert_eq!(brain.turns(), places, "both are short");
    for driven in &mut waiting {
        let effects = driven.on(Input::Turn, &mut brain, at(10_101));
        assert!(is_steered(&effects), "its time for the first token begins anew: {effects:?}");
        driven.on(Input::Ended, &mut brain, at(10_200));
    }
    assert_eq!((brain.ledger.in_flight(), brain.waiting("p")), (0, 0));
}

#[test]
fn requests_without_a_session_never_wait_for_one() {
    let mut brain = capped();
    let mut first = turn(&mut brain, "a", 0);
    finish(&mut first, &mut brain, 290, 100);
    ticket(&turn(&mut brain, "b", 200));
    assert!(is_steered(&ask(&mut brain, "plain", "", 300).effects));
}

#[test]
fn a_later_turn_passes_at_a_worker_that_never_saw_its_session() {
    let (mut first, mut second) = (capped(), capped());
    let mut elsewhere = turn(&mut first, "a", 0);
    finish(&mut elsewhere, &mut first, 290, 100);
    tell(&mut first, &mut second);
    let mut full = turn(&mut second, "b", 200);
    finish(&mut full, &mut second, 290, 300);
    let waits = ticket(&turn(&mut second, "c", 400));
    assert!(is_steered(&say(&mut second, "a", &"and then ".repeat(40), 500).effects), "most of it is held");
    second.pump(at(600));
    assert!(second.turns().is_empty(), "only what all share is held of a session that begins");
    second.abandon("p", waits, at(700));
}

#[test]
fn who_waits_to_begin_goes_when_the_caches_turn_out_to_hold_its_prompt() {
    let (mut first, mut second) = (capped(), capped());
    turn(&mut first, "a", 0);
    let mut full = turn(&mut second, "b", 0);
    finish(&mut full, &mut second, 290, 50);
    let mut early = say(&mut second, "a", "and then", 100);
    let place = ticket(&early);
    second.pump(at(150));
    assert!(second.turns().is_empty());
    tell(&mut first, &mut second);
    second.pump(at(200));
    assert_eq!(second.turns(), [place]);
    assert!(is_steered(&early.on(Input::Turn, &mut second, at(201))));
}

#[test]
fn a_later_turn_is_late_rather_than_refused() {
    let mut brain = capped();
    let mut begun = turn(&mut brain, "a", 0);
    finish(&mut begun, &mut brain, 290, 100);
    let others = Some(wire::Bookings { waiting: 5, decoding: 0, queued_tokens: 100_000, context_tokens: 100_000 });
    let row = wire::LiveEndpoint { slot: 0, slowness: 1.0, others, ..wire::LiveEndpoint::default() };
    let live = wire::LivePool { name: "p".to_owned(), gateways: 1, endpoints: vec![row], ..wire::LivePool::default() };
    brain.set_live(wire::Live { epoch: 1, pools: vec![live], counted: Vec::new() }, at(200)).unwrap();
    let (status, reason, _) = refusal(&ask(&mut brain, "plain", "", 200).effects);
    assert_eq!((status, reason.as_str()), (429, "rejected-saturated"));
    assert!(is_steered(&turn(&mut brain, "a", 200).effects));
}
