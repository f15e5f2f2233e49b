//! Pods that are slower than the rest, and pods that are not.

use lab::outcome::Outcome;
use lab::scenario::{Scenario, SpeedChange};
use lab::workload::Kind;

use super::served;

const POD: usize = 3;
const SLOWS: f64 = 60.0;
const RECOVERS: f64 = 120.0;

fn half_speed(kind: Kind, rate: f64) -> Scenario {
    let change = |at, speed| SpeedChange { at, pod: POD, speed };
    let speeds = vec![change(SLOWS, 0.5), change(RECOVERS, 1.0)];
    Scenario { warm: 0.0, until: 200.0, speeds, ..Scenario::new(kind, rate) }
}

fn share_to_the_slow_pod(outcome: &Outcome) -> f64 {
    let counts = outcome.per_pod();
    counts[POD] as f64 / counts.iter().sum::<u64>() as f64
}

#[test]
fn a_pod_at_half_speed_is_recognised_within_thirty_seconds_and_forgiven() {
    for (kind, rate, gateways) in [(Kind::Tenants, 35.0, 1), (Kind::Hot, 35.0, 1), (Kind::Tenants, 35.0, 8)] {
        let outcome = served(&Scenario { gateways, ..half_speed(kind, rate) });
        let seen = outcome.slowness_since(POD, SLOWS, |f| f > 1.25).map(|at| at - SLOWS);
        let forgiven = outcome.slowness_since(POD, RECOVERS, |f| f < 1.25).map(|at| at - RECOVERS);
        assert!(seen.is_some_and(|after| after <= 30.0), "{kind:?} x{gateways}: recognised after {seen:?} s");
        assert!(forgiven.is_some_and(|after| after <= 60.0), "{kind:?} x{gateways}: forgiven after {forgiven:?} s");
        let believed = outcome.slowness_at(POD, RECOVERS);
        assert!((1.25..=3.0).contains(&believed), "{kind:?} x{gateways}: believed {believed} times as slow");
        let before = outcome.slowness_at(POD, SLOWS);
        assert!((before - 1.0).abs() < 1e-9, "{kind:?} x{gateways}: {before} before it was slow");
        let share = share_to_the_slow_pod(&outcome.between(SLOWS + 30.0, RECOVERS));
        assert!(share < 0.1, "{kind:?} x{gateways}: it still gets {share} of the requests");
    }
}

/// A pod's speed is learned from complete answers: where one takes 50 s on a pod at half speed, so does recognition. Bookings
/// keep work away from it long before that.
#[test]
fn with_long_answers_a_slow_pod_is_recognised_when_they_end() {
    let outcome = served(&half_speed(Kind::Shared, 10.0));
    let seen = outcome.slowness_since(POD, SLOWS, |f| f > 1.25).map(|at| at - SLOWS);
    assert!(seen.is_some_and(|after| after <= 75.0), "recognised after {seen:?} s");
    let slow = outcome.between(SLOWS, RECOVERS);
    assert!(slow.attainment() > 0.9 && slow.ttft(0.95) < 0.5, "{} {}", slow.attainment(), slow.ttft(0.95));
}

#[test]
fn equal_pods_are_not_told_apart() {
    for (kind, rate) in [(Kind::Tenants, 45.0), (Kind::Shared, 13.0), (Kind::Short, 180.0), (Kind::Hot, 60.0)] {
        for gateways in [1, 8] {
            let outcome = served(&Scenario { gateways, warm: 0.0, until: 120.0, ..Scenario::new(kind, rate) });
            assert!(outcome.slowness_samples > 10_000);
            let share = outcome.steering_samples as f64 / outcome.slowness_samples as f64;
            assert!(share < 0.01, "{kind:?} x{gateways}: {share} of samples, {:?}", outcome.slowness.first());
        }
    }
}

#[test]
fn a_slow_pod_does_not_cost_the_service_levels() {
    let speeds = vec![SpeedChange { at: 0.0, pod: 0, speed: 0.5 }];
    let outcome = served(&Scenario { speeds, ..Scenario::new(Kind::Tenants, 35.0) });
    assert!(outcome.attainment() > 0.98, "{}", outcome.attainment());
}
