//! What many pods cost, and how long a change takes to reach a gateway. Figures are printed; only what no machine excuses
//! is asserted.

use std::time::{Duration, Instant};

use cluster::pods::{NewPod, Ready};
use controlplane::clock;
use controlplane::publish::rpc::routing_table_client::RoutingTableClient;
use prost::Message as _;
use serde_json::json;
use shared::brain::Brain;
use shared::table::EndpointState;
use shared::wire::{Ack, FromGateway, Subscribe, ToGateway, from_gateway, to_gateway};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::fixture::{Engines, Plane, SOON, cluster_with, create, endpoints, inference_pool, pod, reader};
use cluster::kind::POOL;

/// A gateway without Envoy.
struct Gateway {
    brain: Brain,
    up: mpsc::Sender<FromGateway>,
    down: Streaming<ToGateway>,
}

impl Gateway {
    async fn connect(plane: &Plane) -> Self {
        let (up, messages) = mpsc::channel(64);
        let subscribe = Subscribe { gateway: "g".to_owned(), ..Subscribe::default() };
        up.send(FromGateway { kind: Some(from_gateway::Kind::Subscribe(subscribe)) }).await.unwrap();
        let mut client = RoutingTableClient::connect(format!("http://{}", plane.running.grpc)).await.unwrap();
        let down = client.sync(ReceiverStream::new(messages)).await.unwrap().into_inner();
        Self { brain: Brain::default(), up, down }
    }

    /// Takes messages until `pod` is in `state`.
    async fn until(&mut self, pool: &str, pod: &str, state: EndpointState) -> Instant {
        let is = |brain: &Brain| {
            let rows = brain.pool(pool).into_iter().flat_map(|pool| pool.endpoints.iter().flatten());
            rows.into_iter().any(|row| row.labels.get("pod").is_some_and(|name| name == pod) && row.state == state)
        };
        let waiting = async {
            while !is(&self.brain) {
                match self.down.message().await.unwrap().expect("the stream goes on").kind.unwrap() {
                    to_gateway::Kind::Live(live) => self.brain.set_live(live, clock::now()).unwrap(),
                    to_gateway::Kind::Segment(segment) => {
                        self.brain.fold(&segment.encode_to_vec(), clock::now()).unwrap();
                        let ack = Ack { epoch: segment.epoch, version: segment.version, error: String::new() };
                        self.up.send(FromGateway { kind: Some(from_gateway::Kind::Ack(ack)) }).await.unwrap();
                    }
                }
            }
            Instant::now()
        };
        timeout(SOON, waiting).await.expect("in time")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_turns_unready_is_known_to_gateways_soon() {
    let Some(cluster) = cluster_with(&["inference-extension", "llm-d"]).await else { return };
    let engines = Engines::start().await;
    let namespace = cluster.namespace("latency").await;
    create(&namespace, POOL, inference_pool("llama", &json!({"app": "vllm"}), &[engines.port])).await;
    for number in 1..=20 {
        namespace.run(pod(number)).await;
    }
    let config = "pools: [{name: p, discovery: {kubernetes: {inferencePool: llama}}}]";
    let plane = Plane::start(&reader(&namespace).await, config).await;
    plane.until_ready().await;
    let mut gateway = Gateway::connect(&plane).await;
    let mut took: Vec<Duration> = Vec::new();
    for round in 0..100 {
        let name = format!("p{}", round % 20 + 1);
        gateway.until("p", &name, EndpointState::Ready).await;
        let before = Instant::now();
        namespace.set_ready(&name, Ready::No).await;
        let pushed = gateway.until("p", &name, EndpointState::Draining).await;
        // From before the change is asked for: a little more than from its status update on.
        took.push(pushed.duration_since(before));
        namespace.set_ready(&name, Ready::Yes).await;
    }
    took.sort();
    println!("unready to pushed: p50 {:?}, p90 {:?}, p99 {:?}, most {:?}", took[49], took[89], took[98], took[99]);
    assert!(took[49] < Duration::from_secs(1), "{:?}", took[49]);
    plane.stop().await;
}

/// Of this process: CPU seconds and resident bytes.
fn used() -> (f64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let times: Vec<f64> =
        stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2).map(|t| t.parse().unwrap()).collect();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    ((times[0] + times[1]) / 100.0, kilobytes * 1024)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_pods_in_ten_pools_fit_and_churn_is_followed() {
    let Some(cluster) = cluster_with(&["inference-extension", "llm-d"]).await else { return };
    let namespace = cluster.namespace("scale").await;
    let labelled = |number: u16| -> NewPod { pod(number).label("group", &(number % 10).to_string()) };
    for group in 0..10 {
        let labels = json!({"app": "vllm", "group": group.to_string()});
        create(&namespace, POOL, inference_pool(&format!("pool{group}"), &labels, &[9])).await;
    }
    namespace.run_many((0..1000).map(labelled)).await;
    let (_, before) = used();
    // Nobody answers at port 9; probing a thousand engines is measured elsewhere, so it is slow here.
    let config = "kubernetes: {pools: {endpointPicker: '*', defaults: {
        scrape: {interval: {min: 1m, max: 1m}}, health: {interval: 1m}}}}";
    let plane = Plane::start(&reader(&namespace).await, config).await;
    let count =
        |view: &controlplane::datastore::View| view.pools.iter().map(|pool| pool.endpoints.len()).sum::<usize>();
    plane.until("a thousand", |view| count(view) == 1000).await;
    let (cpu, resident) = used();
    println!("1000 pods, 10 pools: {} MiB resident, {} MiB before", resident >> 20, before >> 20);
    let began = Instant::now();
    for number in 0..100 {
        namespace.set_ready(&format!("p{number}"), Ready::No).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let last = format!("{}/pool9", namespace.name);
    plane
        .until("the last change", |view| {
            endpoints(view, &last)
                .iter()
                .any(|e| e.labels["pod"] == "p99" && e.readiness == controlplane::datastore::Readiness::Draining)
        })
        .await;
    let (after, resident) = used();
    let took = began.elapsed().as_secs_f64();
    println!(
        "100 changes in {took:.1} s: {:.2} cores (with this test's own client), {} MiB resident",
        (after - cpu) / took,
        resident >> 20
    );
    assert!(resident < 600 << 20, "{resident}");
    plane.stop().await;
}
