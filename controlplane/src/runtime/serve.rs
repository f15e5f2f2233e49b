//! The gRPC server: from when what is to be told is known, until the end. Health says so before the server ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::error;

use super::LAST_CALLS;
use crate::datastore::drive::Datastore;
use crate::publish::rpc::routing_table_server::RoutingTableServer;
use crate::publish::serve::TableService;
use crate::tls::serve::{accept, connections};

/// Gateways wait at most this long for the first probes.
const FIRST_PROBES: Duration = Duration::from_secs(3);

/// What the server needs.
pub(super) struct Grpc {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    pub(super) store: Datastore,
    /// Are all pools known? A gateway must not be told that there are none because the cluster does not answer.
    pub(super) settled: watch::Receiver<bool>,
    /// Told once it serves.
    pub(super) serving: watch::Sender<bool>,
    pub(super) tables: RoutingTableServer<TableService>,
}

/// Logs a server that failed.
pub(super) async fn ended<E: std::fmt::Display>(server: &'static str, run: impl Future<Output = Result<(), E>>) {
    if let Err(error) = run.await {
        error!(server, %error, "server failed");
    }
}

impl Grpc {
    /// Serves gateways, from when the first probes are in until `stop`; from `unready` on, health says so.
    pub(super) async fn serve(mut self, (unready, stop): (CancellationToken, CancellationToken)) {
        let mut progress = self.store.progress.clone();
        let known = async {
            // They fail only at the end.
            let _ended = self.settled.wait_for(|settled| *settled).await.is_err();
            let probed = progress.wait_for(|progress| progress.probed);
            let _late = tokio::time::timeout(FIRST_PROBES, probed).await.is_err();
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = known => {}
        }
        let (reporter, health) = tonic_health::server::health_reporter();
        report_health(&reporter, ServingStatus::Serving).await;
        let ending = stop.clone();
        let end = async move {
            unready.cancelled().await;
            report_health(&reporter, ServingStatus::NotServing).await;
            ending.cancelled().await;
        };
        let router = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .http2_keepalive_timeout(Some(Duration::from_secs(5)))
            .add_service(health)
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

async fn report_health(reporter: &HealthReporter, status: ServingStatus) {
    for service in ["", "liveness", "readiness", "kvasir.v1.RoutingTable"] {
        reporter.set_service_status(service, status).await;
    }
}
