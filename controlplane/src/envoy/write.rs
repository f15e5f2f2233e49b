//! Keeps the endpoint files of the EDS folder in step with the view: written whole beside the old file, then renamed, so
//! that Envoy never reads half a file. Files of removed pools stay: an Envoy may still follow them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::eds;
use crate::config::Pool;
use crate::datastore::View;

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

/// Replaces a file of `folder` in one step.
///
/// # Errors
/// When it cannot be written.
pub fn replace(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let fresh = folder.join(format!(".{name}.new"));
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, folder.join(name))
}
