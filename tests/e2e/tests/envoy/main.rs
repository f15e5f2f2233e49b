//! The main job end to end: real Envoy, the built filter, the real control plane, simulated engines that testify to what
//! they cached. One binary, so that tests can share stacks; see `e2e::shared_stack` for who may disturb whom.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]
#![allow(clippy::indexing_slicing, reason = "JSON values index safely, and a missing engine must fail the test")]

mod placement;
