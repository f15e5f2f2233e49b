//! A whole gateway on a real cluster: pods of an API server, each an engine at an address of its own on loopback; `kvasir
//! serve` with an account that may only read; a real Envoy; and traffic, of which no request may fail whatever becomes of
//! pods, engines and the API server. What was measured is printed (`--nocapture`); bars are asserted generously, as these
//! machines are busy.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail, and say why; figures are printed"
)]

mod engines;
mod outage;
mod pods;
mod scene;
mod traffic;
