//! The example `auth` on a real Envoy: its own filters, budgets and credentials. Who is who is what Envoy has authenticated;
//! what a client says of itself counts for nothing.

use std::path::Path;

use e2e::client::{Answer, Client, Version, answer};
use e2e::echo;
use e2e::prompts::chat;
use e2e::stack::{Mode, Stack};
use e2e::wait::{SOON, eventually};
use serde_json::Value;

const FAIRNESS: [&str; 2] = ["x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id"];
/// What tenants that have no budget of their own may send in a minute, there.
const OTHERS: usize = 5;

fn example(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/auth").join(file)).unwrap()
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&example(file)).unwrap()
}

/// Engines that answer with what reached them, behind the example's filters and budgets.
async fn stack(mode: Mode, removed: &Value, filters: &Value, budgets: &Value, credential: &str) -> Option<Stack> {
    let echo = echo::start().await;
    let builder = Stack::new().engines(0).endpoint(&echo).mode(mode).pool(&format!("budgets: {budgets}"));
    let builder = builder.gateway(&format!("removeHeaders: {removed}, httpFilters: {filters}"));
    let stack = builder.start_unready().await?;
    eventually("every worker routes", SOON, async || {
        for _ in 0..12 {
            let client = stack.client(Version::Http1);
            let request = client.request(reqwest::Method::GET, "/v1/models").header("authorization", credential);
            if answer(request).await.status != 200 {
                return false;
            }
        }
        let pools = stack.control().api("/api/v1/pools").await;
        let newest = stack.control().api("/api/v1/table").await["version"].as_f64();
        let known = pools[0]["models"].as_array().is_some_and(|models| !models.is_empty());
        known && newest == Some(stack.gateway().stat("kvasir_table_version").await)
    })
    .await;
    Some(stack)
}

async fn ask(client: &Client, headers: &[(&str, &str)]) -> Answer {
    let request = client.post("/v1/chat/completions", chat("hello", 4).to_string());
    answer(headers.iter().fold(request, |request, &(name, value)| request.header(name, value))).await
}

/// What a request of acme's looks like to an engine.
fn assert_no_engine_sees_who(answered: &Answer) {
    assert_eq!(answered.status, 200, "{answered:?}");
    let seen = answered.json()["headers"].clone();
    for header in ["authorization", "x-api-key", FAIRNESS[0], FAIRNESS[1]] {
        assert!(seen.get(header).is_none(), "{header}: {seen}");
    }
}

/// Whoever sends these headers.
async fn spends_the_budget_of_others(client: &Client, headers: &[(&str, &str)]) {
    for number in 0..OTHERS {
        let answered = ask(client, headers).await;
        assert_eq!(answered.status, 200, "{number}: {answered:?}");
    }
    let refused = ask(client, headers).await;
    assert_eq!((refused.status, refused.header("x-ratelimit-limit-requests")), (429, "5"), "{refused:?}");
}

async fn tenants_are_who_envoy_says(stack: &Stack, acme: &str, initech: &str) {
    let client = stack.client(Version::Http2);
    for headers in [vec![], vec![(FAIRNESS[0], "acme")], vec![("authorization", "Bearer nonsense")]] {
        assert_eq!(ask(&client, &headers).await.status, 401, "{headers:?}");
    }
    spends_the_budget_of_others(&client, &[("authorization", initech)]).await;
    for header in FAIRNESS {
        for name in ["acme", "somebody-new"] {
            let forged = ask(&client, &[("authorization", initech), (header, name)]).await;
            assert_eq!(forged.status, 429, "{header}: {name} {forged:?}");
        }
    }
    for header in FAIRNESS {
        let answered = ask(&client, &[("authorization", acme), (header, "initech")]).await;
        assert_no_engine_sees_who(&answered);
    }
}

in_both_modes! {
    async fn keys_name_the_tenant(mode) {
        let example = yaml("kvasir.yaml");
        let (gateway, budgets) = (&example["gateway"], &example["pools"][0]["budgets"]);
        let (acme, initech) = ("Bearer sk-acme-0001", "Bearer sk-initech-0001");
        let stack = stack(mode, &gateway["removeHeaders"], &gateway["httpFilters"], budgets, acme).await;
        let Some(stack) = stack else { return };
        tenants_are_who_envoy_says(&stack, acme, initech).await;
        let client = stack.client(Version::Http1);
        assert_no_engine_sees_who(&ask(&client, &[("x-api-key", "sk-acme-0001")]).await);
        assert_eq!(ask(&client, &[("x-api-key", "sk-acme-0002")]).await.status, 401);
    }

    async fn tokens_name_the_tenant(mode) {
        let values = yaml("values.yaml");
        let budgets = &values["pools"][0]["settings"]["budgets"];
        let [acme, initech] = ["acme.jwt", "initech.jwt"].map(|file| format!("Bearer {}", example(file).trim()));
        let (removed, filters) = (&values["gateway"]["removeHeaders"], &values["standalone"]["httpFilters"]);
        let Some(stack) = stack(mode, removed, filters, budgets, &acme).await else { return };
        tenants_are_who_envoy_says(&stack, &acme, &initech).await;
        // A good token that names no tenant: nothing takes the place of the names that were taken off.
        let nobody = format!("Bearer {}", include_str!("auth/nobody.jwt").trim());
        let forged = [("authorization", nobody.as_str()), (FAIRNESS[0], "acme"), (FAIRNESS[1], "acme")];
        spends_the_budget_of_others(&stack.client(Version::Http2), &forged).await;
    }
}
