use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::*;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_nanos(ms * 1_000_000)
}

/// Opens and lets the longest opening of that number pass; returns the time.
fn opened(circuit: &mut Circuit, ms: u64) -> u64 {
    assert!(circuit.failed(Failure::Refused, at(ms), at(ms), 7).is_some());
    ms
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Send,
    /// Of the requests in flight, by number.
    Fail(usize, Failure),
    Serve(usize),
    Abort(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let failure = prop_oneof![Just(Failure::Refused), Just(Failure::Broken), Just(Failure::Stalled)];
    let step = prop_oneof![
        (0u64..8000).prop_map(Step::Pass),
        Just(Step::Send),
        Just(Step::Send),
        (any::<usize>(), failure).prop_map(|(which, how)| Step::Fail(which, how)),
        any::<usize>().prop_map(Step::Serve),
        any::<usize>().prop_map(Step::Abort),
    ];
    vec(step, 0..200)
}

/// The same by a log of everything that happened, read anew for every question.
#[derive(Default)]
struct Reference {
    /// When it opened and until when, or `None` when it closed.
    turns: Vec<(u64, Option<u64>)>,
    /// Outcomes that counted: failed?
    outcomes: Vec<bool>,
    probe: Option<u64>,
}

const OPENINGS_MS: [f64; 6] = [1000.0, 2000.0, 4000.0, 8000.0, 16_000.0, 30_000.0];

impl Reference {
    fn until(&self) -> Option<u64> {
        self.turns.last().and_then(|turn| turn.1)
    }

    fn standing(&self, now: u64) -> Standing {
        match self.until() {
            None => Standing::Closed,
            Some(until) if now < until => Standing::Open,
            Some(_) if self.probe.is_some_and(|since| now < since + 5_000_000_000) => Standing::Probed,
            Some(_) => Standing::HalfOpen,
        }
    }

    fn counts(&self, sent: u64) -> bool {
        let opened = self.turns.iter().rev().find(|turn| turn.1.is_some());
        opened.is_none_or(|&(opened, _)| sent >= opened)
    }

    fn fail(&mut self, failure: Failure, sent: u64, now: u64, seed: u64) -> bool {
        if !self.counts(sent) || self.standing(now) == Standing::Open {
            return false;
        }
        self.outcomes.push(true);
        let in_a_row = self.outcomes.iter().rev().take_while(|&&failed| failed).count();
        if self.until().is_none() && failure != Failure::Refused && in_a_row < 3 {
            return false;
        }
        let number = self.turns.iter().rev().take_while(|turn| turn.1.is_some()).count();
        let shorter = 1.0 - Draw::from_seed(seed).unit() / 4.0;
        let wait = Duration::from_secs_f64(OPENINGS_MS[number.min(5)] / 1000.0).mul_f64(shorter);
        self.turns.push((now, Some(now + u64::try_from(wait.as_nanos()).unwrap())));
        self.probe = None;
        true
    }

    fn serve(&mut self, sent: u64, now: u64) -> bool {
        if !self.counts(sent) {
            return false;
        }
        self.outcomes.push(false);
        let closed = self.until().is_some();
        if closed {
            self.turns.push((now, None));
            self.probe = None;
        }
        closed
    }
}

proptest! {
    #[test]
    fn it_stands_as_a_log_of_everything_says(steps in steps()) {
        let (mut circuit, mut reference) = (Circuit::default(), Reference::default());
        // When each was sent, and whether it tries.
        let mut in_flight: Vec<(u64, bool)> = Vec::new();
        let mut now = 1_000_000;
        for (seed, step) in (0..).zip(steps) {
            match step {
                Step::Pass(ms) => now += ms * 1_000_000,
                Step::Send => {
                    let tries = reference.standing(now) == Standing::HalfOpen;
                    assert_eq!(circuit.sent(Timestamp::from_nanos(now)), tries);
                    if tries {
                        reference.probe = Some(now);
                    }
                    in_flight.push((now, tries));
                }
                Step::Fail(..) | Step::Serve(_) | Step::Abort(_) if in_flight.is_empty() => {}
                Step::Fail(which, failure) => {
                    let (sent, _) = in_flight.remove(which % in_flight.len());
                    let (sent_at, at) = (Timestamp::from_nanos(sent), Timestamp::from_nanos(now));
                    let did = circuit.failed(failure, sent_at, at, seed).is_some();
                    assert_eq!(did, reference.fail(failure, sent, now, seed));
                }
                Step::Serve(which) => {
                    let (sent, _) = in_flight.remove(which % in_flight.len());
                    assert_eq!(circuit.served(Timestamp::from_nanos(sent)), reference.serve(sent, now));
                }
                Step::Abort(which) => {
                    if let (_, true) = in_flight.remove(which % in_flight.len()) {
                        circuit.withdrawn();
                        reference.probe = None;
                    }
                }
            }
            now += 1;
            assert_eq!(circuit.standing(Timestamp::from_nanos(now)), reference.standing(now));
        }
    }

    #[test]
    fn an_endpoint_that_serves_again_is_always_admitted_again(steps in steps()) {
        let mut circuit = Circuit::default();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Pass(ms) => now += ms,
                Step::Send => { circuit.sent(at(now)); }
                Step::Fail(ago, failure) => {
                    circuit.failed(failure, at(now.saturating_sub(ago as u64 % 9000)), at(now), 1);
                }
                Step::Serve(ago) => { circuit.served(at(now.saturating_sub(ago as u64 % 9000))); }
                Step::Abort(_) => circuit.withdrawn(),
            }
        }
        // The longest opening and a probe that was never answered.
        now += 35_000;
        assert!(matches!(circuit.standing(at(now)), Standing::Closed | Standing::HalfOpen));
        circuit.sent(at(now));
        circuit.served(at(now));
        assert_eq!(circuit.standing(at(now)), Standing::Closed);
    }

    #[test]
    fn a_slow_start_falls_from_cold_to_1_and_never_rises(window in 1u64..100_000, mut ages in vec(0u64..120_000, 2..20)) {
        ages.sort_unstable();
        let window = Duration::from_millis(window);
        let factors: Vec<f64> = ages.iter().map(|&age| warming(Duration::from_millis(age), window)).collect();
        assert!(factors.is_sorted_by(|a, b| a >= b), "{factors:?}");
        assert!(factors.iter().all(|factor| (1.0..=COLD_SLOWNESS).contains(factor)));
    }
}

#[test]
fn a_refusal_opens_at_once_and_broken_answers_in_a_row() {
    let mut circuit = Circuit::default();
    assert_eq!(circuit.failed(Failure::Refused, at(0), at(1), 0), Some(1));
    let mut circuit = Circuit::default();
    for ms in [1, 2] {
        assert_eq!(circuit.failed(Failure::Broken, at(0), at(ms), 0), None);
    }
    assert!(!circuit.served(at(0)), "it was not open");
    assert_eq!(circuit.failed(Failure::Broken, at(0), at(3), 0), None, "they begin anew");
    assert_eq!(circuit.failed(Failure::Stalled, at(0), at(4), 0), None);
    assert_eq!(circuit.failed(Failure::Broken, at(0), at(5), 0), Some(3));
}

#[test]
fn each_opening_is_twice_as_long_up_to_half_a_minute_and_an_answer_forgives() {
    let mut circuit = Circuit::default();
    let mut now = 0;
    for longest in [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000] {
        opened(&mut circuit, now);
        assert_eq!(circuit.standing(at(now + longest * 3 / 4 - 1)), Standing::Open);
        now += longest;
        assert_eq!(circuit.standing(at(now)), Standing::HalfOpen);
    }
    assert!(circuit.served(at(now)));
    now = opened(&mut circuit, now + 1);
    assert_eq!(circuit.standing(at(now + 1000)), Standing::HalfOpen);
}

#[test]
fn requests_that_fail_together_open_it_for_no_longer_than_one() {
    let mut circuit = Circuit::default();
    opened(&mut circuit, 10);
    for ms in 10..3000 {
        assert_eq!(circuit.failed(Failure::Refused, at(9), at(ms), 0), None);
    }
    assert_eq!(circuit.standing(at(1010)), Standing::HalfOpen);
}

#[test]
fn what_was_sent_before_neither_closes_it_nor_opens_it_again() {
    let mut circuit = Circuit::default();
    opened(&mut circuit, 10);
    assert!(!circuit.served(at(9)) && circuit.standing(at(20)) == Standing::Open);
    assert!(circuit.served(at(10)), "sent as a last resort");
    assert_eq!(circuit.failed(Failure::Refused, at(9), at(30), 0), None);
    assert_eq!(circuit.standing(at(30)), Standing::Closed);
}

#[test]
fn one_request_at_a_time_tries_and_a_silent_one_for_five_seconds() {
    let mut circuit = Circuit::default();
    opened(&mut circuit, 0);
    assert!(!circuit.sent(at(500)), "a last resort does not try");
    assert!(circuit.sent(at(1000)) && !circuit.sent(at(1001)));
    assert_eq!(circuit.standing(at(1001)), Standing::Probed);
    circuit.withdrawn();
    assert!(circuit.sent(at(1002)), "it left without a word");
    assert_eq!(circuit.standing(at(6001)), Standing::Probed);
    assert_eq!(circuit.standing(at(6002)), Standing::HalfOpen);
}

#[test]
fn the_slow_start_of_an_endpoint_is_a_straight_line() {
    let factor = |ms| warming(Duration::from_millis(ms), Duration::from_secs(10)).to_bits();
    assert_eq!([0, 5000, 10_000, 60_000].map(factor), [4.0, 2.5, 1.0, 1.0].map(f64::to_bits));
}
