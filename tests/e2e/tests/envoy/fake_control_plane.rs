//! A control plane that sends what no good one would: the last good table stays in force, and the refusal is said and
//! counted. Segments go out as raw bytes, so that they can be anything.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use e2e::client::Version;
use e2e::prompts::prose;
use e2e::stack::Stack;
use e2e::wait::{SOON, eventually};
use prost::Message;
use shared::wire::{Ack, Endpoint, FromGateway, PoolChange, PoolSettings, ResidencyGroup, Segment, from_gateway};
use tokio::sync::{Mutex, broadcast, mpsc};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{BroadcastStream, TcpListenerStream};
use tonic::body::Body;
use tonic::codegen::{BoxStream, Service, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

const EPOCH: u64 = 77;

/// `wire::ToGateway` with the segment as bytes.
#[derive(Clone, PartialEq, Message)]
struct RawToGateway {
    #[prost(bytes = "vec", tag = "1")]
    segment: Vec<u8>,
}

/// `kvasir.v1.RoutingTable`, played by the test.
#[derive(Clone)]
struct Table {
    first: Vec<u8>,
    next: broadcast::Sender<Vec<u8>>,
    acks: mpsc::UnboundedSender<Ack>,
}

struct Fake {
    next: broadcast::Sender<Vec<u8>>,
    acks: Mutex<mpsc::UnboundedReceiver<Ack>>,
}

impl NamedService for Table {
    const NAME: &'static str = "kvasir.v1.RoutingTable";
}

impl Service<http::Request<Body>> for Table {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let table = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).streaming(table, request).await) })
    }
}

impl StreamingService<FromGateway> for Table {
    type Response = RawToGateway;
    type ResponseStream = BoxStream<RawToGateway>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<FromGateway>>) -> Self::Future {
        let (mut up, acks) = (request.into_inner(), self.acks.clone());
        tokio::spawn(async move {
            while let Ok(Some(message)) = up.message().await {
                if let Some(from_gateway::Kind::Ack(ack)) = message.kind {
                    acks.send(ack).ok();
                }
            }
        });
        let later = BroadcastStream::new(self.next.subscribe()).filter_map(Result::ok);
        let segments = tokio_stream::once(self.first.clone()).chain(later);
        let stream: Self::ResponseStream = Box::pin(segments.map(|segment| Ok(RawToGateway { segment })));
        Box::pin(async move { Ok(Response::new(stream)) })
    }
}

impl Fake {
    /// Sends one segment and returns what the gateway says to it.
    async fn send(&self, segment: Vec<u8>) -> Ack {
        self.next.send(segment).expect("a gateway listens");
        self.ack().await
    }

    async fn ack(&self) -> Ack {
        let mut acks = self.acks.lock().await;
        tokio::time::timeout(SOON, acks.recv()).await.expect("an acknowledgement").unwrap()
    }
}

fn segment(version: u64, part: u32, parts: u32, pool: PoolChange) -> Segment {
    Segment { epoch: EPOCH, version, part, parts, pools: vec![pool] }
}

fn pool(addresses: &[String]) -> PoolChange {
    let endpoints =
        (0..).zip(addresses).map(|(slot, address)| Endpoint { slot, address: address.clone(), ..Endpoint::default() });
    let settings = PoolSettings {
        chunk_bytes: 128,
        slo_ttft_seconds: 2.0,
        slo_tpot_seconds: 0.05,
        choices: 3,
        explain: true,
        max_body_bytes: 1 << 20,
        session_header: String::new(),
        stale_after_ms: 2000,
        profile: None,
        flow: None,
        admission: None,
        objectives: Vec::new(),
        budgets: Vec::new(),
        rewrites: Vec::new(),
        ..PoolSettings::default()
    };
    let endpoints = endpoints.collect();
    PoolChange { name: "llama".to_owned(), settings: Some(settings), endpoints, ..PoolChange::default() }
}

/// Everything that must be refused, with words that the refusal must contain. Taken at face value, each would leave the
/// pool without endpoints.
fn hostile(good: &PoolChange) -> Vec<(Vec<u8>, &'static str)> {
    let empty =
        PoolChange { removed_slots: vec![0, 1, 2, 3], ..PoolChange { name: "llama".into(), ..Default::default() } };
    let with = |change: &dyn Fn(&mut PoolChange)| {
        let mut pool = empty.clone();
        change(&mut pool);
        segment(2, 0, 0, pool).encode_to_vec()
    };
    let truncated = segment(2, 1, 1, good.clone()).encode_to_vec();
    let other_epoch = Segment { epoch: EPOCH + 1, ..segment(2, 0, 0, empty.clone()) };
    let group = |holders: &[u32], keys: &[u64]| ResidencyGroup {
        holders: holders.to_vec(),
        keys: keys.to_vec(),
        tokens: vec![],
    };
    vec![
        (b"\xff\xfe garbage \x00\x01".to_vec(), "undecodable"),
        (truncated[..truncated.len() - 7].to_vec(), "undecodable"),
        (segment(9, 0, 0, empty.clone()).encode_to_vec(), "does not follow"),
        (other_epoch.encode_to_vec(), "does not follow"),
        (segment(3, 2, 2, empty.clone()).encode_to_vec(), "snapshot part 2"),
        (with(&|pool| pool.endpoints.push(Endpoint { slot: 5000, ..good.endpoints[0].clone() })), "slot"),
        (
            with(&|pool| pool.endpoints.push(Endpoint { address: "evil.example:80".into(), ..Default::default() })),
            "address",
        ),
        (with(&|pool| pool.endpoints.push(Endpoint { state: 9, ..good.endpoints[0].clone() })), "state"),
        (with(&|pool| pool.residency.push(group(&[4, 0], &[1]))), "holders"),
        (with(&|pool| pool.residency.push(group(&[0], &[0]))), "keys"),
        (
            with(&|pool| {
                pool.settings = Some(PoolSettings { slo_ttft_seconds: f64::NAN, ..good.settings.clone().unwrap() })
            }),
            "slo_ttft_seconds",
        ),
    ]
}

async fn start_fake() -> (String, tokio::net::TcpListener) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap().to_string(), listener)
}

fn serve(listener: tokio::net::TcpListener, first: Vec<u8>) -> Arc<Fake> {
    let (next, _) = broadcast::channel(64);
    let (acks, received) = mpsc::unbounded_channel();
    let table = Table { first, next: next.clone(), acks };
    // Ends with the test's runtime.
    tokio::spawn(async move {
        tonic::transport::Server::builder()
            .add_service(table)
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    Arc::new(Fake { next, acks: Mutex::new(received) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_table_is_refused_and_the_last_good_one_stays_in_force() {
    let (address, listener) = start_fake().await;
    let Some(stack) = Stack::new().control_plane_at(&address).start_unready().await else { return };
    let good = pool(&stack.sim.addresses);
    let fake = serve(listener, segment(1, 1, 1, good.clone()).encode_to_vec());
    assert_eq!(fake.ack().await, Ack { epoch: EPOCH, version: 1, error: String::new() });
    eventually("every worker routes", SOON, async || {
        for _ in 0..8 {
            if stack.client(Version::Http1).ask("hello").await.status != 200 {
                return false;
            }
        }
        true
    })
    .await;
    let mut refusals = 0.0;
    for (bytes, says) in hostile(&good) {
        let ack = fake.send(bytes).await;
        assert_eq!((ack.epoch, ack.version), (EPOCH, 1), "{says}: {ack:?}");
        assert!(ack.error.contains(says), "{says}: {ack:?}");
        refusals += 1.0;
        for _ in 0..2 {
            let answer = stack.client(Version::Http1).ask("hello").await;
            assert_eq!(answer.status, 200, "{says}: {answer:?}");
            assert_eq!(answer.decision()["table_version"], 1);
            assert_eq!(answer.decision()["candidates"].as_array().unwrap().len(), 4, "{says}");
        }
    }
    eventually("the refusals are counted", SOON, async || {
        stack.gateway().stat("kvasir_table_refusals_total").await >= refusals
    })
    .await;
    assert!(stack.gateway().stat("envoy_wasm_kvasir_vm_reload").await < 0.5);

    // A good delta still follows the good table.
    let delta = PoolChange { name: "llama".to_owned(), removed_slots: vec![1, 2, 3], ..PoolChange::default() };
    let ack = fake.send(segment(2, 0, 0, delta).encode_to_vec()).await;
    assert_eq!(ack, Ack { epoch: EPOCH, version: 2, error: String::new() });
    eventually("the removed endpoints are gone, for every worker", SOON, async || {
        for seed in 0..8 {
            let answer = stack.client(Version::Http1).ask(&prose(7000 + seed, 200)).await;
            if answer.engine() != stack.sim.addresses[0] || answer.decision()["table_version"] != 2 {
                return false;
            }
        }
        true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_a_table_says_so_and_routes_as_soon_as_it_has_one() {
    let (address, listener) = start_fake().await;
    let Some(stack) = Stack::new().engines(1).control_plane_at(&address).start_unready().await else { return };
    // The listener is bound but nobody accepts: a control plane that hangs.
    let asked = std::time::Instant::now();
    let early = stack.client(Version::Http1).ask("hello").await;
    assert_eq!((early.status, early.json()["error"]["code"].as_str()), (503, Some("no_routing_table")), "{early:?}");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let _fake = serve(listener, segment(1, 1, 1, pool(&stack.sim.addresses)).encode_to_vec());
    eventually("requests flow", SOON, async || stack.client(Version::Http1).ask("hello").await.status == 200).await;
}
