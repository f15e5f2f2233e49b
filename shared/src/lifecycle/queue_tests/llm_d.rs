//! llm-d's flow control and admission: who waits, who goes, and who is refused, by its rules.

use super::*;
use crate::wire::admission::Shed;

fn concurrency(requests: f64) -> Option<Hold> {
    Some(Hold::Concurrency(wire::Concurrency { requests, tokens: 0.0 }))
}

/// Strict: nobody overtakes, nothing is guaranteed.
fn strict(hold: Option<Hold>, bands: Vec<wire::Band>) -> wire::FlowControl {
    let bands = bands.into_iter().map(|band| wire::Band { deadline: false, ..band });
    wire::FlowControl { hold, skip: 0, no_endpoint_ttl_seconds: 30.0, ..flow(bands.collect()) }
}

fn limited(priority: i32, limit: f64) -> wire::Band {
    wire::Band { limit, ..band(priority, 9.0) }
}

/// The pool at `ports` refuses the sheddable so.
fn admitting(ports: &[u16], admission: wire::Admission) -> Brain {
    let mut rows = pool("p", ports, &[]);
    let settings = rows.settings.as_mut().unwrap();
    settings.objectives = vec![wire::Objective { name: "batch".to_owned(), priority: -10 }];
    settings.admission = Some(admission);
    brain(vec![rows])
}

/// What the engine in slot 0 says, as old as that.
fn scrape(brain: &mut Brain, (running, waiting, kv_used): (u32, u32, f64), (age_ms, now): (u32, u64)) {
    let scrape = wire::Scrape { age_ms, running, waiting, kv_used, ..wire::Scrape::default() };
    let row = wire::LiveEndpoint { slot: 0, slowness: 1.0, scrape: Some(scrape), ..wire::LiveEndpoint::default() };
    let live = wire::LivePool { name: "p".to_owned(), gateways: 1, endpoints: vec![row], ..wire::LivePool::default() };
    brain.set_live(wire::Live { epoch: 1, pools: vec![live], counted: Vec::new() }, at(now)).unwrap();
}

fn change(brain: &mut Brain, version: u64, change: wire::PoolChange) {
    let change = wire::PoolChange { name: "p".to_owned(), ..change };
    let delta = wire::Segment { epoch: 1, version, part: 0, parts: 0, pools: vec![change] };
    brain.fold(&prost::Message::encode_to_vec(&delta), at(0)).unwrap();
}

/// The pool loses its two endpoints, or gets them back.
pub(super) fn come_and_go(brain: &mut Brain, version: u64, gone: bool) {
    let removed_slots = if gone { vec![0, 1] } else { Vec::new() };
    let endpoints = if gone { Vec::new() } else { vec![endpoint(0), endpoint(1)] };
    change(brain, version, wire::PoolChange { removed_slots, endpoints, ..wire::PoolChange::default() });
}

fn endpoint(slot: u32) -> wire::Endpoint {
    wire::Endpoint { slot, address: format!("10.0.0.1:{}", slot + 1), ..wire::Endpoint::default() }
}

#[test]
fn a_band_at_its_ceiling_waits_while_a_higher_one_goes() {
    let bands = vec![limited(10, 1.0), limited(0, 0.5), limited(-10, 0.0)];
    let mut brain = held(&[1], strict(concurrency(4.0), bands));
    let mut sent = vec![ask(&mut brain, "a", "", 0), ask(&mut brain, "b", "", 0)];
    assert!(sent.iter().all(|driven| is_steered(&driven.effects)), "below a half");
    let third = ticket(&ask(&mut brain, "c", "", 0));
    let never = ticket(&ask(&mut brain, "d", "batch", 0));
    sent.push(ask(&mut brain, "e", "vip", 0));
    assert!(is_steered(&sent[2].effects));
    sent[0].on(Input::Ended, &mut brain, at(30));
    brain.pump(at(60));
    assert!(brain.turns().is_empty(), "two are in flight");
    sent[1].on(Input::Ended, &mut brain, at(90));
    brain.pump(at(120));
    assert_eq!(brain.turns(), [third]);
    sent[2].on(Input::Ended, &mut brain, at(130));
    brain.pump(at(160));
    assert!(brain.turns().is_empty(), "a ceiling of 0 is never open");
    brain.pump(at(9000));
    assert_eq!(brain.turns(), [never]);
}

#[test]
fn a_lower_band_never_passes_a_blocked_higher_one() {
    // Turned upside down: the lower band may fill the pool further than the higher one.
    let mut brain = held(&[1], strict(concurrency(2.0), vec![limited(10, 0.5), limited(0, 1.0)]));
    let mut busy = ask(&mut brain, "busy", "vip", 0);
    let first = ticket(&ask(&mut brain, "first", "vip", 0));
    let second = ticket(&ask(&mut brain, "second", "", 0));
    brain.pump(at(50));
    assert!(brain.turns().is_empty(), "the head of the line blocks");
    busy.on(Input::Ended, &mut brain, at(60));
    brain.pump(at(90));
    assert_eq!(brain.turns(), [first, second]);
}

#[test]
fn soft_ceilings_let_one_of_several_calls_through() {
    let soft = wire::FlowControl { soft_ceilings: true, ..strict(concurrency(4.0), vec![band(10, 9.0), band(0, 9.0)]) };
    let mut brain = held(&[1], soft);
    let _busy: Vec<Driven> = (0..3).map(|n| ask(&mut brain, &format!("v{n}"), "vip", 0)).collect();
    // Three quarters full: every third call of the lower band.
    let places: Vec<Ticket> = (0..2).map(|n| ticket(&ask(&mut brain, &format!("r{n}"), "", 0))).collect();
    brain.pump(at(30));
    assert_eq!(brain.turns(), [places[0]], "the third");
    let vip = ask(&mut brain, "vip", "vip", 40);
    ticket(&vip);
    for ms in [60, 90, 120, 150] {
        brain.pump(at(ms));
    }
    assert!(brain.turns().is_empty(), "full: nobody goes");
}

#[test]
fn old_figures_of_a_busy_endpoint_count_as_full_and_an_idle_one_is_open() {
    let hold = Hold::Utilization(wire::Utilization { queue_depth: 5.0, kv_share: 0.8, stale_after_ms: 200 });
    let mut brain = held(&[1], strict(Some(hold), vec![band(0, 9.0)]));
    scrape(&mut brain, (0, 0, 0.0), (1000, 0));
    let first = ask(&mut brain, "first", "", 0);
    assert!(is_steered(&first.effects), "idle");
    let second = ticket(&ask(&mut brain, "second", "", 10));
    scrape(&mut brain, (1, 0, 0.1), (50, 40));
    brain.pump(at(41));
    assert_eq!(brain.turns(), [second]);
    let third = ticket(&ask(&mut brain, "third", "", 300));
    scrape(&mut brain, (2, 5, 0.1), (0, 310));
    brain.pump(at(340));
    assert!(brain.turns().is_empty(), "five wait in the engine");
    scrape(&mut brain, (2, 4, 0.7), (0, 350));
    brain.pump(at(380));
    assert_eq!(brain.turns(), [third]);
}

#[test]
fn the_fuller_stage_decides() {
    let mut rows = pool("p", &[1, 2, 3], &[]);
    for (endpoint, role) in rows.endpoints.iter_mut().zip(["prefill", "decode", "encode"]) {
        endpoint.labels.insert("llm-d.ai/role".to_owned(), role.to_owned());
    }
    rows.settings.as_mut().unwrap().flow = Some(strict(concurrency(1.0), vec![band(0, 9.0)]));
    let mut brain = brain(vec![rows]);
    let others = Some(wire::Bookings { waiting: 0, decoding: 1, queued_tokens: 0, context_tokens: 10 });
    let row = |slot| wire::LiveEndpoint { slot, slowness: 1.0, others, ..wire::LiveEndpoint::default() };
    let busy = |slot, brain: &mut Brain| {
        let endpoints = vec![row(slot)];
        let live = wire::LivePool { name: "p".to_owned(), gateways: 2, endpoints, ..wire::LivePool::default() };
        brain.set_live(wire::Live { epoch: 1, pools: vec![live], counted: Vec::new() }, at(0)).unwrap();
    };
    busy(2, &mut brain);
    let mut sent = ask(&mut brain, "a", "", 1);
    assert!(is_steered(&sent.effects), "who only encodes does not count");
    sent.on(Input::Ended, &mut brain, at(2));
    busy(0, &mut brain);
    ticket(&ask(&mut brain, "b", "", 3));
}

#[test]
fn an_empty_pool_is_waited_for_and_the_time_begins_anew_when_it_is_not() {
    let mut brain = held(&[], strict(concurrency(1.0), vec![band(0, 2.0)]));
    let waiting: Vec<Ticket> = (0..3).map(|n| ticket(&ask(&mut brain, &format!("r{n}"), "", n))).collect();
    brain.pump(at(29_000));
    assert!(brain.turns().is_empty(), "30 s, not 2 s");
    change(&mut brain, 2, wire::PoolChange { endpoints: vec![endpoint(0)], ..wire::PoolChange::default() });
    brain.pump(at(29_500));
    assert_eq!(brain.turns(), [waiting[0]]);
    brain.pump(at(31_499));
    assert!(brain.turns().is_empty());
    brain.pump(at(31_500));
    assert_eq!(brain.turns(), waiting[1..]);
}

#[test]
fn who_waits_for_an_empty_pool_in_vain_and_who_finds_its_queue_full_are_told_there_is_nobody() {
    let flow = wire::FlowControl { max_requests: 1, ..strict(concurrency(1.0), vec![band(0, 2.0)]) };
    let mut brain = held(&[], flow);
    let mut waits = ask(&mut brain, "waits", "", 0);
    let full = ask(&mut brain, "full", "", 0);
    let nobody =
        |(status, reason, _): (u16, String, Option<u64>)| (status, reason) == (503, "rejected-no-endpoints".to_owned());
    assert!(nobody(refusal(&full.effects)));
    brain.pump(at(30_000));
    assert_eq!(brain.turns(), [ticket(&waits)]);
    assert!(nobody(refusal(&waits.on(Input::Turn, &mut brain, at(30_000)))));
}

#[test]
fn without_flow_control_only_the_sheddable_are_refused_and_only_while_the_pool_is_full() {
    let shed = Some(Shed::Concurrency(wire::Concurrency { requests: 2.0, tokens: 0.0 }));
    for queueless in [false, true] {
        let mut brain = admitting(&[1], wire::Admission { shed, ..wire::Admission::default() });
        brain.queueless = queueless;
        for name in ["batch", ""] {
            assert!(is_steered(&ask(&mut brain, "a", name, 0).effects));
        }
        let (status, reason, retry) = refusal(&ask(&mut brain, "b", "batch", 0).effects);
        assert_eq!((status, reason.as_str(), retry.is_some()), (429, "rejected-saturated", true));
        assert!(is_steered(&ask(&mut brain, "c", "", 0).effects));
        let headers: [(&[u8], &[u8]); 3] =
            [(b":method", b"GET"), (b":path", b"/v1/models"), (b"x-llm-d-inference-objective", b"batch")];
        let listing = Input::RequestHeaders { headers: &headers, end_of_stream: true };
        let listed = Lifecycle::default().on(listing, &mut brain, &Plan::default(), at(1));
        assert!(is_steered(&listed), "no inference");
    }
}

#[test]
fn where_nobody_can_wait_the_sheddable_who_would_are_refused() {
    let mut brain = held(&[1], strict(concurrency(1.0), vec![band(0, 9.0)]));
    brain.queueless = true;
    assert!(is_steered(&ask(&mut brain, "a", "batch", 0).effects));
    let (status, reason, _) = refusal(&ask(&mut brain, "b", "batch", 0).effects);
    assert_eq!((status, reason.as_str()), (429, "rejected-saturated"));
    assert!(is_steered(&ask(&mut brain, "c", "", 0).effects));
}

#[test]
fn chance_refuses_as_often_as_the_saturation_says() {
    let saturation = Some(wire::Utilization { queue_depth: 5.0, kv_share: 0.8, stale_after_ms: 0 });
    let chance = Some(wire::Chance { saturation, power: 5.0, k: 300.0 });
    let refused = |kv_used: f64, objective: &str| {
        let mut brain = admitting(&[1], wire::Admission { chance, ..wire::Admission::default() });
        scrape(&mut brain, (0, 0, kv_used), (0, 0));
        let asked = (0..400).map(|n| ask(&mut brain, &format!("r{n}"), objective, 0));
        asked.filter(|driven| !is_steered(&driven.effects)).count()
    };
    assert_eq!((refused(0.0, "batch"), refused(0.4, "")), (0, 0));
    // 300 * 0.25^5 = 0.29
    assert!((90..150).contains(&refused(0.2, "batch")), "{}", refused(0.2, "batch"));
    assert_eq!(refused(0.4, "batch"), 400, "half full is certain");
}

#[test]
fn the_sheddable_that_name_a_service_level_which_nobody_meets_are_refused() {
    let ask = |brain: &mut Brain, objective: &str, slo: &str| {
        let headers = [("x-llm-d-inference-objective", objective), ("x-llm-d-slo-ttft-ms", slo)];
        let headers = if slo.is_empty() { &headers[..1] } else { &headers };
        is_steered(&post(brain, CHAT, headers, chat_body("m", "hello").as_bytes(), at(1)).effects)
    };
    let mut brain = admitting(&[1], wire::Admission { within_slo: true, ..wire::Admission::default() });
    scrape(&mut brain, (9, 0, 0.5), (0, 0));
    assert!(ask(&mut brain, "batch", "2000"));
    assert!(!ask(&mut brain, "batch", "0.001"));
    assert!(ask(&mut brain, "", "0.001") && ask(&mut brain, "batch", ""));
    scrape(&mut brain, (9, 0, 0.01), (0, 0));
    assert!(ask(&mut brain, "batch", "0.001"), "cold");
    scrape(&mut brain, (0, 0, 0.5), (0, 0));
    assert!(ask(&mut brain, "batch", "0.001"), "idle");
}
