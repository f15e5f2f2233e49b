//! Keeps the endpoint files of the EDS folder in step with the view: written whole beside the old file, then renamed, so
//! that Envoy never reads half a file. Files of removed pools stay: an Envoy may still follow them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{bootstrap, eds};
use crate::config::{Config, Pool, Problem};
use crate::datastore::View;

/// Why an Envoy's folder could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The configuration does not say where something is.
    #[error(transparent)]
    Config(#[from] Problem),
    /// The filter cannot be copied.
    #[error("gateway.wasm {}: {error}", path.display())]
    Filter {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Something cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Follows the view until `stop`.
pub async fn follow(mut view: watch::Receiver<Arc<View>>, folder: PathBuf, stop: CancellationToken) {
    let mut written: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let now = Arc::clone(&view.borrow_and_update());
        for pool in &now.pools {
            let text = eds::response(pool);
            if written.get(&pool.name) == Some(&text) {
                continue;
            }
            match replace(&folder, &eds::file_name(&pool.name), &text) {
                Ok(()) => {
                    written.insert(pool.name.clone(), text);
                }
                Err(error) => error!(pool = pool.name, %error, "endpoint file not written"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

/// Makes sure that every pool has a file, so that an Envoy which starts first finds one.
///
/// # Errors
/// When the folder cannot be made or written.
pub fn prepare(folder: &Path, pools: &[Pool]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for pool in pools {
        let name = eds::file_name(&pool.name);
        if !folder.join(&name).exists() {
            let empty = serde_json::json!({"resources": [eds::assignment(&pool.name, &[])]});
            replace(folder, &name, &empty.to_string())?;
        }
    }
    Ok(())
}

/// Fills `folder` with what an Envoy needs that sees nothing else of ours: `envoy.json` and the filter. Prepares the
/// endpoint files as well, where the configuration keeps them. The files of `gateway.tls` stay where they are: keys are not
/// copied.
///
/// # Errors
/// When something is not configured, cannot be read, or cannot be written.
pub fn hand_over(folder: &Path, mut config: Config) -> Result<(), HandOverError> {
    std::fs::create_dir_all(folder)?;
    if let Some(endpoints) = &config.gateway.eds_directory {
        prepare(endpoints, &config.pools)?;
    }
    let filter = folder.join("kvasir_filter.wasm");
    let path = std::mem::replace(&mut config.gateway.wasm, filter);
    if let Err(error) = std::fs::copy(&path, &config.gateway.wasm) {
        return Err(HandOverError::Filter { path, error });
    }
    let control_plane = config.control_plane_for(config.grpc);
    let rendered = bootstrap::bootstrap(&config, &control_plane, config.gateway.eds_directory.as_deref())?;
    replace(folder, "envoy.json", &rendered.to_string())?;
    Ok(())
}

/// Replaces a file of `folder` in one step.
///
/// # Errors
/// When it cannot be written.
pub fn replace(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let fresh = folder.join(format!(".{name}.new"));
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path, extra: &str) -> Config {
        let text = format!("pools: [{{name: a, discovery: {{file: {{path: e.yaml}}}}}}]\ngateway: {{{extra}}}");
        Config::parse(&text, folder).unwrap()
    }

    #[test]
    fn an_envoy_elsewhere_finds_all_it_needs_in_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, shared) = (folder.path(), folder.path().join("run"));
        std::fs::write(ours.join("filter.wasm"), b"\0asm").unwrap();
        hand_over(&shared, config(ours, "wasm: filter.wasm, edsDirectory: run/eds")).unwrap();
        let bootstrap = std::fs::read_to_string(shared.join("envoy.json")).unwrap();
        assert_eq!(std::fs::read(shared.join("kvasir_filter.wasm")).unwrap(), b"\0asm");
        assert!(bootstrap.contains(shared.join("kvasir_filter.wasm").to_str().unwrap()));
        assert!(!bootstrap.contains(ours.join("filter.wasm").to_str().unwrap()));
        assert!(shared.join("eds").join(eds::file_name("a")).is_file());
    }

    #[test]
    fn a_filter_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = hand_over(folder.path(), config(folder.path(), "wasm: gone.wasm, edsDirectory: eds")).unwrap_err();
        assert!(error.to_string().contains("gone.wasm"), "{error}");
    }
}
