//! The Endpoint Picker: Envoy's external processing protocol (`wire`) in front of the brain that gateways run, for any
//! gateway with InferencePool support. `exchange` is one request, pure; `stream`, `serve` and `drive` touch the world.
//!
//! The brain is fed by this process's own publishing task, as a gateway is; the lock around it is held for one step of one
//! request or one segment of the table, never across an await.

pub mod answer;
pub mod certificate;
pub mod drive;
pub mod exchange;
mod held;
pub mod host_says;
pub mod install;
pub mod picker;
pub mod serve;
pub mod stats;
pub mod stream;

use std::net::SocketAddr;
use std::time::Duration;

/// The messages and the service stubs.
#[expect(
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::missing_errors_doc,
    clippy::too_many_lines,
    reason = "generated code"
)]
pub mod wire {
    tonic::include_proto!("envoy.service.ext_proc.v3");
}

/// The gRPC health service's name for the endpoint picker.
pub const SERVICE: &str = "envoy.service.ext_proc.v3.ExternalProcessor";

/// How the endpoint picker runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// When its brain is fed: it costs as much memory as a gateway's.
    pub attach: Attach,
    /// Are the headers of the Gateway API Inference Extension's conformance suite heard and answered?
    pub conformance: Conformance,
    /// Are the subsets that gateways name obeyed?
    pub subsets: Subsets,
    /// Which replicas are ready.
    pub serves: Serves,
    /// gRPC health on a port of its own, without TLS; `None`: on the gRPC port only.
    pub health: Option<SocketAddr>,
    /// TLS on the gRPC port where the configuration names no certificate.
    pub certificate: Certificate,
    /// How long streams may go on, and new ones still come, once readiness is withdrawn.
    pub drain: Duration,
}

/// When the brain is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// From the start; readiness waits for it.
    AtStart,
    /// From the first request on, which waits for it.
    OnFirstUse,
}

/// The headers of the conformance suite. They let a client choose its endpoint, so they are for tests only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conformance {
    /// Heard and answered.
    On,
    /// Passed on like any other header.
    Off,
}

/// The subsets that gateways name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsets {
    /// A request stays in its subset.
    Obeyed,
    /// All of the pool's endpoints are candidates.
    Ignored,
}

/// Which replicas are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// All of them.
    Always,
    /// The one that leads, so that one brain sees every request.
    WhileLeading,
}

/// TLS where the configuration names no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// No TLS.
    None,
    /// One that is made at start; gateways cannot verify it.
    SelfSigned,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            attach: Attach::OnFirstUse,
            conformance: Conformance::Off,
            subsets: Subsets::Obeyed,
            serves: Serves::Always,
            health: None,
            certificate: Certificate::None,
            drain: Duration::from_secs(30),
        }
    }
}
