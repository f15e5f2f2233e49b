use super::*;
use crate::table::live::{LiveEndpoint, Rates};
use crate::table::{Endpoint, EndpointState};

fn endpoint(port: u16, state: EndpointState) -> Option<Endpoint> {
    let address = format!("10.0.0.1:{port}");
    Some(Endpoint { id: EndpointId::of(&address), address, state, models: vec![], labels: Default::default() })
}

fn pool(states: &[EndpointState]) -> Pool {
    Pool { endpoints: (1..).zip(states).map(|(port, &state)| endpoint(port, state)).collect(), ..Pool::default() }
}

fn request(prompt_tokens: f64) -> Request<'static> {
    let demand = Demand { prompt_tokens, output_tokens: 300.0, slo_ttft: 2.0, slo_tpot: 0.05 };
    Request { model: None, demand, session: None, subset: None, seed: 7 }
}

fn chosen(decision: &Decision) -> Vec<usize> {
    decision.choices().map(|candidate| candidate.slot.index()).collect()
}

const READY: EndpointState = EndpointState::Ready;

#[test]
fn the_holder_of_the_prefix_wins_while_it_is_not_much_busier() {
    let pool = pool(&[READY; 3]);
    let mut local = [Local::default(); 3];
    local[1].matched_tokens = 5900.0;
    let decision = schedule(&pool, &LivePool::default(), &local, &request(6000.0), 0.0).unwrap();
    assert_eq!(chosen(&decision)[0], 1);

    local[1].work = Work { waiting: 20, decoding: 200, queued_tokens: 90_000, context_tokens: 1_200_000 };
    let decision = schedule(&pool, &LivePool::default(), &local, &request(6000.0), 0.0).unwrap();
    assert_ne!(chosen(&decision)[0], 1);
}

#[test]
fn equal_endpoints_share_the_draws() {
    let pool = pool(&[READY; 4]);
    let mut counts = [0; 4];
    for seed in 0..400 {
        let decision = schedule(&pool, &LivePool::default(), &[], &Request { seed, ..request(100.0) }, 0.0).unwrap();
        counts[chosen(&decision)[0]] += 1;
        assert_eq!(decision.chosen.len(), 3);
    }
    assert!(counts.iter().all(|&count| count > 60), "{counts:?}");
}

#[test]
fn draining_is_never_chosen_and_unhealthy_only_as_a_last_resort() {
    let pool = pool(&[EndpointState::Draining, EndpointState::Unhealthy, READY]);
    let decision = schedule(&pool, &LivePool::default(), &[], &request(100.0), 0.0).unwrap();
    assert_eq!((chosen(&decision), decision.last_resort), (vec![2], false));

    let mut local = [Local::default(); 3];
    local[2].circuit = Standing::Open;
    let decision = schedule(&pool, &LivePool::default(), &local, &request(100.0), 0.0).unwrap();
    let mut all = chosen(&decision);
    all.sort_unstable();
    assert_eq!((all, decision.last_resort), (vec![1, 2], true));
}

#[test]
fn a_pool_of_draining_endpoints_has_no_candidate_and_says_why() {
    let none = schedule(&pool(&[EndpointState::Draining]), &LivePool::default(), &[], &request(1.0), 0.0).unwrap_err();
    assert_eq!(none.dropped, [(Slot::new(0).unwrap(), Dropped::Draining)]);
}

#[test]
fn only_endpoints_that_serve_the_model_are_candidates() {
    let mut pool = pool(&[READY; 2]);
    pool.endpoints[0].as_mut().unwrap().models = vec![0];
    pool.endpoints[1].as_mut().unwrap().models = vec![0, 1];
    let decision =
        schedule(&pool, &LivePool::default(), &[], &Request { model: Some(1), ..request(9.0) }, 0.0).unwrap();
    assert_eq!(chosen(&decision), [1]);
}

#[test]
fn a_session_keeps_its_endpoint_and_the_others_follow_by_cost() {
    let pool = pool(&[READY; 3]);
    let mut local = [Local::default(); 3];
    local[2].work.decoding = 100;
    let session = Some(EndpointId::of("10.0.0.1:3"));
    let decision = schedule(&pool, &LivePool::default(), &local, &Request { session, ..request(9.0) }, 0.0).unwrap();
    assert_eq!(chosen(&decision)[0], 2);
    assert!(decision.by_session);
}

#[test]
fn a_slow_endpoint_costs_more() {
    let pool = pool(&[READY; 2]);
    let slow = LiveEndpoint { slowness: 2.0, ..LiveEndpoint::default() };
    let live = LivePool { endpoints: vec![slow], rates: Rates::default(), ..LivePool::default() };
    let decision = schedule(&pool, &live, &[], &request(4000.0), 0.0).unwrap();
    assert_eq!(chosen(&decision), [1, 0]);
}

#[test]
fn the_list_is_ordered_by_cost_after_the_first() {
    let pool = pool(&[READY; 6]);
    let mut local = [Local::default(); 6];
    for (index, known) in (0u32..).zip(&mut local) {
        known.work.decoding = 10 * (6 - index);
    }
    let decision = schedule(&pool, &LivePool::default(), &local, &request(1000.0), 0.0).unwrap();
    assert_eq!(chosen(&decision), [5, 4, 3]);
}

#[test]
fn only_allowed_endpoints_are_weighed_and_an_empty_subset_allows_nobody() {
    let mut pool = pool(&[READY, EndpointState::Unhealthy, READY]);
    for (number, endpoint) in pool.endpoints.iter_mut().flatten().enumerate() {
        endpoint.address = format!("10.0.0.{number}:8000");
    }
    let decide = |subset: &Subset, session| {
        let request = Request { subset: Some(subset), session, ..request(100.0) };
        schedule(&pool, &LivePool::default(), &[], &request, 0.0)
    };
    let slot = |index| Slot::new(index).unwrap();
    let elsewhere = pool.endpoints[0].as_ref().map(|endpoint| endpoint.id);

    let decision = decide(&Subset::of(["10.0.0.2:8000", "10.0.0.0:1"]), elsewhere).unwrap();
    assert_eq!((chosen(&decision), decision.by_session), (vec![2], false));
    assert_eq!(decision.dropped, [(slot(0), Dropped::NotInSubset), (slot(1), Dropped::NotInSubset)]);

    let decision = decide(&Subset::of(["10.0.0.1"]), None).unwrap();
    assert_eq!((chosen(&decision), decision.last_resort), (vec![1], true), "the last resort keeps to the subset too");

    let nobody = decide(&Subset::default(), None).unwrap_err();
    assert!(nobody.dropped.len() == 3 && nobody.dropped.iter().all(|&(_, why)| why == Dropped::NotInSubset));
}
