use proptest::prelude::*;

use super::*;

const POD: EndpointId = EndpointId(1);
const ONE: GatewayId = GatewayId(1);
const TWO: GatewayId = GatewayId(2);

fn ms(milliseconds: u32) -> Timestamp {
    Timestamp::from_secs_f64(f64::from(milliseconds) / 1000.0)
}

fn load(waiting: u64, decoding: u64) -> Load {
    Load { waiting, decoding, queued_tokens: waiting * 100, context_tokens: (waiting + decoding) * 1000 }
}

fn book(ledger: &mut Ledger, gateway: GatewayId, booked: Load, at: u32) {
    ledger.report(gateway, &[(POD, booked)].into(), ms(at));
}

fn scrape(ledger: &mut Ledger, running: u32, waiting: u32, at: u32) {
    ledger.scrape(POD, Scraped { at: ms(at), running, waiting });
    ledger.tick(ms(at + 20));
}

#[test]
fn a_gateway_sees_the_others_and_never_itself() {
    let mut ledger = Ledger::default();
    book(&mut ledger, ONE, load(1, 2), 0);
    book(&mut ledger, TWO, load(3, 4), 0);
    assert_eq!(ledger.others(ONE, POD), load(3, 4));
    assert_eq!(ledger.others(TWO, POD), load(1, 2));
    assert_eq!(ledger.others(GatewayId(3), POD), load(4, 6));
}

#[test]
fn one_gateway_with_exact_bookings_has_no_surplus() {
    let mut ledger = Ledger::default();
    let mut at = 0;
    for i in 0..200u32 {
        let (waiting, decoding) = (i % 3, i % 7);
        book(&mut ledger, ONE, load(waiting.into(), decoding.into()), at);
        // The scrape shows a state of up to 100 ms ago, the report of now comes 15 ms late.
        scrape(&mut ledger, decoding, waiting, at + 90);
        assert_eq!(ledger.others(ONE, POD), Load::default(), "at {at}");
        at += 110;
    }
}

#[test]
fn a_report_that_comes_right_after_the_scrape_still_explains_it() {
    let mut ledger = Ledger::default();
    ledger.scrape(POD, Scraped { at: ms(1000), running: 1, waiting: 0 });
    assert!(!ledger.tick(ms(1010)));
    book(&mut ledger, ONE, load(0, 1), 1015);
    ledger.tick(ms(1020));
    assert_eq!(ledger.others(ONE, POD), Load::default());
}

#[test]
fn what_nobody_booked_belongs_to_unknown_clients_until_a_scrape_says_otherwise() {
    let mut ledger = Ledger::default();
    book(&mut ledger, ONE, load(1, 2), 0);
    scrape(&mut ledger, 10, 4, 1000);
    let surplus = Load { waiting: 3, decoding: 7, queued_tokens: 1500, context_tokens: 10_000 };
    assert_eq!(ledger.others(ONE, POD), surplus);
    assert_eq!(ledger.others(TWO, POD), surplus.plus(load(1, 2)));
    scrape(&mut ledger, 2, 1, 1100);
    assert_eq!(ledger.others(ONE, POD), Load::default());
}

#[test]
fn surplus_without_new_scrapes_is_forgotten() {
    let mut ledger = Ledger::default();
    scrape(&mut ledger, 10, 0, 1000);
    assert_eq!(ledger.others(ONE, POD).decoding, 10);
    assert!(ledger.tick(ms(6100)));
    assert_eq!(ledger.others(ONE, POD), Load::default());
}

#[test]
fn a_silent_gateway_and_a_closed_one_lose_their_bookings() {
    let mut ledger = Ledger::default();
    book(&mut ledger, ONE, load(1, 0), 0);
    book(&mut ledger, TWO, load(2, 0), 1500);
    assert!(ledger.tick(ms(2100)));
    assert_eq!(ledger.others(GatewayId(9), POD), load(2, 0));
    assert_eq!(ledger.gateways(), 1);
    ledger.gateway_gone(TWO, ms(2100));
    assert_eq!(ledger.others(GatewayId(9), POD), Load::default());
}

#[test]
fn an_endpoint_absent_from_a_report_has_no_booking() {
    let mut ledger = Ledger::default();
    book(&mut ledger, ONE, load(1, 0), 0);
    ledger.report(ONE, &BTreeMap::new(), ms(10));
    assert_eq!(ledger.others(TWO, POD), Load::default());
}

#[test]
fn leaked_bookings_are_clamped_after_three_scrapes_and_trusted_again_after_one() {
    let mut ledger = Ledger::default();
    book(&mut ledger, ONE, load(0, 10), 0);
    scrape(&mut ledger, 5, 0, 100);
    scrape(&mut ledger, 5, 0, 200);
    assert_eq!(ledger.others(TWO, POD), load(0, 10));
    scrape(&mut ledger, 5, 0, 300);
    assert_eq!(ledger.others(TWO, POD), load(0, 5));
    assert_eq!(ledger.clamped(), 1);
    scrape(&mut ledger, 10, 0, 400);
    assert_eq!(ledger.others(TWO, POD), load(0, 10));
}

#[test]
fn requests_on_their_way_to_the_queue_are_no_leak() {
    let mut ledger = Ledger::default();
    for at in (0..2000).step_by(100) {
        // Between two scrapes bookings come and go; at each scrape some are in the API server's hands.
        book(&mut ledger, ONE, load(2, 20), at);
        book(&mut ledger, ONE, load(9, 20), at + 60);
        scrape(&mut ledger, 18, 1, at + 90);
    }
    assert_eq!(ledger.clamped(), 0);
    assert_eq!(ledger.others(TWO, POD), load(9, 20));
}

proptest! {
    #[test]
    fn no_report_overflows_a_sum(amounts in proptest::collection::vec(any::<(u32, u32, u64, u64)>(), 1..5), shown in any::<(u32, u32)>()) {
        let mut ledger = Ledger::default();
        for (id, (waiting, decoding, queued_tokens, context_tokens)) in (0u64..).zip(amounts) {
            let load = Load { waiting: waiting.into(), decoding: decoding.into(), queued_tokens, context_tokens };
            book(&mut ledger, GatewayId(id), load, 0);
        }
        for at in [100, 200, 300, 400] {
            scrape(&mut ledger, shown.0, shown.1, at);
        }
        let all = ledger.others(GatewayId::NOBODY, POD);
        prop_assert!(u64::from(all.wire().waiting) <= all.waiting);
    }

    /// Surplus never makes more requests than the engine shows or somebody booked.
    #[test]
    fn fusion_adds_at_most_what_the_engine_shows(booked in (0..50u64, 0..50u64), shown in (0..50u32, 0..50u32)) {
        let mut ledger = Ledger::default();
        book(&mut ledger, ONE, load(booked.0, booked.1), 0);
        scrape(&mut ledger, shown.0, shown.1, 1000);
        let surplus = ledger.others(ONE, POD).in_flight();
        prop_assert!(surplus <= u64::from(shown.0 + shown.1));
        if booked.0 >= u64::from(shown.1) && booked.0 + booked.1 >= u64::from(shown.0) {
            prop_assert_eq!(surplus, 0);
        }
    }
}
