use proptest::prelude::*;
use shared::wire::{Bookings, EndpointBookings, PoolReport, PoolSettings, Route};

use super::*;
use crate::datastore::{EndpointView, PoolView, Readiness};
use crate::publish::diff::tests::Gateway;
use crate::publish::log::{Next, TableLog};

fn address(index: u32) -> String {
    format!("10.0.0.{index}:8000")
}

fn view(pools: &[(&str, &[u32])]) -> View {
    let endpoint = |&index: &u32| EndpointView {
        id: EndpointId::of(&address(index)),
        address: address(index),
        labels: BTreeMap::new(),
        readiness: Readiness::Ready,
        models: None,
        load: None,
    };
    let pool = |&(name, endpoints): &(&str, &[u32])| PoolView {
        name: name.to_owned(),
        settings: PoolSettings { chunk_bytes: 128, ..PoolSettings::default() },
        models: Vec::new(),
        endpoints: endpoints.iter().map(endpoint).collect(),
    };
    View { pools: pools.iter().map(pool).collect() }
}

fn at(milliseconds: u32) -> Timestamp {
    Timestamp::from_secs_f64(f64::from(milliseconds) / 1000.0)
}

fn report(pool: &str, booked: &[(u32, u32)], routes: &[(u32, &[u64])]) -> Report {
    let bookings = booked.iter().map(|&(index, waiting)| EndpointBookings {
        endpoint: EndpointId::of(&address(index)).0,
        bookings: Some(Bookings { waiting, ..Bookings::default() }),
    });
    let routes = routes.iter().map(|&(i, keys)| Route {
        endpoint: EndpointId::of(&address(i)).0,
        base: 0,
        keys: keys.to_vec(),
        rendered: false,
    });
    let pool = PoolReport {
        name: pool.to_owned(),
        bookings: bookings.collect(),
        routes: routes.collect(),
        ..PoolReport::default()
    };
    Report { sequence: 1, pools: vec![pool], batches: Vec::new() }
}

fn others(lives: &[(GatewayId, Live)], gateway: GatewayId, slot: usize) -> Option<u32> {
    let (_, live) = lives.iter().find(|(id, _)| *id == gateway)?;
    Some(live.pools[0].endpoints[slot].others.as_ref()?.waiting)
}

const ONE: GatewayId = GatewayId(1);
const TWO: GatewayId = GatewayId(2);

fn two_gateways() -> Board {
    let mut board = Board::new(9, 1, 1000);
    board.observe(&view(&[("p", &[1, 2])]));
    board.open(ONE, "one".into(), vec![], at(0));
    board.open(TWO, "two".into(), vec![], at(0));
    board.take_deltas(at(0));
    board.take_lives(at(0));
    board
}

#[test]
fn a_booking_goes_to_the_other_gateway_and_not_back_to_its_own() {
    let mut board = two_gateways();
    board.report(ONE, &report("p", &[(2, 3)], &[]), at(10));
    let lives = board.take_lives(at(10));
    assert_eq!(others(&lives, TWO, 1), Some(3));
    assert_eq!(others(&lives, ONE, 1), None, "nothing is new for it");
    board.close(ONE, at(20));
    assert_eq!(others(&board.take_lives(at(20)), TWO, 1), Some(0));
}

#[test]
fn nothing_is_said_while_nothing_changes_but_the_heartbeat() {
    let mut board = two_gateways();
    board.observe(&view(&[("p", &[1, 2])]));
    assert_eq!(board.take_lives(at(500)), []);
    assert_eq!(board.take_deltas(at(500)), [] as [Vec<PoolChange>; 0]);
    assert_eq!(board.take_lives(at(1000)).len(), 2);
    assert_eq!(board.next_due(), Some(at(2000)));
}

#[test]
fn the_second_stream_of_a_gateway_replaces_the_first() {
    let mut board = two_gateways();
    board.report(ONE, &report("p", &[(1, 3)], &[]), at(10));
    assert_eq!(others(&board.take_lives(at(10)), TWO, 0), Some(3));
    board.open(GatewayId(3), "one".into(), vec![], at(20));
    assert_eq!(others(&board.take_lives(at(20)), TWO, 0), Some(0));
    board.report(ONE, &report("p", &[(1, 3)], &[]), at(30));
    board.report(GatewayId(3), &report("p", &[(1, 4)], &[]), at(30));
    assert_eq!(others(&board.take_lives(at(30)), TWO, 0), Some(4));
    board.close(ONE, at(40));
    assert_eq!(others(&board.take_lives(at(1040)), TWO, 0), Some(4));
}

#[test]
fn a_gateway_gets_only_the_pools_that_it_asked_for() {
    let mut board = Board::new(9, 1, 1000);
    board.observe(&view(&[("a", &[1]), ("b", &[2])]));
    board.open(ONE, "one".into(), vec!["b".into()], at(0));
    let lives = board.take_lives(at(0));
    assert_eq!(lives[0].1.pools.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_pool_that_goes_and_comes_back_leaves_no_residency_behind() {
    let mut board = two_gateways();
    let mut gateway = Gateway::default();
    let mut apply = |board: &mut Board| {
        board.take_deltas(at(0)).iter().flatten().for_each(|change| gateway.apply(change));
        gateway.residency.len()
    };
    board.report(ONE, &report("p", &[], &[(1, &[5, 6])]), at(10));
    assert_eq!(apply(&mut board), 2);
    board.observe(&view(&[]));
    board.observe(&view(&[("p", &[1])]));
    assert_eq!(apply(&mut board), 0);
    assert!(board.view_waits());
    board.observe(&view(&[("p", &[1])]));
    assert_eq!(apply(&mut board), 0);
    assert_eq!(board.rows.pools["p"].endpoints.len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    View(Vec<u32>, bool),
    Route(u32, u64, usize),
    Publish,
    Read(usize),
}

proptest! {
    /// Gateways that read whenever they like, from the log or from snapshots, all end with the same table.
    #[test]
    fn every_reader_ends_with_the_published_table(steps in proptest::collection::vec(prop_oneof![
        2 => (proptest::collection::vec(0..6u32, 0..5), any::<bool>()).prop_map(|(e, p)| Step::View(e, p)),
        4 => (0..6u32, 0..4u64, 1..20usize).prop_map(|(e, g, n)| Step::Route(e, g, n)),
        4 => Just(Step::Publish),
        3 => (0..3usize).prop_map(Step::Read),
    ], 1..60), limit in 0..1500usize) {
        let mut board = Board::new(9, 1, 60);
        let mut log = TableLog::new(9, limit);
        board.open(ONE, "one".into(), vec![], at(0));
        let mut readers = vec![(None, Gateway::default()); 3];
        let last = (0..3).map(Step::Read);
        let mut seen = view(&[]);
        let ending = [Step::Publish, Step::Publish, Step::Publish].into_iter().chain(last);
        for (tick, step) in (0u32..).zip(steps.into_iter().chain(ending)) {
            match step {
                Step::View(mut endpoints, with_pool) => {
                    endpoints.sort_unstable();
                    endpoints.dedup();
                    seen = if with_pool { view(&[("p", &endpoints)]) } else { view(&[]) };
                    board.observe(&seen);
                }
                Step::Route(endpoint, group, length) => {
                    let keys: Vec<u64> = (1u64..).take(length).map(|i| group * 1000 * (i / 4) + i).collect();
                    board.report(ONE, &report("p", &[], &[(endpoint, &keys)]), at(tick));
                }
                Step::Publish => {
                    board.take_deltas(at(tick)).into_iter().for_each(|delta| log.append(delta));
                    if board.view_waits() {
                        board.observe(&seen);
                    }
                }
                Step::Read(reader) => loop {
                    let (version, gateway) = &mut readers[reader];
                    match log.next(*version) {
                        Next::UpToDate => break,
                        Next::NeedsSnapshot => {
                            board.take_deltas(at(tick)).into_iter().for_each(|delta| log.append(delta));
                            log.set_snapshot(board.snapshot());
                        }
                        Next::Segments(segments, reached) => {
                            if segments[0].parts != 0 {
                                *gateway = Gateway::default();
                            }
                            segments.iter().flat_map(|s| &s.pools).for_each(|change| gateway.apply(change));
                            *version = Some(reached);
                        }
                    }
                },
            }
        }
        let mut expected = Gateway::default();
        board.snapshot().iter().flatten().for_each(|change| expected.apply(change));
        for (_, gateway) in &readers {
            prop_assert_eq!(gateway, &expected);
        }
        let residency: usize = expected.residency.values().map(|(holders, _)| holders.len()).sum();
        prop_assert!(residency <= 60);
    }
}

#[test]
fn reports_and_addresses_that_gateways_would_refuse_stay_out_of_the_table() {
    let mut board = Board::new(9, 1, 1000);
    let mut odd = view(&[("p", &[1, 2])]);
    odd.pools[0].endpoints[1].address = "pod-2:8000".into();
    assert_eq!(board.observe(&odd).len(), 1);
    board.open(ONE, "one".into(), vec![], at(0));
    board.report(ONE, &report("p", &[], &[(1, &[7, 0, 8]), (1, &[9])]), at(10));
    let mut gateway = Gateway::default();
    board.take_deltas(at(10)).iter().flatten().for_each(|change| gateway.apply(change));
    assert_eq!(gateway.residency.into_keys().map(|(_, key)| key).collect::<Vec<_>>(), [9]);
    assert_eq!(gateway.rows.pools["p"].endpoints.len(), 1);
    let status = board.status(at(10));
    assert_eq!((status.pools[0].counters.malformed_routes, status.pools[0].unplaced), (1, 1));
}

#[test]
fn the_gateways_own_decoder_takes_every_segment_and_every_live_message() {
    let mut board = Board::new(9, 1, 100_000);
    let mut seen = view(&[("p", &[1, 2, 3])]);
    let sane = shared::table::PoolSettings::default();
    let (slo_ttft_seconds, slo_tpot_seconds, choices) = (sane.slo_ttft, sane.slo_tpot, sane.choices);
    let settings =
        PoolSettings { chunk_bytes: 128, slo_ttft_seconds, slo_tpot_seconds, choices, ..PoolSettings::default() };
    seen.pools[0].settings = settings;
    board.observe(&seen);
    board.open(ONE, "one".into(), vec![], at(0));
    let mut log = TableLog::new(9, 1 << 20);
    log.set_snapshot(board.snapshot());
    board.take_deltas(at(0));
    let mut sync = shared::table::sync::TableSync::default();
    let (mut version, mut folds) = (None, 0);
    for round in 1..=20u64 {
        let keys: Vec<u64> = (round * 10_000..).take(5000).collect();
        let endpoint = u32::try_from(round % 3).unwrap() + 1;
        board.report(ONE, &report("p", &[(endpoint, 1)], &[(endpoint, &keys)]), at(10));
        board.take_deltas(at(10)).into_iter().for_each(|delta| log.append(delta));
        while let Next::Segments(segments, reached) = log.next(version) {
            for segment in segments {
                sync.fold(&prost::Message::encode_to_vec(&*segment)).expect("taken");
                folds += 1;
            }
            version = Some(reached);
        }
        for (_, live) in board.take_lives(at(10)) {
            shared::table::codec::live(live).expect("taken");
        }
    }
    assert!(folds > 20);
    assert_eq!(sync.table().version.version, log.version());
    assert_eq!(sync.table().pools["p"].endpoints.iter().flatten().count(), 3);
}
