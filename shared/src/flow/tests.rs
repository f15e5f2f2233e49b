use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::{Strategy, any, prop_oneof, proptest};

use super::*;
use crate::table::flow::{Fairness, Hold, LeastService, Order};
use crate::testing::at;

fn band(order: Order, fairness: Fairness) -> Band {
    Band {
        priority: 0,
        limit: 1.0,
        min_share: 0.0,
        ttl: Duration::from_secs(2),
        deadline: true,
        limits: Limits::default(),
        order,
        fairness,
    }
}

fn control(bands: Vec<Band>) -> FlowControl {
    let hold = Hold::Prediction { token_budget: 8192.0, tpot: true };
    FlowControl {
        bands,
        limits: Limits::default(),
        hold,
        skip: 8,
        no_endpoint_ttl: None,
        soft_ceilings: false,
        sessions: None,
    }
}

fn waiting(number: u64, band: usize, tenant: &str) -> Waiting<u64> {
    Waiting {
        ticket: Ticket(number),
        claim: Claim { band, tenant: tenant.to_owned() },
        arrived: at(number),
        expires: at(number + 2000),
        deadline: None,
        bytes: 10,
        load: number,
    }
}

fn queue(control: &FlowControl, all: Vec<Waiting<u64>>) -> Queue<u64> {
    let mut queue = Queue::default();
    queue.align(control);
    for waiting in all {
        queue.push(waiting, control).unwrap();
    }
    queue
}

/// Serves everybody in turn, each for a pod-second, or as many as it says.
fn served(queue: &mut Queue<u64>, control: &FlowControl, cost: impl Fn(&Waiting<u64>) -> f64) -> Vec<u64> {
    let mut order = Vec::new();
    while let Some(band) = queue.highest() {
        let next = queue.nth(band, 0, control, at(5000)).unwrap();
        let (ticket, cost) = (next.ticket, cost(next));
        let taken = queue.take(ticket).unwrap();
        queue.charge(&taken.claim, cost, control, at(5000));
        order.push(taken.load);
    }
    order
}

#[test]
fn higher_bands_go_first_and_tenants_share_by_service() {
    let control = control(vec![band(Order::FirstCome, Fairness::PodSeconds); 2]);
    let all = vec![
        waiting(1, 1, "a"),
        waiting(2, 0, "long"),
        waiting(3, 0, "long"),
        waiting(4, 0, "short"),
        waiting(5, 0, "short"),
        waiting(6, 0, "short"),
        waiting(7, 0, "short"),
    ];
    let cost = |one: &Waiting<u64>| if one.claim.tenant == "long" { 3.0 } else { 1.0 };
    assert_eq!(served(&mut queue(&control, all), &control, cost), [2, 4, 5, 6, 3, 7, 1]);
}

#[test]
fn who_comes_back_has_saved_up_nothing() {
    let control = control(vec![band(Order::FirstCome, Fairness::PodSeconds)]);
    let mut queue = queue(&control, (1..=10).map(|number| waiting(number, 0, "busy")).collect());
    for number in 1..=5 {
        assert_eq!(queue.take(Ticket(number)).unwrap().load, number);
        queue.charge(&Claim { band: 0, tenant: "busy".to_owned() }, 1.0, &control, at(0));
    }
    for number in 20..30 {
        queue.push(waiting(number, 0, "fresh"), &control).unwrap();
    }
    let order = served(&mut queue, &control, |_| 1.0);
    let first_six = &order[..6];
    assert_eq!(first_six.iter().filter(|&&number| number >= 20).count(), 3, "{order:?}");
}

#[test]
fn a_correction_moves_the_tenant() {
    let control = control(vec![band(Order::FirstCome, Fairness::PodSeconds)]);
    let mut queue =
        queue(&control, vec![waiting(1, 0, "a"), waiting(2, 0, "b"), waiting(3, 0, "a"), waiting(4, 0, "b")]);
    let claim = |tenant: &str| Claim { band: 0, tenant: tenant.to_owned() };
    for (number, tenant) in [(1, "a"), (2, "b")] {
        queue.take(Ticket(number)).unwrap();
        queue.charge(&claim(tenant), 1.0, &control, at(0));
    }
    queue.correct(&claim("a"), 5.0);
    assert_eq!(queue.nth(0, 0, &control, at(0)).unwrap().load, 4);
    queue.correct(&claim("a"), -5.5);
    assert_eq!(queue.nth(0, 0, &control, at(0)).unwrap().load, 3);
}

#[test]
fn clients_that_invent_tenants_fill_no_memory_and_push_out_nobody_who_waits() {
    let control = control(vec![band(Order::FirstCome, Fairness::PodSeconds)]);
    let mut queue = queue(&control, vec![waiting(1, 0, "waits")]);
    for number in 0..20_000 {
        queue.charge(&Claim { band: 0, tenant: format!("t{number}") }, 1.0, &control, at(0));
        assert!(queue.lanes[0].tenants() <= 1100);
    }
    assert_eq!(queue.nth(0, 0, &control, at(0)).unwrap().load, 1);
}

#[test]
fn round_robin_takes_turns_by_request_and_none_goes_by_order_alone() {
    let all = || [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c")].map(|(n, t)| waiting(n, 0, t)).to_vec();
    let fair = |fairness| control(vec![band(Order::FirstCome, fairness)]);
    let robin = fair(Fairness::RoundRobin);
    assert_eq!(served(&mut queue(&robin, all()), &robin, |_| 9.0), [1, 4, 5, 2, 3]);
    let none = fair(Fairness::None);
    assert_eq!(served(&mut queue(&none, all()), &none, |_| 9.0), [1, 2, 3, 4, 5]);
}

#[test]
fn least_service_prefers_who_had_less_lately() {
    let control = control(vec![band(Order::FirstCome, Fairness::LeastService(LeastService::default()))]);
    let mut queue = queue(&control, vec![waiting(1, 0, "a"), waiting(2, 0, "b")]);
    queue.charge(&Claim { band: 0, tenant: "a".to_owned() }, 10.0, &control, at(0));
    assert_eq!(queue.nth(0, 0, &control, at(100)).unwrap().load, 2);
    queue.charge(&Claim { band: 0, tenant: "b".to_owned() }, 10.0, &control, at(600_000));
    assert_eq!(queue.nth(0, 0, &control, at(600_000)).unwrap().load, 1, "ten half-lives later");
}

#[test]
fn orders_within_a_tenant() {
    let with = |number: u64, expires, deadline: Option<u64>| Waiting {
        expires: at(expires),
        deadline: deadline.map(at),
        ..waiting(number, 0, "t")
    };
    let all = || vec![with(1, 9000, None), with(2, 5000, Some(4000)), with(3, 7000, Some(3000))];
    for (order, want) in
        [(Order::FirstCome, [1, 2, 3]), (Order::EarliestExpiry, [2, 3, 1]), (Order::EarliestDeadline, [3, 2, 1])]
    {
        for fairness in [Fairness::PodSeconds, Fairness::None] {
            let control = control(vec![band(order, fairness)]);
            assert_eq!(served(&mut queue(&control, all()), &control, |_| 1.0), want, "{order:?} {fairness:?}");
        }
    }
}

#[test]
fn limits_of_the_band_and_of_all_refuse_and_give_the_request_back() {
    let mut control = control(vec![band(Order::FirstCome, Fairness::PodSeconds); 2]);
    control.limits = Limits { requests: Some(3), bytes: Some(25) };
    control.bands[0].limits.requests = Some(1);
    let mut queue = queue(&control, vec![waiting(1, 0, "a")]);
    assert_eq!(queue.push(waiting(2, 0, "b"), &control).unwrap_err().0, Full::Band);
    queue.push(waiting(3, 1, "b"), &control).unwrap();
    let (full, back) = queue.push(waiting(4, 1, "b"), &control).unwrap_err();
    assert_eq!((full, back.load), (Full::Pool, 4));
    queue.push(Waiting { bytes: 5, ..waiting(5, 1, "b") }, &control).unwrap();
    assert_eq!(queue.push(Waiting { bytes: 0, ..waiting(6, 1, "b") }, &control).unwrap_err().0, Full::Pool);
    assert_eq!((queue.len(), queue.bytes()), (3, 25));
}

#[test]
fn a_band_that_waits_is_owed_its_share_and_no_more() {
    let mut control = control(vec![band(Order::FirstCome, Fairness::PodSeconds); 2]);
    control.bands[1].min_share = 0.1;
    let mut queue = queue(&control, (1..=40).map(|number| waiting(number, usize::from(number > 30), "t")).collect());
    let (mut top, mut low) = (0, 0);
    for _ in 0..33 {
        let band = queue.owed(0, &[]).unwrap_or(0);
        let ticket = queue.nth(band, 0, &control, at(0)).unwrap().ticket;
        let claim = queue.take(ticket).unwrap().claim;
        queue.charge(&claim, 1.0, &control, at(0));
        if band == 0 { top += 1 } else { low += 1 }
    }
    assert!((3..=4).contains(&low), "{top} {low}");
    assert_eq!(queue.owed(0, &[1]), None, "it was tried");
}

#[test]
fn bands_that_are_gone_move_to_the_last() {
    let two = control(vec![band(Order::FirstCome, Fairness::PodSeconds); 2]);
    let mut queue = queue(&two, vec![waiting(1, 1, "a"), waiting(2, 0, "b")]);
    let one = control(vec![band(Order::FirstCome, Fairness::PodSeconds)]);
    queue.align(&one);
    assert_eq!((queue.len(), queue.waiting_in(0), queue.bytes()), (2, 2, 20));
    assert_eq!(queue.take(Ticket(1)).unwrap().load, 1);
}

/// What may happen to a queue.
#[derive(Clone, Debug)]
enum Action {
    Push { band: usize, tenant: u8, ttl: u64 },
    Serve { cost: u8 },
    Abandon { nth: u8 },
    Pass { ms: u64 },
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (0usize..3, 0u8..4, 1u64..500).prop_map(|(band, tenant, ttl)| Action::Push { band, tenant, ttl }),
        3 => any::<u8>().prop_map(|cost| Action::Serve { cost }),
        1 => any::<u8>().prop_map(|nth| Action::Abandon { nth }),
        2 => (0u64..300).prop_map(|ms| Action::Pass { ms }),
    ];
    proptest::collection::vec(action, 0..200)
}

proptest! {
    /// Against a list that is searched: nobody is lost or served twice, nobody late is served, bands are strict, a
    /// tenant's own requests keep their order, and limits hold.
    #[test]
    fn any_schedule_keeps_everybody_in_order(
        actions in actions(),
        order in prop_oneof![0 => proptest::strategy::Just(Order::FirstCome), 1 => proptest::strategy::Just(Order::EarliestExpiry)],
        fairness in prop_oneof![
            proptest::strategy::Just(Fairness::PodSeconds),
            proptest::strategy::Just(Fairness::None),
            proptest::strategy::Just(Fairness::RoundRobin),
            proptest::strategy::Just(Fairness::LeastService(LeastService::default())),
        ],
    ) {
        let mut control = control(vec![band(order, fairness); 3]);
        control.limits.requests = Some(40);
        let mut queue = queue(&control, vec![]);
        let (mut reference, mut now, mut number): (Vec<Waiting<u64>>, u64, u64) = (Vec::new(), 0, 0);
        for action in actions {
            match action {
                Action::Push { band, tenant, ttl } => {
                    number += 1;
                    let claim = Claim { band, tenant: tenant.to_string() };
                    let one = Waiting { claim, arrived: at(now), expires: at(now + ttl), ..waiting(number, 0, "") };
                    let taken = queue.push(one.clone(), &control);
                    assert_eq!(taken.is_ok(), reference.len() < 40);
                    if taken.is_ok() {
                        reference.push(one);
                    }
                }
                Action::Serve { cost } => {
                    let top = reference.iter().map(|one| one.claim.band).min();
                    assert_eq!(queue.highest(), top);
                    let Some(top) = top else { continue };
                    let next = queue.nth(top, 0, &control, at(now)).unwrap().ticket;
                    let place = reference.iter().position(|one| one.ticket == next).unwrap();
                    let chosen = reference.remove(place);
                    let rank = |one: &Waiting<u64>| match order {
                        Order::EarliestExpiry => (one.expires, one.ticket),
                        Order::FirstCome | Order::EarliestDeadline => (one.arrived, one.ticket),
                    };
                    let rivals = reference.iter().filter(|one| one.claim.band == top);
                    let own = |one: &&Waiting<u64>| fairness == Fairness::None || one.claim.tenant == chosen.claim.tenant;
                    assert!(rivals.filter(own).all(|one| rank(&chosen) < rank(one)));
                    assert_eq!(queue.take(next).unwrap(), chosen);
                    queue.charge(&chosen.claim, f64::from(cost), &control, at(now));
                }
                Action::Abandon { nth } => {
                    let Some(one) = reference.get(usize::from(nth) % reference.len().max(1)).cloned() else { continue };
                    reference.retain(|other| other.ticket != one.ticket);
                    assert_eq!(queue.take(one.ticket), Some(one.clone()));
                    assert_eq!(queue.take(one.ticket), None);
                }
                Action::Pass { ms } => {
                    now += ms;
                    let late: BTreeSet<Ticket> = queue.expired(at(now)).into_iter().map(|one| one.ticket).collect();
                    let want = reference.iter().filter(|one| one.expires <= at(now)).map(|one| one.ticket).collect();
                    assert_eq!(late, want);
                    reference.retain(|one| one.expires > at(now));
                }
            }
            assert_eq!(queue.len(), reference.len());
            assert_eq!(queue.bytes(), reference.iter().map(|one| one.bytes).sum::<u64>());
        }
    }
}
