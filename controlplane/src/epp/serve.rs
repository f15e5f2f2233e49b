//! The gRPC service `envoy.service.ext_proc.v3.ExternalProcessor`, and the wait for its streams to end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Response, Status, Streaming};

use super::picker::Picker;
use super::stream::Conversation;
use super::wire::ProcessingRequest;
use super::wire::external_processor_server::{ExternalProcessor, ExternalProcessorServer};

/// A request waits this long for the first table.
const FIRST_TABLE: Duration = Duration::from_secs(10);
/// gRPC metadata by which a gateway with several pools says whose requests these are.
const POOL_METADATA: &str = "x-kvasir-pool";
/// Buffered bodies come in one message; pools' own limits are checked as well.
const LONGEST_MESSAGE: usize = 256 << 20;
/// No stream for this long: gateways know that we are going.
const QUIET: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);

/// The service; clones share the picker.
#[derive(Clone)]
pub struct EndpointPicker {
    picker: Arc<Picker>,
}

/// The service around `picker`.
#[must_use]
pub fn service(picker: Arc<Picker>) -> ExternalProcessorServer<EndpointPicker> {
    ExternalProcessorServer::new(EndpointPicker { picker }).max_decoding_message_size(LONGEST_MESSAGE)
}

#[tonic::async_trait]
impl ExternalProcessor for EndpointPicker {
    type ProcessStream = Conversation<Streaming<ProcessingRequest>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let pool = request.metadata().get(POOL_METADATA).and_then(|name| name.to_str().ok()).map(str::to_owned);
        self.picker.want();
        let mut fed = self.picker.fed();
        if !*fed.borrow() {
            // Without a table the request is answered with 503 all the same, in its own dialect.
            let _late = timeout(FIRST_TABLE, fed.wait_for(|fed| *fed)).await.is_err();
        }
        Ok(Response::new(Conversation::new(request.into_inner(), Arc::clone(&self.picker), pool)))
    }
}

/// Waits until no stream is left and no new one came for a while, bounded by the settings. Returns at once when nobody
/// ever used the picker.
pub async fn drained(picker: &Picker) {
    if !*picker.wanted().borrow() {
        return;
    }
    let quiet = async {
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            sleep(LOOK).await;
            if picker.stats.streams() > 0 {
                since = Instant::now();
            }
        }
    };
    if timeout(picker.settings.drain, quiet).await.is_err() {
        let streams = picker.stats.streams();
        if streams > 0 {
            tracing::warn!(streams, "endpoint picker streams are cut off");
        }
    }
}
