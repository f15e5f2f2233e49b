//! The stream to the control plane.

use super::Watch;
use crate::rpc::routing_table_client::RoutingTableClient;
use anyhow::{Context, bail};
use shared::wire::{Ack, FromGateway, Subscribe, ToGateway, from_gateway, to_gateway};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// An open stream.
#[derive(Debug)]
pub(crate) struct Gateway {
    up: mpsc::Sender<FromGateway>,
    down: Streaming<ToGateway>,
}

impl Gateway {
    /// Subscribes to everything at the control plane's gRPC `port`.
    pub(crate) async fn connect(port: u16) -> anyhow::Result<Gateway> {
        let channel = Channel::from_shared(format!("http://127.0.0.1:{port}"))?.connect().await?;
        let (up, messages) = mpsc::channel(64);
        let subscribe = Subscribe { gateway: "kvasir-bench".to_owned(), ..Subscribe::default() };
        up.send(FromGateway { kind: Some(from_gateway::Kind::Subscribe(subscribe)) }).await?;
        let down = RoutingTableClient::new(channel).sync(ReceiverStream::new(messages)).await?.into_inner();
        Ok(Gateway { up, down })
    }

    /// Folds everything into `watch` until the stream ends, which is an error.
    pub(crate) async fn follow(mut self, watch: Arc<Mutex<Watch>>, begin: Instant) -> anyhow::Result<()> {
        while let Some(message) = self.down.message().await? {
            let Some(to_gateway::Kind::Segment(segment)) = message.kind else { continue };
            let folded = watch.lock().unwrap_or_else(PoisonError::into_inner).fold(&segment, begin.elapsed());
            let version = folded.context("the bench's own gateway refused a segment")?;
            let ack = Ack { epoch: segment.epoch, version, error: String::new() };
            self.up.send(FromGateway { kind: Some(from_gateway::Kind::Ack(ack)) }).await?;
        }
        bail!("the control plane ended the stream")
    }
}
