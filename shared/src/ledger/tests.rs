use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};

use super::*;

fn load(uncached: u64) -> Load {
    Load { uncached_tokens: uncached, context_tokens: uncached + 100, prefilled_by: None }
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
                Step::Book(endpoint, tokens) => open.push(ledger.book(EndpointId(endpoint), load(tokens))),
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
        let tickets: Vec<_> = tokens.iter().map(|&(id, tokens)| owner.book(EndpointId(id), load(tokens))).collect();
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
    let ticket = ledger.book(EndpointId(1), Load { prefilled_by: Some(at(50)), ..load(400) });
    ledger.pass_time(at(49));
    assert_eq!(ledger.in_process(0).queued_tokens, 400);
    ledger.pass_time(at(50));
    assert_eq!(ledger.in_process(0), Work { waiting: 0, decoding: 1, queued_tokens: 0, context_tokens: 500 });
    ledger.release(ticket);
    assert!(ledger.in_process(0).is_idle());
}

#[test]
fn refusals_eject_for_longer_each_time_and_an_answer_forgives() {
    let mut ledger = Ledger::default();
    let id = EndpointId(9);
    ledger.refused(id, at(0));
    assert!(ledger.is_ejected(0, at(499)) && !ledger.is_ejected(0, at(500)));
    ledger.refused(id, at(1000));
    assert!(ledger.is_ejected(0, at(1999)) && !ledger.is_ejected(0, at(2000)));
    for round in 1..=20 {
        ledger.refused(id, at(40_000 * round));
    }
    assert!(ledger.is_ejected(0, at(829_999)) && !ledger.is_ejected(0, at(830_000)));
    ledger.answered(id);
    assert!(!ledger.is_ejected(0, at(800_001)));
}

#[test]
fn requests_that_fail_together_eject_for_no_longer_than_one() {
    let mut ledger = Ledger::default();
    for millis in 0..20 {
        ledger.refused(EndpointId(9), at(millis));
    }
    assert!(ledger.is_ejected(0, at(499)) && !ledger.is_ejected(0, at(500)));
}
