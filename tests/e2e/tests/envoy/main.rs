//! The main job end to end: real Envoy, the built filter, the real control plane, simulated engines that testify to what
//! they cached. One binary, so that tests can share stacks; see `e2e::shared_stack` for who may disturb whom.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail"
)]

/// One test in each mode of the filter; `mode` is its argument.
macro_rules! in_both_modes {
    ($(async fn $name:ident($mode:ident) $body:block)*) => {
        $(async fn $name($mode: e2e::stack::Mode) $body)*

        mod both {
            $(mod $name {
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn hold() {
                    super::super::$name(e2e::stack::Mode::Hold).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn state() {
                    super::super::$name(e2e::stack::Mode::State).await;
                }
            })*
        }
    };
}

/// One test for everybody who may choose; `mode` is its argument.
macro_rules! in_all_modes {
    ($(async fn $name:ident($mode:ident) $body:block)*) => {
        $(async fn $name($mode: e2e::stack::Mode) $body)*

        mod hold {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(e2e::stack::Mode::Hold).await;
            })*
        }

        mod state {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(e2e::stack::Mode::State).await;
            })*
        }

        mod picker {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(e2e::stack::Mode::Picker).await;
            })*
        }
    };
}

mod auth;
mod bodies;
mod bookings;
mod budgets;
mod control_plane;
mod dialects;
mod exact;
mod failover;
mod fake_control_plane;
mod fallback;
mod flow;
mod forbidden_keys;
mod gateways;
mod grpc_engines;
mod llm_d_flow;
mod misconfigured;
mod parity;
mod picker;
mod placement;
mod pods;
mod pools;
mod refused_requests;
mod rewrite;
mod standalone;
mod steering;
mod tls;
mod token_ids;
