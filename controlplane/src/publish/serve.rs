//! The gRPC service `kvasir.v1.RoutingTable`: each call becomes one stream task that ends with its client or with the
//! publishing task, whichever goes first.

use std::pin::Pin;

use shared::wire::{FromGateway, ToGateway};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::rpc::routing_table_server::RoutingTable;
use super::stream::{Shared, converse};

/// Messages between a stream's task and its socket: HTTP/2 flow control holds the task back beyond these.
const OUT_MESSAGES: usize = 4;

/// The service; clones share everything.
#[derive(Clone)]
pub struct TableService {
    shared: Shared,
}

impl TableService {
    pub(super) const fn new(shared: Shared) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl RoutingTable for TableService {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<ToGateway, Status>> + Send>>;

    async fn sync(&self, request: Request<Streaming<FromGateway>>) -> Result<Response<Self::SyncStream>, Status> {
        let (out, messages) = mpsc::channel(OUT_MESSAGES);
        let gateway = self.shared.number();
        self.shared.streams.spawn(converse(self.shared.clone(), gateway, request.into_inner(), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}
