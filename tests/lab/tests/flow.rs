//! The bars of the flow study, on the real brain and the real control plane in virtual time: what is within its service
//! levels of all that is asked, when more is asked than can be served. Loads are the study's; figures repeat bit for bit.
//!
//! llm-d's detectors get the same deadlines here, which they do not have by default.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "functions that tests share are test code too, though clippy counts only #[test] functions as such"
)]

use std::thread;

use lab::callers::Callers;
use lab::flow_table::WORKLOADS;
use lab::holding::Holding;
use lab::outcome::{Fate, Leftovers, Outcome, Record};
use lab::scenario::{Memory, Outage, Refusal, Scenario};
use lab::workload::Kind;
use lab::world::run;

fn at(kind: Kind, load: f64) -> Scenario {
    let usual = WORKLOADS.iter().find(|(known, _)| *known == kind).expect("a workload of the study").1;
    Scenario::new(kind, usual * load)
}

/// Runs at the same time: test threads are few and runs are long.
fn held<const N: usize>(scenarios: [Scenario; N]) -> [Outcome; N] {
    let threads = scenarios.map(|scenario| thread::spawn(move || run(&scenario).unwrap()));
    threads.map(|thread| {
        let outcome = thread.join().unwrap();
        assert_eq!(outcome.leftovers, Leftovers::default());
        assert_eq!(outcome.refused_messages, 0);
        outcome
    })
}

#[test]
fn at_half_more_than_full_load_prediction_serves_what_detectors_lose() {
    for (kind, least) in [(Kind::Pressure, 0.63), (Kind::Rag, 0.74)] {
        let [ours, none, utilization, concurrency] = held(
            [Holding::Ours, Holding::None, Holding::Utilization, Holding::Concurrency]
                .map(|holding| at(kind, 1.5).holding(holding)),
        );
        assert!(ours.ok() >= least, "{kind:?}: {}", ours.ok());
        assert!(ours.tpot(0.95) <= 0.051, "{kind:?}: {} s a token", ours.tpot(0.95));
        for (name, other) in [("none", none), ("utilization", utilization), ("concurrency", concurrency)] {
            assert!(ours.ok() >= 1.5 * other.ok(), "{kind:?}: {} against {} of {name}", ours.ok(), other.ok());
        }
    }
}

#[test]
fn goodput_does_not_fall_when_still_more_is_asked() {
    for kind in [Kind::Pressure, Kind::Tenants] {
        let [less, more] = held([1.2, 2.0].map(|load| at(kind, load).holding(Holding::Ours)));
        assert!(more.goodput() >= 0.97 * less.goodput(), "{kind:?}: {} then {}", less.goodput(), more.goodput());
    }
}

#[test]
fn below_full_load_holding_costs_nothing() {
    for kind in [Kind::Tenants, Kind::Shared, Kind::Mix] {
        let [ours, none] = held([Holding::Ours, Holding::None].map(|holding| at(kind, 0.8).holding(holding)));
        assert!(ours.ok() >= none.ok() - 0.01, "{kind:?}: {} against {}", ours.ok(), none.ok());
    }
}

#[test]
fn at_twice_the_load_urgent_requests_are_served_and_batch_does_not_starve() {
    let bands = |gateways| Scenario { callers: Callers::Bands, gateways, ..at(Kind::Tenants, 2.0) };
    let [one, four] = held([bands(1), bands(4)].map(|scenario| scenario.holding(Holding::Ours)));
    for (outcome, gap) in [(&one, 10.0), (&four, 25.0)] {
        let [urgent, usual, batch] = [0, 1, 2].map(|band| outcome.ok_of_band(band));
        assert!(urgent >= 0.97, "{urgent} {usual} {batch}");
        assert!(usual >= 0.65 && batch >= 0.3, "{urgent} {usual} {batch}");
        assert!(outcome.longest_batch_gap() <= gap, "{} s without batch", outcome.longest_batch_gap());
    }
    assert!(four.ok_of_band(0) >= one.ok_of_band(0) - 0.04 && four.ok_of_band(1) >= one.ok_of_band(1) - 0.08);
}

/// One tenant's prefix is everybody's here: the pods that hold it are what all bands want.
#[test]
fn at_twice_the_load_of_one_prefix_urgent_requests_are_served_and_batch_does_not_starve() {
    let bands = Scenario { callers: Callers::Bands, ..at(Kind::Shared, 2.0) };
    let [outcome] = held([bands.holding(Holding::Ours)]);
    assert!(outcome.ok_of_band(0) >= 0.96, "{}", outcome.ok_of_band(0));
    assert!(outcome.longest_batch_gap() <= 10.0, "{} s without batch", outcome.longest_batch_gap());
}

#[test]
fn who_asks_for_more_than_a_share_is_the_only_one_to_wait() {
    let tenants = |kind, load| Scenario { callers: Callers::Tenants, ..at(kind, load) };
    let [long, often] = held(
        [tenants(Kind::NoisyLength, 1.5), tenants(Kind::NoisyRate, 1.5)]
            .map(|scenario| scenario.holding(Holding::Ours)),
    );
    for (name, outcome, least) in [("length", &long, 0.97), ("rate", &often, 0.95)] {
        let (victims, noisy) = outcome.ok_of_victims_and_noisy();
        assert!(victims >= least, "{name}: victims {victims}");
        assert!(noisy < 0.9, "{name}: nothing is proved while the noisy one has {noisy}");
        assert!(outcome.jain() >= 0.98, "{name}: Jain {}", outcome.jain());
    }
}

/// Eight minutes: what is lost of caches builds up.
#[test]
fn sessions_beyond_what_caches_hold_wait_to_begin_and_nobody_is_cut_off() {
    for (load, gateways, goodput) in [(1.3, 1, 1.4), (1.74, 1, 1.4), (1.74, 4, 1.2)] {
        let traffic = Scenario { gateways, until: 600.0, ..at(Kind::Agents, load) };
        let [capped, none] = held([Holding::Sessions, Holding::None].map(|holding| traffic.holding(holding)));
        assert!(capped.ok() >= 0.75, "{load} at {gateways}: {} within, {} without a cap", capped.ok(), none.ok());
        assert!(capped.goodput() >= goodput, "{load} at {gateways}: {} a second", capped.goodput());
        assert!(gateways > 1 || none.ok() <= 0.6, "{load}: nothing is proved while {} do without", none.ok());
        assert_eq!(capped.cut_off(), 0);
    }
}

#[test]
fn gateways_cut_off_from_each_other_for_ten_seconds_do_not_collapse_and_recover() {
    let (from, until) = (100.0, 110.0);
    let cut = Outage { from, until, memory: Memory::Kept };
    for kind in [Kind::Tenants, Kind::Pressure] {
        let four = Scenario { gateways: 4, ..at(kind, 1.5) }.holding(Holding::Ours);
        let [calm, cut] = held([four.clone(), Scenario { outage: Some(cut), ..four }]);
        // The bar: no collapse meanwhile, and five seconds later all is as it was.
        for (name, from, until, loss) in [("meanwhile", from, until, 0.1), ("afterwards", until + 5.0, 180.0, 0.05)] {
            let (a, b) = (calm.between(from, until).ok(), cut.between(from, until).ok());
            assert!(b >= a - loss, "{kind:?} {name}: {a} in touch, {b} cut off");
        }
    }
}

#[test]
fn clients_that_leave_and_pods_that_refuse_leave_nothing_behind() {
    let refusal = |pod, from| Refusal { pod, from, until: from + 15.0 };
    let scenario = Scenario {
        callers: Callers::Bands,
        gateways: 4,
        aborts: 0.2,
        refusals: vec![refusal(0, 70.0), refusal(3, 80.0), refusal(5, 120.0)],
        ..at(Kind::Pressure, 1.5)
    };
    let [outcome] = held([scenario.holding(Holding::Ours)]);
    let count = |which: &dyn Fn(&Record) -> bool| outcome.records.iter().filter(|record| which(record)).count();
    assert_eq!(count(&|record| record.fate == Fate::InFlight), 0);
    assert!(count(&|record| record.fate == Fate::Aborted && record.sent.is_none()) > 100);
    assert!(count(&|record| record.fate == Fate::Failed { status: 429 }) > 500);
    let waited = |record: &Record| record.sent.is_some_and(|sent| sent > record.arrived);
    assert!(count(&waited) > 500);
    // Every place and every time to wait has an end, ticks included.
    let stuck = |record: &Record| record.sent.or(record.ended).is_none_or(|left| left > record.arrived + 54.05);
    assert_eq!(count(&stuck), 0);
}
