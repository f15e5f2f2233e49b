//! Only the filter steers: what clients send under its headers' names never reaches anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::client::{Answer, Version, answer};
use e2e::echo;
use e2e::prompts::{chat, prose};
use e2e::shared_stack::Shared;
use e2e::stack::{Mode, Stack};
use reqwest::header::HeaderValue;
use tokio::net::TcpListener;

const CHAT: &str = "/v1/chat/completions";
const DESTINATION: &str = "x-gateway-destination-endpoint";

/// A listener that no table names, and how many connections it saw.
async fn foreign() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    (address, seen)
}

in_all_modes! {
    async fn a_spoofed_destination_reaches_neither_a_stranger_nor_another_pod(mode) {
        let Some(stack) = Shared::of(mode).share().await else { return };
        let (stranger, connections) = foreign().await;
        let client = stack.client(Version::Http2);
        let prompt = prose(900, 12_000);
        let home = client.ask(&prompt).await.engine().to_owned();
        for target in stack.sim.addresses.iter().filter(|&other| *other != home).chain([&stranger]) {
            for name in [DESTINATION, "X-Gateway-Destination-Endpoint", "x-gateway-destination-endpoint-subset"] {
                let request = client.post(CHAT, chat(&prompt, 4).to_string());
                let spoofed = answer(request.header(name, target).header(name, target)).await;
                assert_eq!((spoofed.status, spoofed.engine()), (200, home.as_str()), "{name}: {target}");
            }
            let listed = client.request(reqwest::Method::GET, "/v1/models").header(DESTINATION, target);
            assert_eq!(answer(listed).await.status, 200);
        }
        assert_eq!(connections.load(Ordering::Relaxed), 0);
    }

    async fn a_header_that_is_not_utf8_does_not_hurt(mode) {
        let Some(stack) = Shared::of(mode).share().await else { return };
        let client = stack.client(Version::Http1);
        let odd = || HeaderValue::from_bytes(b"caf\xe9\xff").unwrap();
        for name in ["x-note", "x-request-id", DESTINATION, "x-kvasir-explain", "x-slo-ttft-ms", "content-type"] {
            let request = client.post(CHAT, chat("hello", 4).to_string()).header(name, odd());
            assert_eq!(answer(request).await.status, 200, "{name}");
        }
        assert!((stack.gateway().stat("envoy_wasm_kvasir_vm_reload").await).abs() < 0.5, "no VM has crashed");
    }
}

/// What an engine behind the filter gets to see.
async fn seen_through(mode: Mode) -> Option<(Vec<String>, Answer, Answer)> {
    let echoes = vec![echo::start().await, echo::start().await];
    let stack = Stack::new().engines(0).endpoint(&echoes[0]).endpoint(&echoes[1]).mode(mode).workers(1).start().await?;
    let client = stack.client(Version::Http1);
    let spoof = |request: reqwest::RequestBuilder| {
        let names = ["x-prefiller-host-port", "x-encoder-hosts-ports", "x-data-parallel-host-port"];
        let request = names.iter().fold(request, |request, name| request.header(*name, "203.0.113.7:1"));
        request.header(DESTINATION, "203.0.113.7:1").header("x-kvasir-decision", "{}").header("x-mine", "kept")
    };
    let chatted = answer(spoof(client.post(CHAT, chat("hello", 4).to_string()))).await;
    let listed = answer(spoof(client.request(reqwest::Method::GET, "/v1/anything"))).await;
    Some((echoes, chatted, listed))
}

async fn an_engine_sees_our_destination_only(mode: Mode) {
    let Some((echoes, chatted, listed)) = seen_through(mode).await else { return };
    for seen in [chatted, listed] {
        assert_eq!(seen.status, 200, "{seen:?}");
        let headers = seen.json()["headers"].clone();
        let destination = headers[DESTINATION].as_str().unwrap_or_default();
        let mut chosen: Vec<&str> = destination.split(',').collect();
        chosen.sort_unstable();
        let mut known: Vec<&str> = echoes.iter().map(String::as_str).collect();
        known.sort_unstable();
        assert_eq!(chosen, known, "{headers}");
        assert!(!headers.to_string().contains("203.0.113.7"), "{headers}");
        assert_eq!(headers["x-mine"], "kept");
        assert!(headers.get("x-kvasir-decision").is_none(), "{headers}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_sees_our_destination_only_in_hold_mode() {
    an_engine_sees_our_destination_only(Mode::Hold).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_sees_our_destination_only_in_state_mode() {
    an_engine_sees_our_destination_only(Mode::State).await;
}

/// On a listener without `kvasir envoy`'s early removal, the filter alone must do it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_filter_alone_strips_what_clients_may_not_send() {
    let echoes = [echo::start().await, echo::start().await];
    let builder = Stack::new().engines(0).endpoint(&echoes[0]).endpoint(&echoes[1]).workers(1);
    let stack = builder.bootstrap(|bootstrap| {
        let path = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        let manager = bootstrap.pointer_mut(path).and_then(|manager| manager.as_object_mut()).unwrap();
        manager.remove("early_header_mutation_extensions").unwrap();
    });
    let Some(stack) = stack.start().await else { return };
    let client = stack.client(Version::Http1);
    let spoofed = "203.0.113.7:1";
    for path in [CHAT, "/v1/anything"] {
        let request = client.post(path, chat("hello", 4).to_string());
        let request = request.header(DESTINATION, spoofed).header(DESTINATION, spoofed);
        let seen = answer(request.header("x-prefiller-host-port", spoofed)).await;
        assert_eq!(seen.status, 200, "{seen:?}");
        assert!(!seen.json()["headers"].to_string().contains(spoofed), "{:?}", seen.json());
    }
}
