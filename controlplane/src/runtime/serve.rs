//! The gRPC server: from when what is to be told is known, until the end. Health says so before the server ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tracing::error;

use super::LAST_CALLS;
use crate::datastore::drive::Datastore;
use crate::epp;
use crate::epp::picker::Picker;
use crate::kubernetes::lease::drive::Leadership;
use crate::publish::rpc::routing_table_server::RoutingTableServer;
use crate::publish::serve::TableService;
use crate::tls::serve::{accept, connections};

/// Gateways wait at most this long for the first probes.
const FIRST_PROBES: Duration = Duration::from_secs(3);

/// Streams of one connection: an endpoint picker has one for every request in flight.
const STREAMS: u32 = 1 << 17;
/// Streams that a gateway may take back before we looked at them; its clients went away in numbers.
const RESETS: usize = 1 << 14;
/// Bytes under way in one connection, and in one stream of it: bodies of many requests share a connection.
const CONNECTION_WINDOW: u32 = 16 << 20;
const STREAM_WINDOW: u32 = 1 << 20;

/// What the server needs.
pub(super) struct Grpc {
    pub(super) listener: TcpListener,
    /// Whom health is told to.
    pub(super) health: HealthReporter,
    pub(super) tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    pub(super) store: Datastore,
    /// Are all pools known? A gateway must not be told that there are none because the cluster does not answer.
    pub(super) settled: watch::Receiver<bool>,
    /// Told once it serves.
    pub(super) serving: watch::Sender<bool>,
    pub(super) tables: RoutingTableServer<TableService>,
    pub(super) picker: Arc<Picker>,
    /// Health follows it; `None`: every replica serves.
    pub(super) leadership: Option<watch::Receiver<Leadership>>,
}

/// Logs a server that failed.
pub(super) async fn ended<E: std::fmt::Display>(server: &'static str, run: impl Future<Output = Result<(), E>>) {
    if let Err(error) = run.await {
        error!(server, %error, "server failed");
    }
}

impl Grpc {
    /// Waits until what gateways are to be told is known; a missed probe is not waited for.
    async fn known(&mut self) {
        // They fail only at the end.
        let _ended = self.settled.wait_for(|settled| *settled).await.is_err();
        let mut progress = self.store.progress.clone();
        let probed = progress.wait_for(|progress| progress.probed);
        let _late = tokio::time::timeout(FIRST_PROBES, probed).await.is_err();
        if self.picker.settings.attach == epp::Attach::AtStart {
            let _never = self.picker.fed().wait_for(|fed| *fed).await.is_err();
        }
    }

    /// Serves gateways, from when the first probes are in until `stop`; from `unready` on, health says so.
    pub(super) async fn serve(mut self, (unready, stop): (CancellationToken, CancellationToken)) {
        let reporter = self.health.clone();
        reporter.set_service_status("liveness", ServingStatus::Serving).await;
        report_health(&reporter, ServingStatus::NotServing).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.known() => {}
        }
        let ending = stop.clone();
        let leadership = self.leadership;
        let end = async move {
            tokio::select! {
                () = unready.cancelled() => {}
                () = tell(&reporter, leadership) => {}
            }
            report_health(&reporter, ServingStatus::NotServing).await;
            ending.cancelled().await;
        };
        let router = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .http2_keepalive_timeout(Some(Duration::from_secs(5)))
            .max_concurrent_streams(STREAMS)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            .http2_max_pending_accept_reset_streams(Some(RESETS))
            .add_service(health_service(self.health))
            .add_service(epp::serve::service(self.picker))
            .add_service(self.tables);
        self.serving.send_replace(true);
        let last_calls = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_CALLS).await;
        };
        let server = async {
            match self.tls {
                None => {
                    // Bookings must reach other gateways within 50 ms: Nagle's algorithm alone may take 40.
                    let connections = TcpIncoming::from(self.listener).with_nodelay(Some(true));
                    router.serve_with_incoming_shutdown(connections, end).await
                }
                Some(config) => {
                    let (ready, accepted) = connections();
                    let accepting = accept(self.listener, config, ready, stop.clone());
                    let (served, ()) = tokio::join!(router.serve_with_incoming_shutdown(accepted, end), accepting);
                    served
                }
            }
        };
        tokio::select! {
            () = ended("grpc", server) => {}
            () = last_calls => {}
        }
    }
}

/// Tells health whether this replica serves, for ever.
async fn tell(reporter: &HealthReporter, leadership: Option<watch::Receiver<Leadership>>) {
    let Some(mut leadership) = leadership else {
        report_health(reporter, ServingStatus::Serving).await;
        return std::future::pending().await;
    };
    loop {
        let leads = leadership.borrow_and_update().leads;
        report_health(reporter, if leads { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
        if leadership.changed().await.is_err() {
            return;
        }
    }
}

/// Serves health alone, without TLS, until `stop`.
pub(super) async fn serve_health(listener: TcpListener, health: HealthReporter, stop: CancellationToken) {
    health.set_service_status("liveness", ServingStatus::Serving).await;
    let router = tonic::transport::Server::builder().add_service(health_service(health));
    ended("health", router.serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.cancelled_owned())).await;
}

fn health_service(health: HealthReporter) -> HealthServer<HealthService> {
    HealthServer::new(HealthService::from_health_reporter(health))
}

/// All but `liveness`: a control plane that cannot serve yet, or no more, is alive.
async fn report_health(reporter: &HealthReporter, status: ServingStatus) {
    for service in ["", "readiness", "kvasir.v1.RoutingTable", epp::SERVICE] {
        reporter.set_service_status(service, status).await;
    }
}
