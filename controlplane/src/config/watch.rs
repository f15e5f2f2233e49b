//! Reads the configuration file and tells when its text changed. Changes are found by looking, 5 times a second: that
//! works the same for in-place writes, renames and the symlink swaps of a ConfigMap, on every file system.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Config, ConfigError};

/// How often a watched file is looked at.
pub const LOOK: Duration = Duration::from_millis(200);

/// A file younger than this is read even when its metadata did not change: clocks of file systems are coarse.
const YOUNG: Duration = Duration::from_secs(2);

/// A file that a configuration refers to is no larger than this.
const MAX_OTHER_BYTES: u64 = 16 << 20;

/// Reads and checks the configuration at `path`.
///
/// # Errors
/// When it cannot be read or is not valid.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(read)?;
    parse(&text, path).0
}

/// Checks the text of the configuration at `path`; the files that it refers to are read. Also: those files, readable or not,
/// since a change of one of them is a change of the configuration.
pub fn parse(text: &str, path: &Path) -> (Result<Config, ConfigError>, Vec<Watched>) {
    let files = RefCell::new(Vec::new());
    let read = |file: &Path| {
        let read = std::fs::read_to_string(file);
        let told = read.as_ref().map(|text| text.clone().into_bytes()).map_err(io::Error::kind);
        files.borrow_mut().push(Watched { told: Some(told), ..Watched::new(file.to_owned(), MAX_OTHER_BYTES) });
        read
    };
    let config = Config::parse_with(text, path.parent().unwrap_or_else(|| Path::new(".")), &read);
    (config, files.into_inner())
}

/// Remembers what a file looked like, to tell when it has something new to say.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    limit: u64,
    seen: Option<Stamp>,
    /// What the last look told, so that a lasting fault is told once.
    told: Option<Result<Vec<u8>, io::ErrorKind>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    #[cfg(unix)]
    inode: (u64, u64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            #[cfg(unix)]
            inode: {
                use std::os::unix::fs::MetadataExt as _;
                (metadata.dev(), metadata.ino())
            },
        })
    }

    /// Could it change without its metadata showing it?
    fn is_young(&self) -> bool {
        self.modified.is_none_or(|at| at.elapsed().map_or(true, |age| age < YOUNG))
    }
}

impl Watched {
    /// Watches `path`, which need not exist; larger files than `limit` bytes are a fault.
    #[must_use]
    pub const fn new(path: PathBuf, limit: u64) -> Self {
        Self { path, limit, seen: None, told: None }
    }

    /// The file's bytes when they differ from what was told last; a fault is told once until it changes.
    pub fn look(&mut self) -> Option<io::Result<Vec<u8>>> {
        let stamp = Stamp::of(&self.path);
        if stamp.as_ref().is_ok_and(|stamp| self.seen == Some(*stamp) && !stamp.is_young()) {
            return None;
        }
        self.seen = stamp.as_ref().ok().copied();
        let read = stamp.and_then(|stamp| {
            if stamp.length > self.limit {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {} bytes", self.limit)));
            }
            std::fs::read(&self.path)
        });
        let told = read.as_ref().map(Clone::clone).map_err(io::Error::kind);
        if self.told.as_ref() == Some(&told) {
            return None;
        }
        self.told = Some(told);
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("kvasir-watch-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn text(looked: Option<io::Result<Vec<u8>>>) -> Option<String> {
        looked.map(|read| String::from_utf8(read.unwrap()).unwrap())
    }

    #[test]
    fn renames_and_in_place_writes_of_the_same_length_are_seen_once_each() {
        let folder = folder("writes");
        let path = folder.join("f");
        std::fs::write(&path, "one").unwrap();
        let mut watched = Watched::new(path.clone(), 100);
        assert_eq!(text(watched.look()), Some("one".to_owned()));
        assert!(watched.look().is_none());
        std::fs::write(&path, "two").unwrap();
        assert_eq!(text(watched.look()), Some("two".to_owned()));
        let next = folder.join("next");
        std::fs::write(&next, "six").unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert_eq!(text(watched.look()), Some("six".to_owned()));
        assert!(watched.look().is_none());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_fault_is_told_once_and_the_return_of_the_file_is_told() {
        let folder = folder("faults");
        let path = folder.join("f");
        let mut watched = Watched::new(path.clone(), 3);
        assert_eq!(watched.look().unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(watched.look().is_none());
        std::fs::write(&path, "long").unwrap();
        assert_eq!(watched.look().unwrap().unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        std::fs::write(&path, "ok").unwrap();
        assert_eq!(text(watched.look()), Some("ok".to_owned()));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
