//! Tenants' budgets in requests' lives.

use super::*;
use crate::headers;
use crate::testing::{Driven, at, brain, chat_body, pool, post};
use crate::wire;

const CHAT: &str = "/v1/chat/completions";
const SERVED_BY: &str = "10.0.0.1:1";

fn budget(tenants: &[&str], tokens: f64, requests: f64) -> wire::Budget {
    let tenants = tenants.iter().map(|&name| name.to_owned()).collect();
    wire::Budget { tenants, tokens_per_minute: tokens, requests_per_minute: requests }
}

fn limited(budgets: Vec<wire::Budget>) -> Brain {
    let mut change = pool("p", &[1], &["m"]);
    if let Some(settings) = &mut change.settings {
        settings.budgets = budgets;
    }
    let mut brain = brain(vec![change]);
    let pools = vec![wire::LivePool { name: "p".to_owned(), gateways: 1, ..wire::LivePool::default() }];
    brain.set_live(wire::Live { epoch: 1, pools, counted: Vec::new() }, at(0)).unwrap();
    brain
}

fn asked(brain: &mut Brain, tenant: &str, ms: u64) -> Driven {
    post(brain, CHAT, &[(headers::FAIRNESS_ID[0], tenant)], chat_body("m", "hello").as_bytes(), at(ms))
}

fn answer(driven: &mut Driven, brain: &mut Brain, status: u16, body: &str) {
    let head = Input::ResponseHeaders { status, event_stream: false, encoded: false, served_by: Some(SERVED_BY) };
    driven.on(head, brain, at(1));
    driven.on(Input::ResponseBody { chunk: body.as_bytes(), end_of_stream: true }, brain, at(1));
}

/// What the control plane hears that the tenant spent.
fn reported(brain: &mut Brain, tenant: &str) -> (f64, f64) {
    let report = brain.report(1);
    let rows = report.pools.iter().flat_map(|pool| &pool.spent).filter(|row| row.tenant == tenant);
    rows.fold((0.0, 0.0), |(tokens, requests), row| (tokens + row.tokens, requests + row.requests))
}

#[test]
fn who_has_spent_its_requests_is_told_when_to_come_back_and_others_go_on() {
    let mut brain = limited(vec![budget(&["a"], 0.0, 2.0), budget(&[], 0.0, 100.0)]);
    asked(&mut brain, "a", 0).destination();
    asked(&mut brain, "a", 0).destination();
    let refused = asked(&mut brain, "a", 0);
    assert_eq!(refused.reply().0, 429);
    assert!(refused.effects.contains(&Effect::Count(Event::OverBudget { pool: "p".to_owned() })));
    let Some(Effect::Reply(reply)) = refused.effects.last() else { unreachable!() };
    for (name, value) in [
        ("retry-after", "30"),
        ("x-ratelimit-limit-requests", "2"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "30s"),
    ] {
        assert!(reply.headers.contains(&(name, value.to_owned())), "{name}: {:?}", reply.headers);
    }
    asked(&mut brain, "b", 0).destination();
    asked(&mut brain, "a", 30_000).destination();
}

#[test]
fn in_the_end_tokens_are_what_the_engine_counted() {
    let mut brain = limited(vec![budget(&[], 1e6, 0.0)]);
    let mut driven = asked(&mut brain, "a", 0);
    let (expected, _) = reported(&mut brain, "a");
    assert!(expected > 300.0, "the prompt, and what answers are usually long: {expected}");
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":70,"completion_tokens":30,"total_tokens":100}}"#;
    answer(&mut driven, &mut brain, 200, usage);
    let (corrected, requests) = reported(&mut brain, "a");
    assert!((expected + corrected - 100.0).abs() < 1e-9 && requests.abs() < 1e-9, "{expected} {corrected}");
}

#[test]
fn what_is_not_served_costs_nothing_and_going_away_costs_the_prompt() {
    let mut brain = limited(vec![budget(&[], 1e6, 100.0)]);
    let mut driven = asked(&mut brain, "a", 0);
    answer(&mut driven, &mut brain, 503, "");
    let (tokens, requests) = reported(&mut brain, "a");
    assert!(tokens.abs() < 1e-9 && requests.abs() < 1e-9, "{tokens} {requests}");
    let mut driven = asked(&mut brain, "a", 0);
    driven.on(Input::Ended, &mut brain, at(1));
    let (tokens, requests) = reported(&mut brain, "a");
    assert!(tokens > 0.0 && tokens < 50.0 && (requests - 1.0).abs() < 1e-9, "{tokens} {requests}");
}

#[test]
fn what_other_gateways_let_through_counts_and_silence_leaves_a_part() {
    let mut brain = limited(vec![budget(&[], 0.0, 4.0)]);
    brain.workers = 2;
    let told = |requests| {
        let spent = vec![wire::Spending { tenant: "a".to_owned(), tokens: 0.0, requests }];
        let pool = wire::LivePool { name: "p".to_owned(), gateways: 2, spent, ..wire::LivePool::default() };
        wire::Live { epoch: 1, pools: vec![pool], counted: Vec::new() }
    };
    brain.set_live(told(3.0), at(0)).unwrap();
    asked(&mut brain, "a", 0).destination();
    assert_eq!(asked(&mut brain, "a", 0).reply().0, 429);
    // What was spent here meanwhile was told, and is counted.
    brain.report(1);
    let counted = vec![wire::SpendingBatch { worker: 0, number: 1 }];
    brain.set_live(wire::Live { counted, ..told(0.0) }, at(100_000)).unwrap();
    for ms in [100_000, 101_000, 102_900] {
        // It speaks every second, and later when a message is late.
        asked(&mut brain, "a", ms).destination();
    }
    // Four shared by two gateways of two workers.
    let later = 3_600_000;
    asked(&mut brain, "a", later).destination();
    assert_eq!(asked(&mut brain, "a", later).reply().0, 429);
    brain.report(2);
    brain.set_live(told(0.0), at(later)).unwrap();
    for _ in 0..4 {
        asked(&mut brain, "a", later).destination();
    }
    assert_eq!(asked(&mut brain, "a", later).reply().0, 429);
    let (_, requests) = reported(&mut brain, "a");
    assert!((requests - 4.0).abs() < 1e-9, "what was spent in silence is nobody's any more: {requests}");
}

#[test]
fn what_is_no_inference_request_costs_nothing() {
    let mut brain = limited(vec![budget(&[], 1.0, 1.0)]);
    for _ in 0..3 {
        post(&mut brain, "/v1/models", &[(headers::FAIRNESS_ID[0], "a")], b"", at(0)).destination();
    }
    assert_eq!(reported(&mut brain, "a"), (0.0, 0.0));
}
