//! What is booked is given back, whatever happens to a request, and every request is accounted for.

use lab::outcome::{Fate, Leftovers, Outcome};
use lab::policy::Policy;
use lab::scenario::{Refusal, Scenario};
use lab::workload::Kind;
use lab::world::run;

use super::ran;

#[test]
fn nothing_stays_booked_after_a_hundred_thousand_requests_of_which_many_were_aborted() {
    let refusals = vec![
        Refusal { pod: 1, from: 100.0, until: 130.0 },
        Refusal { pod: 2, from: 110.0, until: 140.0 },
        Refusal { pod: 5, from: 300.0, until: 301.0 },
    ];
    let short =
        Scenario { gateways: 3, aborts: 0.2, refusals, warm: 0.0, until: 600.0, ..Scenario::new(Kind::Short, 180.0) };
    let outcome = ran(&short);
    let count = |wanted: fn(Fate) -> bool| outcome.records.iter().filter(|record| wanted(record.fate)).count();
    assert!(outcome.records.len() > 100_000, "{}", outcome.records.len());
    assert!(count(|fate| fate == Fate::Aborted) > 15_000);
    assert_eq!(count(|fate| matches!(fate, Fate::Failed { .. })), 0, "three choices, at most two of them refuse");
    assert_eq!(outcome.leftovers, Leftovers::default());
}

#[test]
fn a_fleet_that_refuses_everything_for_a_while_leaves_no_bookings() {
    let refusals = (0..8).map(|pod| Refusal { pod, from: 40.0, until: 45.0 }).collect();
    let outcome = ran(&Scenario { refusals, warm: 60.0, until: 100.0, ..Scenario::new(Kind::Hot, 35.0) });
    let failed = outcome.records.iter().filter(|record| record.fate == Fate::Failed { status: 503 });
    assert!(failed.clone().count() > 100);
    assert!(failed.clone().all(|record| (40.0..45.0).contains(&record.arrived)), "nobody else fails");
    assert_eq!(outcome.leftovers, Leftovers::default());
}

#[test]
fn every_request_ends_and_the_same_seed_gives_the_same_figures() {
    for kind in Kind::ALL {
        let [_, rate, _] = kind.loads();
        for policy in Policy::ALL {
            let scenario =
                Scenario { gateways: 3, aborts: 0.05, warm: 0.0, until: 15.0, policy, ..Scenario::new(kind, rate) };
            let (first, second) = (run(&scenario).unwrap(), run(&scenario).unwrap());
            assert!(first == second, "{kind:?} {policy:?} differs from itself");
            assert!(first.records.iter().all(|record| record.fate != Fate::InFlight && record.ended.is_some()));
            assert!(first.records.len() > 20 && consistent(&first), "{kind:?} {policy:?}");
            assert_eq!(first.leftovers, Leftovers::default(), "{kind:?} {policy:?}");
            let other = run(&Scenario { seed: 777, ..scenario }).unwrap();
            assert!(first.records != other.records, "{kind:?} {policy:?} does not depend on the seed");
        }
    }
}

fn consistent(outcome: &Outcome) -> bool {
    outcome.judged().all(|record| {
        let times = [Some(record.arrived), record.first_token, record.ended];
        times.is_sorted()
            && record.cached_tokens <= record.repeated_tokens
            && record.repeated_tokens < record.prompt_tokens
    })
}
