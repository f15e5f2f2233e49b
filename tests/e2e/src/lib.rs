//! Real processes for end-to-end tests: simulated engines, the control plane, Envoy with the built filter.
//! A `Stack` owns them and ends them by their own pid, also when the test panics or is interrupted.
//!
//! Where a binary is missing the tests say so and pass, unless `CI=true` or `E2E_REQUIRED=1`.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a test harness: what cannot go on must fail the test, and say why"
)]

pub mod binaries;
mod bootstrap;
pub mod client;
pub mod control_plane;
pub mod echo;
pub mod gateway;
pub mod process;
pub mod prompts;
pub mod shared_stack;
pub mod sim;
pub mod stack;
pub mod stats;
pub mod wait;
