//! A gateway without Envoy: the brain that gateways run, behind a real stream.

use std::time::Instant;

use controlplane::clock;
use controlplane::publish::rpc::routing_table_client::RoutingTableClient;
use prost::Message as _;
use shared::brain::Brain;
use shared::lifecycle::{Effect, Input, Lifecycle, Plan};
use shared::wire::{Ack, FromGateway, Report, Subscribe, ToGateway, from_gateway, to_gateway};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::rig::{DEADLINE, Rig};

pub(crate) struct Gateway {
    pub(crate) brain: Brain,
    up: mpsc::Sender<FromGateway>,
    down: Streaming<ToGateway>,
    sequence: u64,
}

impl Gateway {
    pub(crate) async fn connect(rig: &Rig, name: &str) -> Self {
        let endpoint = Channel::from_shared(format!("http://{}", rig.running.grpc)).unwrap();
        let (up, messages) = mpsc::channel(64);
        let subscribe = Subscribe { gateway: name.to_owned(), ..Subscribe::default() };
        up.send(FromGateway { kind: Some(from_gateway::Kind::Subscribe(subscribe)) }).await.unwrap();
        let mut client = RoutingTableClient::new(endpoint.connect().await.unwrap());
        let down = client.sync(ReceiverStream::new(messages)).await.unwrap().into_inner();
        Self { brain: Brain::default(), up, down, sequence: 0 }
    }

    /// Takes messages, and acknowledges them, until `holds`. Returns when that was.
    pub(crate) async fn until(&mut self, holds: impl Fn(&Brain) -> bool) -> Instant {
        let waiting = async {
            while !holds(&self.brain) {
                let message = self.down.message().await.unwrap().expect("the stream goes on");
                self.take(message.kind.unwrap()).await;
            }
            Instant::now()
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("in time")
    }

    async fn take(&mut self, kind: to_gateway::Kind) {
        match kind {
            to_gateway::Kind::Live(live) => self.brain.set_live(live, clock::now()).unwrap(),
            to_gateway::Kind::Segment(segment) => {
                self.brain.fold(&segment.encode_to_vec(), clock::now()).unwrap();
                let ack = Ack { epoch: segment.epoch, version: segment.version, error: String::new() };
                self.send(from_gateway::Kind::Ack(ack)).await;
            }
        }
    }

    async fn send(&self, kind: from_gateway::Kind) {
        self.up.send(FromGateway { kind: Some(kind) }).await.unwrap();
    }

    /// Routes a chat as the filter does; the request stays in flight. Returns the steering list.
    pub(crate) fn route(&mut self, body: &str) -> String {
        let headers: [(&[u8], &[u8]); 2] = [(b":method", b"POST"), (b":path", b"/v1/chat/completions")];
        let (mut life, plan) = (Lifecycle::default(), Plan::default());
        let begin = Input::RequestHeaders { headers: &headers, end_of_stream: false };
        let mut effects = life.on(begin, &mut self.brain, &plan, clock::now());
        let whole = Input::RequestBody { chunk: body.as_bytes(), end_of_stream: true };
        effects.extend(life.on(whole, &mut self.brain, &plan, clock::now()));
        let steered = effects.iter().find_map(|effect| match effect {
            Effect::Steer { destination, .. } => Some(destination.clone()),
            Effect::RemoveHeader(_)
            | Effect::Hold
            | Effect::TryFor(_)
            | Effect::Wait(_)
            | Effect::SetHeader(..)
            | Effect::EditBody { .. }
            | Effect::RemoveResponseHeader(_)
            | Effect::ReplaceChunk(_)
            | Effect::Reply(_)
            | Effect::AddResponseHeader(..)
            | Effect::Count(_) => None,
        });
        steered.unwrap_or_else(|| panic!("{effects:?}"))
    }

    /// Reports what the brain has not reported yet.
    pub(crate) async fn report(&mut self) {
        self.sequence += 1;
        let report: Report = self.brain.report(self.sequence);
        self.send(from_gateway::Kind::Report(report)).await;
    }
}

pub(crate) fn chat(model: &str, content: &str) -> String {
    serde_json::json!({"model": model, "stream": true, "messages": [{"role": "user", "content": content}]}).to_string()
}
