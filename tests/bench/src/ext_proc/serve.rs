//! Serves the no-op external processor on one thread. The response stream is the request stream, mapped: no task and no
//! channel in between, so that the server costs as little as tonic allows.

use super::unchanged;
use super::wire::external_processor_server::{ExternalProcessor, ExternalProcessorServer};
use super::wire::{ProcessingRequest, ProcessingResponse};
use anyhow::Context;
use std::pin::Pin;
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

struct NoOp;

type Answer = Result<ProcessingResponse, Status>;

fn answer(message: Result<ProcessingRequest, Status>) -> Option<Answer> {
    message.map(unchanged).transpose()
}

#[tonic::async_trait]
impl ExternalProcessor for NoOp {
    type ProcessStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        Ok(Response::new(Box::pin(request.into_inner().filter_map(answer))))
    }
}

/// Serves until the process ends; `announce` is told the port first.
pub(crate) async fn serve(announce: impl FnOnce(&[u16])) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("bind the external processor")?;
    let port = listener.local_addr()?.port();
    announce(&[port]);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder().add_service(ExternalProcessorServer::new(NoOp)).serve_with_incoming(incoming).await?;
    Ok(())
}
