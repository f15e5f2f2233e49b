//! Many gateways, one control plane: what they share, what they lose without it, and its outages.

use lab::outcome::Outcome;
use lab::policy::Policy;
use lab::scenario::{Memory, Outage, Scenario, Sharing};
use lab::workload::Kind;

use super::served;

#[test]
fn eight_gateways_route_about_as_well_as_one() {
    for (kind, rate) in [(Kind::Hot, 70.0), (Kind::Pressure, 14.0), (Kind::Tenants, 52.0), (Kind::Shared, 16.0)] {
        let one = served(&Scenario::new(kind, rate));
        let eight = served(&Scenario { gateways: 8, ..Scenario::new(kind, rate) });
        let (a, b) = (one.attainment(), eight.attainment());
        assert!(b >= a - 0.02, "{kind:?}: attainment {a} alone, {b} with eight");
        let (a, b) = (one.hit_ratio(), eight.hit_ratio());
        assert!(b >= a * 0.97, "{kind:?}: hit ratio {a} alone, {b} with eight");
        assert!(eight.ttft(0.95) <= one.ttft(0.95) * 1.2, "{kind:?}: {} {}", one.ttft(0.95), eight.ttft(0.95));
        assert_eq!(eight.refused_messages, 0);
    }
}

/// Whoever looks best to one gateway looks best to all: without the herd-aware band they would meet there.
#[test]
fn eight_gateways_do_not_herd_short_prompts() {
    for rate in [100.0, 180.0, 230.0] {
        let scenario = Scenario { gateways: 8, ..Scenario::new(Kind::Short, rate) };
        let (ours, blind) = (served(&scenario), served(&scenario.under(Policy::RoundRobin)));
        let ratio = ours.ttft(0.95) / blind.ttft(0.95);
        assert!(ratio <= 1.1, "{rate}/s: {} s against {} s", ours.ttft(0.95), blind.ttft(0.95));
    }
}

/// The control: without one log of routes for all, the same gateways ruin the caches.
#[test]
fn gateways_that_share_nothing_lose_the_cache() {
    let together = Scenario { gateways: 8, ..Scenario::new(Kind::Pressure, 14.0) };
    let apart = served(&Scenario { sharing: Sharing::Alone, ..together.clone() });
    let together = served(&together);
    assert!(apart.hit_ratio() < together.hit_ratio() * 0.6, "{} {}", apart.hit_ratio(), together.hit_ratio());
    assert!(apart.attainment() < together.attainment() - 0.3, "{} {}", apart.attainment(), together.attainment());
    assert!(apart.prediction_error() > 3.0 * together.prediction_error());
}

const GONE: (f64, f64) = (90.0, 120.0);

fn through_an_outage(kind: Kind, rate: f64, gateways: usize, memory: Memory) -> (Outcome, Outcome) {
    let outage = Outage { from: GONE.0, until: GONE.1, memory };
    let scenario = Scenario { gateways, warm: 60.0, until: 180.0, ..Scenario::new(kind, rate) };
    (served(&scenario), served(&Scenario { outage: Some(outage), ..scenario }))
}

#[test]
fn thirty_seconds_without_a_control_plane_are_no_collapse() {
    for (kind, rate) in [(Kind::Hot, 60.0), (Kind::Tenants, 45.0), (Kind::Shared, 10.0)] {
        for gateways in [1, 4] {
            let (calm, cut) = through_an_outage(kind, rate, gateways, Memory::Kept);
            let (calm, gone) = (calm.between(GONE.0, GONE.1), cut.between(GONE.0, GONE.1));
            let (a, b) = (calm.attainment(), gone.attainment());
            assert!(b >= a - 0.05, "{kind:?} x{gateways}: attainment {a} with, {b} without");
            assert!(
                gone.hit_ratio() >= calm.hit_ratio() * 0.9,
                "{kind:?} x{gateways}: {} {}",
                calm.hit_ratio(),
                gone.hit_ratio()
            );
            let after = cut.between(GONE.1 + 10.0, 180.0);
            assert!(after.attainment() >= 0.97, "{kind:?} x{gateways}: {} afterwards", after.attainment());
            assert_eq!(cut.refused_messages, 0);
        }
    }
}

/// Conversations that begin meanwhile are in no table: the gateway has to remember by itself where it sent them.
#[test]
fn without_a_control_plane_a_gateway_remembers_its_own_routes() {
    let (calm, cut) = through_an_outage(Kind::Chat, 40.0, 1, Memory::Kept);
    let (calm, gone) = (calm.between(GONE.0 + 10.0, GONE.1), cut.between(GONE.0 + 10.0, GONE.1));
    assert!(gone.hit_ratio() >= calm.hit_ratio() * 0.95, "{} {}", calm.hit_ratio(), gone.hit_ratio());
    assert!(gone.ttft(0.95) <= calm.ttft(0.95) * 1.3, "{} {}", calm.ttft(0.95), gone.ttft(0.95));
}

#[test]
fn a_restarted_control_plane_is_taken_up_again() {
    let (_, cut) = through_an_outage(Kind::Hot, 60.0, 4, Memory::Lost);
    let after = cut.between(GONE.1 + 20.0, 180.0);
    assert!(after.attainment() >= 0.97, "{}", after.attainment());
    assert!(after.hit_ratio() >= 0.95 * after.hit_bound(), "{} of {}", after.hit_ratio(), after.hit_bound());
}
