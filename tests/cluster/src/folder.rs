//! A temporary folder that goes away even when nobody drops it: a cluster shared by a whole test binary is never dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The folder; a shell waits for the end of this process and then removes it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    sweeper: Child,
}

impl Folder {
    /// A new one.
    ///
    /// # Panics
    /// When the system refuses.
    #[must_use]
    pub fn new() -> Self {
        let path = tempfile::Builder::new().prefix("kvasir-cluster-").tempdir().map(TempDir::keep).unwrap();
        let mut sweeper = Command::new("sh");
        // Its processes are killed at the same moment, and may still be writing.
        sweeper.args(["-c", "read _; for try in 1 2 3 4 5; do rm -rf \"$0\" 2>/dev/null && exit; sleep 1; done"]);
        let sweeper = sweeper.arg(&path).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { path, sweeper: sweeper.expect("sh for the sweeper") }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.path.join(name).into_os_string().into_string().expect("temporary folders have plain names")
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        if let Err(error) = self.sweeper.wait() {
            eprintln!("{}: cannot be removed: {error}", self.path.display());
        }
    }
}
