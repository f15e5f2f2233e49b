//! Tests of the built `.wasm` that need no Envoy: the module runs under an interpreter (`tests/`). What the interpreter
//! computes is what any engine computes: Wasm's arithmetic is exact to the bit.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test harness: what cannot go on must fail the test, and say why"
)]

pub mod calls;
pub mod worker;

use std::path::PathBuf;

/// The built module: `KVASIR_WASM`, else where `wasm-build.sh` puts it. `None`, said loudly, when there is none.
///
/// # Panics
/// When there is none in CI.
#[must_use]
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
pub fn module_bytes() -> Option<Vec<u8>> {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/wasm/kvasir_filter.wasm");
    let path = std::env::var_os("KVASIR_WASM").map_or_else(|| PathBuf::from(built), PathBuf::from);
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let message = format!("{}: {error}; build it with ./wasm-build.sh", path.display());
            assert!(std::env::var_os("CI").is_none(), "{message}");
            println!("NOT RUN: {message}");
            None
        }
    }
}
