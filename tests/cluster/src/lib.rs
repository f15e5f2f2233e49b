//! A real Kubernetes for tests: etcd and kube-apiserver as processes, definitions, service accounts, pods.
//!
//! There are no controllers and no kubelet: nobody makes Endpoints, default service accounts or pod addresses, and what is
//! deleted with a grace period stays. Tests write what those would have written.
//!
//! `KUBE_TOOLS` names the folder that `tests/kubernetes-tools.sh` prints. Without it the tests say so and pass, unless
//! `CI=true` or `E2E_REQUIRED=1`.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test harness: what cannot go on must fail the test, and say why"
)]

pub mod access;
pub mod cluster;
pub mod config_dump;
pub mod envoy_gateway;
pub mod file_server;
pub mod folder;
pub mod helm;
pub mod istio_gateway;
pub mod istiod;
pub mod kind;
pub mod kubectl;
pub mod namespace;
mod pki;
pub mod pods;
pub mod ports;
pub mod rendered;
pub mod tools;
