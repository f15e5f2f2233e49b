use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};

use super::*;

fn load(uncached: u64) -> Load {
    Load { uncached_tokens: uncached, context_tokens: uncached + 100, due: None }
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_nanos(ms * 1_000_000)
}

#[derive(Clone, Debug)]
enum Step {
    Book(u64, u64),
    FirstToken(usize),
    Move(usize, u64),
    Release(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u64..4, 0u64..9000).prop_map(|(endpoint, tokens)| Step::Book(endpoint, tokens)),
        any::<usize>().prop_map(Step::FirstToken),
        (any::<usize>(), 0u64..4).prop_map(|(ticket, endpoint)| Step::Move(ticket, endpoint)),
        any::<usize>().prop_map(Step::Release),
    ];
    vec(step, 0..200)
}

proptest! {
    #[test]
    fn nothing_is_left_when_all_tickets_are_back(steps in steps()) {
        let mut ledger = Ledger::default();
        let mut open: Vec<Ticket> = Vec::new();
        for step in steps {
            match step {
                Step::Book(endpoint, tokens) => open.push(ledger.book(EndpointId(endpoint), load(tokens), at(0))),
                Step::FirstToken(ticket) if !open.is_empty() => ledger.first_token(&open[ticket % open.len()]),
                Step::Move(ticket, to) if !open.is_empty() => ledger.move_to(&open[ticket % open.len()], EndpointId(to)),
                Step::Release(ticket) if !open.is_empty() => ledger.release(open.swap_remove(ticket % open.len())),
                Step::FirstToken(_) | Step::Move(..) | Step::Release(_) => {}
            }
            let total: u64 = ledger.busy().map(|(_, work)| u64::from(work.waiting) + u64::from(work.decoding)).sum();
            assert_eq!(total, open.len() as u64);
            assert_eq!(ledger.in_flight(), open.len());
        }
        open.into_iter().for_each(|ticket| ledger.release(ticket));
        assert_eq!(ledger.busy().count(), 0);
    }

    #[test]
    fn a_vector_says_to_a_sibling_what_its_owner_holds(tokens in vec((0u64..8, 0u64..1 << 40), 0..50), now in any::<u64>()) {
        let mut owner = Ledger::default();
        let tickets: Vec<_> = tokens.iter().map(|&(id, tokens)| owner.book(EndpointId(id), load(tokens), at(0))).collect();
        if let Some(first) = tickets.first() {
            owner.first_token(first);
        }
        let vector = VmVector::decode(&owner.own_vector(Timestamp::from_nanos(now))).unwrap();
        assert_eq!(vector.stamp.as_nanos(), now);
        let mut sibling = Ledger::default();
        sibling.set_siblings([&vector]);
        sibling.set_siblings([&vector]);
        let (mut a, mut b): (Vec<_>, Vec<_>) = (owner.busy().collect(), sibling.busy().collect());
        a.sort_by_key(|&(id, _)| id);
        b.sort_by_key(|&(id, _)| id);
        assert_eq!(a, b);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        assert_eq!(VmVector::decode(&bytes).is_ok(), bytes.len() >= 8 && (bytes.len() - 8) % 32 == 0);
    }
}

#[test]
fn a_whole_body_request_counts_as_prefilled_when_its_time_has_come() {
    let mut ledger = Ledger::default();
    let ticket = ledger.book(EndpointId(1), Load { due: Some(Due::Prefilled(at(50))), ..load(400) }, at(0));
    ledger.pass_time(at(49));
    assert_eq!(ledger.in_process(0).queued_tokens, 400);
    assert_eq!(ledger.pass_time(at(50)), []);
    assert_eq!(ledger.in_process(0), Work { waiting: 0, decoding: 1, queued_tokens: 0, context_tokens: 500 });
    ledger.release(ticket);
    assert!(ledger.in_process(0).is_idle());
}

#[test]
fn a_request_without_its_first_token_in_time_has_stalled_once() {
    let mut ledger = Ledger::default();
    let due = |ms| Load { due: Some(Due::Stalled(at(ms))), ..load(400) };
    let seen = ledger.book(EndpointId(1), due(50), at(0));
    let gone = ledger.book(EndpointId(2), due(50), at(0));
    let moved = ledger.book(EndpointId(3), due(50), at(7));
    ledger.first_token(&seen);
    ledger.release(gone);
    ledger.move_to(&moved, EndpointId(4));
    assert_eq!(ledger.pass_time(at(49)), []);
    assert_eq!(ledger.pass_time(at(50)), [(EndpointId(4), at(7))]);
    assert_eq!(ledger.pass_time(at(90)), []);
    assert_eq!(ledger.in_process(ledger.numbers[&EndpointId(4)]).waiting, 1, "it still waits");
    ledger.release(moved);
    ledger.release(seen);
    assert!(ledger.busy().next().is_none() && ledger.due.is_empty());
}

#[test]
fn the_request_that_tries_makes_room_however_it_ends() {
    let mut ledger = Ledger::default();
    let id = EndpointId(9);
    let number = ledger.number(id);
    ledger.failed(id, Failure::Refused, at(0), at(0));
    let tries = ledger.book(id, load(1), at(1000));
    assert_eq!(ledger.standing(number, at(1000)), Standing::Probed);
    ledger.release(tries);
    assert_eq!(ledger.standing(number, at(1000)), Standing::HalfOpen);
    let moves = ledger.book(id, load(1), at(1000));
    ledger.move_to(&moves, EndpointId(1));
    assert_eq!(ledger.standing(number, at(1000)), Standing::HalfOpen);
    let tries = ledger.book(id, load(1), at(1000));
    ledger.release(moves);
    assert_eq!(ledger.standing(number, at(1000)), Standing::Probed, "it no longer is this one's");
    ledger.release(tries);
}

#[test]
fn who_is_admitted_again_starts_slowly() {
    let mut ledger = Ledger::default();
    let id = EndpointId(9);
    let number = ledger.number(id);
    let warming = |ledger: &Ledger, ms| ledger.warming(number, Duration::from_secs(3), at(ms)).to_bits();
    assert_eq!(warming(&ledger, 0), 1.0_f64.to_bits());
    ledger.failed(id, Failure::Refused, at(0), at(0));
    assert!(ledger.served(id, at(1000), at(1000)) && !ledger.served(id, at(1100), at(1100)));
    assert_eq!([1000, 2000, 4000].map(|ms| warming(&ledger, ms)), [4.0, 3.0, 1.0].map(f64::to_bits));
    ledger.admit(id, at(5000));
    assert_eq!(warming(&ledger, 5000), 4.0_f64.to_bits());
}
