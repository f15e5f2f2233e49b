//! The running control plane, seen from outside: by engines, by gateways, by people.
#![expect(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test that cannot go on must fail")]

mod choosing;
mod explaining;
mod gateway;
mod picking;
mod rig;
mod securing;
mod serving;
mod sharing;
