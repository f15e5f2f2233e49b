//! Routing goes on without the control plane, and is in step again soon after its return.

use e2e::client::Version;
use e2e::prompts::prose;
use e2e::stack::Stack;
use e2e::wait::{SOON, eventually};

const PROMPT: usize = 12_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_control_plane_routing_goes_on_and_its_return_is_followed() {
    let Some(mut stack) = Stack::new().start().await else { return };
    let seeds = 3000..3006;
    let mut homes = Vec::new();
    for seed in seeds.clone() {
        homes.push(stack.client(Version::Http1).ask(&prose(seed, PROMPT)).await.engine().to_owned());
    }
    eventually("the table has the prefixes", SOON, async || {
        stack.gateway().stat("kvasir_resident_chunks").await >= 6.0 * 45.0
    })
    .await;
    let epoch = stack.control().api("/api/v1/table").await["epoch"].clone();
    let grpc = stack.control().grpc.clone();
    stack.kill_control_plane();
    eventually("its silence shows", SOON, async || {
        stack.gateway().stat("kvasir_table_age_milliseconds").await > 1500.0
    })
    .await;
    // Both workers, old and new connections, what was known and what is new.
    for (seed, home) in seeds.zip(&homes) {
        for version in [Version::Http1, Version::Http2] {
            let alone = stack.client(version).ask(&prose(seed, PROMPT)).await;
            assert_eq!((alone.status, alone.engine()), (200, home.as_str()), "{}", alone.decision());
            assert!(alone.cached_share() > 0.9, "{:?}", alone.usage());
        }
    }
    let client = stack.client(Version::Http2);
    let fresh = client.ask(&prose(3100, PROMPT)).await;
    let again = client.ask(&prose(3100, PROMPT)).await;
    assert_eq!(again.engine(), fresh.engine(), "a worker knows what it sent where: {}", again.decision());

    stack.restart_control_plane(&grpc).await;
    eventually("in step again", SOON, async || {
        let table = stack.control().api("/api/v1/table").await;
        assert_ne!(table["epoch"], epoch, "another run counts anew");
        let gateway = stack.gateway();
        table["gateways"].as_array().is_some_and(|gateways| gateways.len() == 1)
            && table["version"].as_f64() == Some(gateway.stat("kvasir_table_version").await)
            && gateway.stat("kvasir_table_age_milliseconds").await < 1500.0
    })
    .await;
    assert_eq!(stack.client(Version::Http1).ask(&prose(3200, PROMPT)).await.status, 200);
    eventually("it learns again", SOON, async || {
        let home = stack.client(Version::Http1).ask(&prose(3200, PROMPT)).await;
        home.cached_share() > 0.9 && stack.gateway().stat("kvasir_resident_chunks").await >= 45.0
    })
    .await;
}
