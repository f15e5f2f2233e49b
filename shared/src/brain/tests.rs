use super::*;
use crate::scheduling::cost::Demand;
use crate::testing::{at, brain, pool};

const CHAIN: [u64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn prompt(chain: &[u64]) -> Prompt<'_> {
    Prompt { chain, bytes: 16 * chain.len() as u64, tokens: None, rendered: false }
}

fn request(seed: u64) -> Request<'static> {
    let demand = Demand { prompt_tokens: 4000.0, output_tokens: 300.0, slo_ttft: 2.0, slo_tpot: 0.05 };
    Request { model: None, demand, session: None, subset: None, seed }
}

fn live(rows: Vec<wire::LiveEndpoint>) -> wire::Live {
    let pool = wire::LivePool { name: "p".to_owned(), gateways: 2, endpoints: rows, ..wire::LivePool::default() };
    wire::Live { epoch: 1, pools: vec![pool], counted: Vec::new() }
}

fn busy_row(slot: u32) -> wire::LiveEndpoint {
    let others = wire::Bookings { waiting: 30, decoding: 100, queued_tokens: 90_000, context_tokens: 400_000 };
    wire::LiveEndpoint { slot, slowness: 1.0, others: Some(others), scrape: None, failing: false }
}

fn first(brain: &Brain, chain: &[u64], now: Timestamp) -> usize {
    let decision = brain.decide("p", &prompt(chain), &request(1), now).unwrap().unwrap();
    decision.choices().next().unwrap().slot.index()
}

#[test]
fn other_gateways_work_counts_fresh_and_fades_when_the_control_plane_is_silent() {
    let mut brain = brain(vec![pool("p", &[1, 2], &[])]);
    brain.set_live(live(vec![busy_row(0)]), at(1000)).unwrap();
    let waiting = |brain: &Brain, ms| {
        let decision = brain.decide("p", &prompt(&[]), &request(1), at(ms)).unwrap().unwrap();
        decision.candidates[0].supply.work.waiting
    };
    assert_eq!(first(&brain, &[], at(1100)), 1);
    assert_eq!(waiting(&brain, 1500), 30);
    assert_eq!(waiting(&brain, 2250), 15);
    assert_eq!(waiting(&brain, 3000), 0);
}

#[test]
fn own_routes_count_at_once_and_for_long_when_alone() {
    let mut brain = brain(vec![pool("p", &[1, 2, 3, 4], &[])]);
    let routed = brain.route("p", &prompt(&CHAIN), &request(3), false, at(0)).unwrap().unwrap();
    let slot = routed.decision.choices().next().unwrap().slot.index();
    brain.ledger.release(routed.ticket);
    let matched = |brain: &Brain, ms| {
        let decision = brain.decide("p", &prompt(&CHAIN), &request(1), at(ms)).unwrap().unwrap();
        decision.candidates[slot].supply.matched_tokens
    };
    assert!(matched(&brain, 10) > 0.0);
    brain.hear(at(2500));
    assert!(matched(&brain, 2600) <= 0.0, "in touch, the table has taken over");
    assert!(matched(&brain, 9000) > 0.0, "alone, it is the newest there is");
}

#[test]
fn only_what_the_table_does_not_know_is_reported() {
    let residency = wire::ResidencyGroup { holders: vec![0], keys: vec![1, 2, 3], tokens: vec![] };
    let mut brain = brain(vec![wire::PoolChange { residency: vec![residency], ..pool("p", &[1], &[]) }]);
    let routed = brain.route("p", &prompt(&CHAIN), &request(1), false, at(0)).unwrap().unwrap();
    let again = brain.route("p", &prompt(&CHAIN[..3]), &request(1), false, at(0)).unwrap().unwrap();
    let report = brain.report(7);
    let routes: Vec<_> = report.pools[0].routes.iter().map(|route| (route.base, route.keys.clone())).collect();
    assert_eq!(routes, [(3, vec![4, 5, 6, 7, 8]), (2, vec![3])]);
    assert_eq!(report.pools[0].bookings[0].bookings.unwrap().waiting, 2);
    brain.ledger.release(routed.ticket);
    brain.ledger.release(again.ticket);
}

#[test]
fn a_bad_live_message_changes_nothing() {
    let mut brain = brain(vec![pool("p", &[1, 2], &[])]);
    brain.set_live(live(vec![busy_row(0)]), at(0)).unwrap();
    let bad = wire::LiveEndpoint { slowness: f64::NAN, ..busy_row(1) };
    assert!(brain.set_live(live(vec![bad]), at(10)).is_err());
    assert_eq!(first(&brain, &[], at(20)), 1);
}

#[test]
fn the_outbox_is_bounded_and_says_what_it_lost() {
    let mut outbox = Outbox::default();
    for _ in 0..10_000 {
        outbox.observe("p", Observation::Opened(EndpointId(1), 1));
    }
    assert_eq!(outbox.dropped(), 10_000 - 8192);
    assert_eq!(outbox.take().pools[0].failures.len(), 8192);
    assert!(outbox.is_empty());
}

#[test]
fn the_context_of_an_endpoint_is_everybodys() {
    let mut brain = brain(vec![pool("p", &[1], &[])]);
    brain.set_live(live(vec![busy_row(0)]), at(0)).unwrap();
    let id = EndpointId::of("10.0.0.1:1");
    let load = Load { uncached_tokens: 10, context_tokens: 500, due: None };
    let ticket = brain.ledger.book(id, load, at(0));
    assert_eq!(brain.context_tokens("p", id, at(10)), 400_500);
    brain.ledger.release(ticket);
    assert_eq!(brain.context_tokens("p", EndpointId(9), at(10)), 0);
}

#[test]
fn a_scrape_older_than_the_pool_allows_is_unknown_and_not_full() {
    let mut brain = brain(vec![pool("p", &[1], &[])]);
    let scrape = wire::Scrape { age_ms: 500, kv_used: 0.9, kv_capacity_tokens: 1000, ..wire::Scrape::default() };
    let row = wire::LiveEndpoint { slot: 0, slowness: 1.0, scrape: Some(scrape), others: None, failing: false };
    brain.set_live(live(vec![row]), at(1000)).unwrap();
    let kv_used = |ms| {
        let decision = brain.decide("p", &prompt(&[]), &request(1), at(ms)).unwrap().unwrap();
        decision.candidates[0].supply.kv_used
    };
    assert!((kv_used(2500) - 0.9).abs() < 1e-9);
    assert!(kv_used(2501) < 1e-9);
}

#[test]
fn cold_requests_take_turns_where_the_profile_remembers_them() {
    let scorer = |name: &str, kind| wire::Scorer { name: name.to_owned(), weight: 1.0, kind: Some(kind) };
    let scorers = vec![scorer("no-hit-lru-scorer", wire::scorer::Kind::NoHitLru(true))];
    let profile = wire::Profile { name: "default".to_owned(), scorers, ..wire::Profile::default() };
    let mut three = pool("p", &[1, 2, 3], &[]);
    three.settings.as_mut().unwrap().profile = Some(profile);
    let mut brain = brain(vec![three]);
    let mut turns = Vec::new();
    for request_number in 0..6 {
        let chain = [100 + request_number, 200 + request_number];
        let routed = brain.route("p", &prompt(&chain), &request(request_number), false, at(0)).unwrap().unwrap();
        turns.push(routed.decision.choices().next().unwrap().slot.index());
        brain.ledger.release(routed.ticket);
    }
    assert_eq!(turns[..3], turns[3..], "the fourth goes where the first went");
    assert_eq!(turns[..3].iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{turns:?}");
}
