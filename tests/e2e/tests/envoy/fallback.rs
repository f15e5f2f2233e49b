//! A pod that fails before it answered costs the client nothing: the next in the list takes over.

use e2e::client::{Answer, Version};
use e2e::prompts::prose;
use e2e::shared_stack::Shared;
use e2e::wait::{SOON, eventually};
use serde_json::json;

/// The first two endpoints of the steering header.
fn first_choices(answer: &Answer) -> [String; 2] {
    let decision = answer.decision();
    [0, 1].map(|at| decision["candidates"][at]["endpoint"].as_str().unwrap().to_owned())
}

in_all_modes! {
    async fn a_pod_that_refuses_is_passed_over_then_ejected_then_readmitted(mode) {
        let Some(stack) = Shared::of(mode).alone().await else { return };
        let client = stack.client(Version::Http2);
        let prompt = prose(1000, 12_000);
        let home = client.ask(&prompt).await.engine().to_owned();
        assert_eq!(client.ask(&prompt).await.engine(), home);
        let fallbacks = stack.gateway().stat("kvasir_fallbacks_total").await;
        stack.sim.fault(&home, json!({"kind": "refuse"})).await;
        let passed_over = client.ask(&prompt).await;
        assert_eq!(passed_over.status, 200, "{passed_over:?}");
        assert_eq!(first_choices(&passed_over), [home.as_str(), passed_over.engine()], "the next in the list, no other");
        eventually("the fallback is counted", SOON, async || {
            stack.gateway().stat("kvasir_fallbacks_total").await > fallbacks
        })
        .await;
        eventually("ejected", SOON, async || {
            stack.control().state_of(&home).await.as_deref() == Some("unhealthy")
        })
        .await;
        eventually("the gateway leaves it out", SOON, async || {
            let spared = client.ask(&prompt).await;
            assert_eq!(spared.status, 200);
            spared.candidate(&home).is_none()
        })
        .await;
        stack.sim.reset().await;
        eventually("readmitted", SOON, async || client.ask(&prompt).await.candidate(&home).is_some()).await;
    }

    async fn a_pod_that_dies_before_its_first_byte_costs_no_request(mode) {
        let Some(stack) = Shared::of(mode).alone().await else { return };
        let client = stack.client(Version::Http2);
        let prompt = prose(1010, 12_000);
        let home = client.ask(&prompt).await.engine().to_owned();
        stack.sim.fault(&home, json!({"kind": "die_before_first_byte", "next": 1})).await;
        let saved = client.ask(&prompt).await;
        assert_eq!(saved.status, 200, "{saved:?}");
        assert_eq!(first_choices(&saved), [home.as_str(), saved.engine()], "the next in the list, no other");
    }

    async fn an_error_of_the_engine_is_the_clients_to_see(mode) {
        let Some(stack) = Shared::of(mode).alone().await else { return };
        for address in &stack.sim.addresses {
            stack.sim.fault(address, json!({"kind": "error", "status": 500})).await;
        }
        let failed = stack.client(Version::Http1).ask("hello").await;
        assert_eq!(failed.status, 500, "{failed:?}");
        assert!(!failed.engine().is_empty());
    }

    async fn when_every_pod_refuses_the_answer_is_503_at_once(mode) {
        let Some(stack) = Shared::of(mode).alone().await else { return };
        for address in &stack.sim.addresses {
            stack.sim.fault(address, json!({"kind": "refuse"})).await;
        }
        let asked = std::time::Instant::now();
        let failed = stack.client(Version::Http1).ask("hello").await;
        assert_eq!((failed.status, failed.engine()), (503, ""), "{failed:?}");
        assert!(asked.elapsed() < SOON / 4, "{:?}", asked.elapsed());
        eventually("bookings are back", SOON, async || stack.gateway().stat("kvasir_in_flight").await < 0.5).await;
    }
}
