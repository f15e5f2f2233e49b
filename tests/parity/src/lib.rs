//! One script of requests (`script.json`) and what must come of them, for every shell around the brain: native, the built
//! `.wasm` under a Proxy-Wasm host, ext_proc messages, and ext_proc behind a real Envoy. `README.md` says how it reads.
//!
//! What is compared is what the engine gets, what the client gets and what is reported: not effects, which only one shell
//! has.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test harness: what cannot go on must fail the test, and say why"
)]

pub mod expect;
pub mod native;
pub mod play;
pub mod report;
pub mod script;
pub mod seen;
pub mod stage;
