//! The Wasm shell: translates Proxy-Wasm callbacks to the brain's inputs and its effects to host calls. No policy.
//!
//! Every Envoy worker has a VM of its own with this module in it, and so has the main thread. What is shared between
//! them goes through Envoy's shared data (`log`, `lease`, `registry`); `README.md` says what is where.

pub mod config;
pub mod lease;
pub mod log;
pub mod pairs;
pub mod registry;
pub mod self_benchmark;

#[cfg(target_arch = "wasm32")]
mod effects;
#[cfg(target_arch = "wasm32")]
mod host;
#[cfg(target_arch = "wasm32")]
mod probe;
#[cfg(target_arch = "wasm32")]
mod root;
#[cfg(target_arch = "wasm32")]
mod siblings;
#[cfg(target_arch = "wasm32")]
mod stats;
#[cfg(target_arch = "wasm32")]
mod stream;
#[cfg(target_arch = "wasm32")]
mod table_sync;
#[cfg(target_arch = "wasm32")]
mod uplink;
#[cfg(target_arch = "wasm32")]
mod vm;

#[cfg(target_arch = "wasm32")]
mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|context_id| Box::new(crate::root::Root::new(context_id)));
    }}
}
