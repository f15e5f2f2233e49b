//! Where the built things are: `KVASIR_BIN`, `VLLM_SIM_BIN`, `KVASIR_WASM`, `ENVOY_BIN`, else the build's own folders.

use std::path::{Path, PathBuf};

/// Everything that a stack runs.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// Control plane and command line.
    pub kvasir: PathBuf,
    /// Simulated engines.
    pub sim: PathBuf,
    /// The filter.
    pub wasm: PathBuf,
    /// The proxy.
    pub envoy: PathBuf,
}

impl Binaries {
    /// All of them; `None`, said loudly, when one is missing.
    ///
    /// # Panics
    /// When one is missing and `CI=true` or `E2E_REQUIRED=1`.
    #[must_use]
    pub fn find() -> Option<Self> {
        match Self::look() {
            Ok(found) => Some(found),
            Err(missing) => {
                let text = format!("END-TO-END TESTS CANNOT RUN: {missing}");
                let set = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
                assert!(!set("CI", "true") && !set("E2E_REQUIRED", "1"), "{text}");
                eprintln!("\n*** SKIPPED *** {text}\n");
                None
            }
        }
    }

    fn look() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let exe = std::env::current_exe().map_err(|error| error.to_string())?;
        // The test executable is target/PROFILE/deps/NAME.
        let built = exe.parent().and_then(Path::parent).ok_or("the test executable has no folder")?;
        let searched = std::env::var_os("PATH").unwrap_or_default();
        let envoy = std::env::split_paths(&searched).map(|folder| folder.join("envoy")).find(|path| path.is_file());
        Ok(Self {
            kvasir: existing("KVASIR_BIN", Some(built.join("kvasir")), "cargo build -p controlplane")?,
            sim: existing("VLLM_SIM_BIN", Some(built.join("vllm-sim")), "cargo build -p vllm-sim")?,
            wasm: existing("KVASIR_WASM", Some(root.join("target/wasm/kvasir_filter.wasm")), "./wasm-build.sh")?,
            envoy: existing("ENVOY_BIN", envoy, "an Envoy on the search path")?,
        })
    }
}

fn existing(variable: &str, default: Option<PathBuf>, remedy: &str) -> Result<PathBuf, String> {
    let asked = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = asked.or(default).ok_or_else(|| format!("{variable} is not set; it needs {remedy}"))?;
    let path = std::path::absolute(&path).map_err(|error| error.to_string())?;
    if path.is_file() { Ok(path) } else { Err(format!("{} is missing: {remedy}, or {variable}", path.display())) }
}
