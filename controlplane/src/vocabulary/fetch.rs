//! Finds a model's files on disk or at a hub.
//!
//! What comes back is unparsed: parsing a large tokenizer blocks for a second, so callers do that on a blocking thread.

mod directory;
mod hub;

use std::path::PathBuf;

pub use hub::Hub;

use super::ReadError;
use super::model_files::{FoundFiles, ModelFiles, RankHints, TokenizerFile};

/// Twice the largest tokenizer in use (Gemma 3: 33 MB).
const MAX_BYTES: u64 = 64 << 20;

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory with a `tokenizer.json`, a `tekken.json` or a `*.tiktoken`, or such a file itself.
    Path(PathBuf),
    /// A server that speaks the Hugging Face hub's paths.
    Hub(Hub),
}

/// Why there are no files.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The disk.
    #[error("{}: {error}", path.display())]
    Disk {
        /// What was read.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A larger file than any real one.
    #[error("{name} is larger than {MAX_BYTES} bytes")]
    TooLarge {
        /// Which.
        name: String,
    },
    /// None of the known tokenizers is there.
    #[error("no tokenizer.json, tekken.json or *.tiktoken in {0}")]
    NoTokenizer(String),
    /// The hub refused; 401 and 403 ask for a token.
    #[error("{url}: HTTP {status}")]
    Refused {
        /// What was asked for.
        url: String,
        /// What it said.
        status: u16,
    },
    /// The hub did not answer, or broke off.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// The model or revision would make another path of the URL.
    #[error("{0:?} is no model or revision name")]
    Name(String),
    /// A companion file is unusable.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Gathers the files at `source`.
///
/// # Errors
/// The tokenizer is not there, or a file is unusable.
pub async fn model_files(source: &Source, hints: RankHints) -> Result<ModelFiles, FetchError> {
    let (tokenizer, found) = match source {
        Source::Path(path) => directory::files(path).await?,
        Source::Hub(hub) => hub.files().await?,
    };
    Ok(ModelFiles::new(tokenizer, &found, hints)?)
}

/// The tokenizer's kind by its file's name; hubs and directories name them alike.
fn tokenizer_file(name: &str, bytes: Vec<u8>) -> TokenizerFile {
    match name {
        name if name.ends_with(".json") && name.starts_with("tekken") => TokenizerFile::Tekken(bytes),
        name if name.ends_with(".json") => TokenizerFile::HuggingFace(bytes),
        _ => TokenizerFile::Tiktoken(bytes),
    }
}
