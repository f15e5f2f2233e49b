//! The bars of the routing study, on the real brain and the real control plane in virtual time, and the witness that the
//! virtual clock tells the truth. Loads are the study's for eight pods; figures repeat bit for bit.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions that tests share are test code too, though clippy counts only #[test] functions as such"
)]

mod bookings;
mod clocks;
mod gateways;
mod latency;
mod placement;
mod slowness;

use lab::outcome::Outcome;
use lab::scenario::Scenario;
use lab::world::run;

/// Runs a scenario in which every request must be accounted for.
fn ran(scenario: &Scenario) -> Outcome {
    let outcome = run(scenario).unwrap();
    assert!(outcome.judged().count() > 500, "{scenario:?}");
    outcome
}

/// The same, where in addition nothing may fail.
fn served(scenario: &Scenario) -> Outcome {
    let outcome = ran(scenario);
    let lost: Vec<_> = outcome.records.iter().filter(|r| r.fate != lab::outcome::Fate::Finished).take(3).collect();
    assert!(lost.is_empty(), "not answered: {lost:?}");
    outcome
}
