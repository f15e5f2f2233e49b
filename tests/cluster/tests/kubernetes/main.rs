//! What this project relies on in Kubernetes, asked of a real API server.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail, and say why"
)]

mod access;
mod definitions;
mod disturbances;
mod leases;
mod pods;
mod watches;

use kube::core::Status;

/// Why the API server refused.
fn refusal<T>(answer: kube::Result<T>) -> Box<Status> {
    match answer {
        Ok(_) => panic!("the API server took what it should refuse"),
        Err(kube::Error::Api(status)) => status,
        Err(other) => panic!("not an answer of the API server: {other}"),
    }
}
