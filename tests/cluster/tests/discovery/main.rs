//! Discovery against a real API server: the control plane runs in this process, on the kubeconfig of an account of the
//! cluster, and what its view and its API say is compared with what was done to the cluster.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must fail, and say why"
)]

mod fixture;
mod grants;
mod leader;
mod outages;
mod picker;
mod pods;
mod pools;
mod reference;
mod scale;
