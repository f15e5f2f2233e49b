//! Where requests go, with one gateway: by prefix and by load, against the cache-blind baselines.

use lab::outcome::Outcome;
use lab::policy::Policy;
use lab::scenario::Scenario;
use lab::workload::Kind;

use super::served;

fn against_round_robin(kind: Kind, rate: f64) -> (Outcome, Outcome) {
    let scenario = Scenario::new(kind, rate);
    (served(&scenario), served(&scenario.under(Policy::RoundRobin)))
}

#[test]
fn a_hot_prefix_spreads_at_half_load() {
    for seed in 501..504 {
        let outcome = served(&Scenario { seed, ..Scenario::new(Kind::Hot, 35.0) });
        assert!(outcome.imbalance() <= 1.3, "seed {seed}: {:?}", outcome.per_pod());
        assert!(outcome.hit_ratio() > 0.95 * outcome.hit_bound(), "{} of {}", outcome.hit_ratio(), outcome.hit_bound());
        assert!(
            outcome.ttft(0.95) < 0.15 && outcome.tpot(0.95) < 0.03,
            "{} {}",
            outcome.ttft(0.95),
            outcome.tpot(0.95)
        );
    }
}

#[test]
fn unique_short_prompts_cost_no_more_than_round_robin() {
    for rate in [100.0, 180.0, 230.0] {
        let (ours, blind) = against_round_robin(Kind::Short, rate);
        let ratio = ours.ttft(0.95) / blind.ttft(0.95);
        assert!(ratio <= 1.1, "{rate}/s: {} s against {} s", ours.ttft(0.95), blind.ttft(0.95));
    }
}

#[test]
fn shared_prefixes_are_found_again() {
    let (ours, blind) = against_round_robin(Kind::Shared, 13.0);
    assert!(ours.ttft(0.5) * 5.0 < blind.ttft(0.5), "p50 {} against {}", ours.ttft(0.5), blind.ttft(0.5));
    assert!(ours.ttft(0.95) * 20.0 < blind.ttft(0.95), "p95 {} against {}", ours.ttft(0.95), blind.ttft(0.95));
    assert!(ours.hit_ratio() > 0.95 * ours.hit_bound(), "{} of {}", ours.hit_ratio(), ours.hit_bound());
    assert!(ours.attainment() > 0.99 && blind.attainment() < 0.5, "{} {}", ours.attainment(), blind.attainment());
    assert!(ours.prediction_error() < 0.05, "{}", ours.prediction_error());
}

#[test]
fn a_conversation_stays_where_it_was() {
    let (ours, blind) = against_round_robin(Kind::Chat, 40.0);
    assert!(ours.ttft(0.5) * 2.0 < blind.ttft(0.5), "p50 {} against {}", ours.ttft(0.5), blind.ttft(0.5));
    assert!(ours.ttft(0.95) * 3.0 < blind.ttft(0.95), "p95 {} against {}", ours.ttft(0.95), blind.ttft(0.95));
    assert!(ours.hit_ratio() > 0.95 * ours.hit_bound(), "{} of {}", ours.hit_ratio(), ours.hit_bound());
}

#[test]
fn prefixes_beyond_the_cache_and_bursts_of_tenants_meet_the_service_levels() {
    for (kind, rate) in [(Kind::Pressure, 13.0), (Kind::Tenants, 45.0)] {
        let (ours, blind) = against_round_robin(kind, rate);
        assert!(ours.attainment() > 0.98, "{kind:?}: {}", ours.attainment());
        assert!(ours.ttft(0.95) < blind.ttft(0.95) && ours.tpot(0.95) < blind.tpot(0.95), "{kind:?}");
        assert!(ours.hit_ratio() > blind.hit_ratio() * 1.2, "{kind:?}: {} {}", ours.hit_ratio(), blind.hit_ratio());
    }
}
