//! The events measurement against real processes, in small. Needs `ENVOY_BIN`, the filter (`./wasm-build.sh`) and `kvasir`
//! beside the bench; without them this test says so and passes, except where `CI=true` promises that they are there.

#![expect(clippy::print_stderr, reason = "a test may end by a panic, and says why")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Envoy, the control plane, the filter.
fn parts() -> Option<[PathBuf; 3]> {
    let envoy = std::env::var_os("ENVOY_BIN").map(PathBuf::from).unwrap_or_default();
    let kvasir = Path::new(env!("CARGO_BIN_EXE_kvasir-bench")).with_file_name("kvasir");
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/wasm/kvasir_filter.wasm");
    let filter = std::env::var_os("KVASIR_WASM").map_or_else(|| PathBuf::from(built), PathBuf::from);
    let parts = [envoy, kvasir, filter];
    let missing = parts.iter().find(|part| !part.is_file());
    if let Some(missing) = missing {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI must have {}", missing.display());
        eprintln!("NOT TESTED: this test needs ENVOY_BIN, the filter and kvasir; missing: {:?}", missing.display());
        return None;
    }
    Some(parts)
}

#[test]
fn every_marker_arrives_at_every_worker_and_is_found_where_it_is() {
    let Some([envoy, kvasir, filter]) = parts() else { return };
    let directory = tempfile::tempdir().expect("a folder");
    let json = directory.path().join("events.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvasir-bench"));
    command.args(["events", "--rate", "2000", "--pods", "3", "--seconds", "3", "--cache-blocks", "2000"]);
    command.arg("--envoy").arg(envoy).arg("--kvasir").arg(kvasir).arg("--wasm").arg(filter);
    let output = command.arg("--json").arg(&json).output().expect("the bench starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).expect("a report")).expect("JSON");
    let counted = &report["counted"];
    assert!(counted["markers_published"].as_u64() > Some(20), "{counted}");
    for none in ["markers_lost", "prompts_not_found", "unapplied_batches"] {
        assert_eq!(counted[none], 0, "{counted}");
    }
    assert_eq!(counted["delays"]["unseen"], 0, "{counted}");
    assert!(counted["prompts_found"].as_u64() > Some(20), "{counted}");
    let (first, last) = (&counted["delays"]["first_worker"], &counted["delays"]["every_worker"]);
    assert!(last["p50"].as_f64() >= first["p50"].as_f64() && first["p50"].as_f64() > Some(0.0), "{counted}");
}
