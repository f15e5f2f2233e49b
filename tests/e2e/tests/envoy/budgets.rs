//! Tenants' budgets: who is over one is told so in its dialect, tokens are what the engine says, and all workers of all
//! gateways count together while the control plane speaks.

use std::time::{Duration, Instant};

use e2e::client::{Answer, Client, Version, answer};
use e2e::prompts::chat;
use e2e::stack::Stack;
use e2e::wait::{SOON, eventually};
use serde_json::{Value, json};

const FAIRNESS: &str = "x-llm-d-inference-fairness-id";
/// Requests a minute of a tenant in the tests with two gateways.
const LIMIT: usize = 40;
const LIMITED: &str = "budgets: [{tenants: [few], requestsPerMinute: 40}]";

async fn ask(client: &Client, tenant: &str, body: &Value) -> Answer {
    answer(client.post("/v1/chat/completions", body.to_string()).header(FAIRNESS, tenant)).await
}

/// How many of the tenant's requests go until one is refused, each on a connection of its own: workers take turns.
async fn served_until_refused(clients: impl Fn() -> Client) -> usize {
    for served in 0..2 * LIMIT {
        let answered = ask(&clients(), "few", &chat("hello", 1)).await;
        if answered.status != 200 {
            assert_eq!(answered.status, 429, "{answered:?}");
            return served;
        }
    }
    panic!("no end of it")
}

/// No more than the minute that it takes to drain a bucket.
fn assert_tells_when(refused: &Answer, what: &str) {
    assert_eq!(refused.status, 429, "{refused:?}");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{refused:?}");
    assert_eq!(refused.header(&format!("x-ratelimit-reset-{what}")), format!("{wait}s"));
    assert_eq!(refused.header(&format!("x-ratelimit-remaining-{what}")), "0");
}

in_all_modes! {
    async fn who_is_over_its_budget_is_told_when_to_come_back_and_others_go_on(mode) {
        let budgets = "budgets: [{tenants: [few], requestsPerMinute: 3}, {requestsPerMinute: 600}]";
        let Some(stack) = Stack::new().engines(1).mode(mode).pool(budgets).start().await else { return };
        let client = stack.client(Version::Http2);
        for number in 0..3 {
            let answered = ask(&client, "few", &chat("hello", 1)).await;
            assert_eq!(answered.status, 200, "{number}: {answered:?}");
        }
        let refused = ask(&client, "few", &chat("hello", 1)).await;
        assert_tells_when(&refused, "requests");
        assert_eq!(refused.header("x-ratelimit-limit-requests"), "3");
        assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
        let message = json!({"model": "sim-model", "max_tokens": 1, "messages": [{"role": "user", "content": "hello"}]});
        let refused = answer(client.post("/v1/messages", message.to_string()).header(FAIRNESS, "few")).await;
        assert_tells_when(&refused, "requests");
        assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
        assert_eq!(ask(&client, "many", &chat("hello", 1)).await.status, 200);
        eventually("it is counted", SOON, async || stack.gateway().stat("kvasir_over_budget_total").await >= 2.0).await;
    }

    async fn tokens_are_what_the_engine_says_in_the_end(mode) {
        // A minute of either is more than one such answer was expected to be, or was, and less than both.
        let budgets = "budgets: [{tenants: [short], tokensPerMinute: 350}, {tenants: [long], tokensPerMinute: 400}]";
        let Some(stack) = Stack::new().engines(1).mode(mode).pool(budgets).start().await else { return };
        let client = stack.client(Version::Http2);
        // Without a limit, some 300 are expected. These are 128.
        let mut unlimited = chat("hello", 1);
        unlimited.as_object_mut().unwrap().remove("max_tokens");
        let answered = ask(&client, "short", &unlimited).await;
        assert_eq!(answered.usage()["completion_tokens"], 128);
        // Until it is drained, 20 s, were it not for what came back; a picker hears of the answer's end a moment later.
        let is_served = async || ask(&client, "short", &chat("hello", 150)).await.status == 200;
        eventually("what was not used came back", SOON / 4, is_served).await;
        let answered = ask(&client, "long", &chat("hello", 500)).await;
        assert_eq!(answered.usage()["completion_tokens"], 500);
        let refused = ask(&client, "long", &chat("hello", 4)).await;
        assert_tells_when(&refused, "tokens");
        assert_eq!(refused.header("x-ratelimit-limit-tokens"), "400");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_gateway_let_through_is_gone_at_the_other() {
    let Some(stack) = Stack::new().engines(1).gateways(2).pool(LIMITED).start().await else { return };
    let (a, b) = (&stack.gateways[0], &stack.gateways[1]);
    let served = served_until_refused(|| a.client(Version::Http1)).await;
    assert!((LIMIT..LIMIT + LIMIT / 2).contains(&served), "two workers, and what they had not heard of: {served}");
    let since = Instant::now();
    let served = served_until_refused(|| b.client(Version::Http1)).await;
    assert!(since.elapsed() < Duration::from_secs(1) && served < LIMIT / 2, "{served} in {:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_control_plane_each_gateway_keeps_to_its_part() {
    let Some(mut stack) = Stack::new().engines(1).gateways(2).workers(1).pool(LIMITED).start().await else { return };
    stack.kill_control_plane();
    let silence = |gateway: usize| stack.gateways[gateway].stat("kvasir_table_age_milliseconds");
    // Long enough, too, for the VM to be forgotten that Envoy made to check its configuration.
    eventually("both know that it is silent", SOON, async || silence(0).await.min(silence(1).await) > 6000.0).await;
    for gateway in &stack.gateways {
        let served = served_until_refused(|| gateway.client(Version::Http1)).await;
        assert!((LIMIT / 2..LIMIT * 3 / 4).contains(&served), "{served}");
    }
}
