//! Model files in a directory, as a hub's snapshot or a mounted volume has them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{FetchError, FoundFiles, MAX_BYTES, TokenizerFile, tokenizer_file};

/// The tokenizer at `path` (or in it) and the companions beside it.
pub(super) async fn files(path: &Path) -> Result<(TokenizerFile, FoundFiles), FetchError> {
    let about = tokio::fs::metadata(path).await.map_err(|error| FetchError::Disk { path: path.to_owned(), error })?;
    let file = if about.is_dir() { tokenizer_in(path).await? } else { path.to_owned() };
    let gone = || FetchError::NoTokenizer(path.display().to_string());
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).ok_or_else(gone)?;
    let bytes = read(&file).await?.ok_or_else(gone)?;
    let beside = |name: &str| file.with_file_name(name);
    let found = FoundFiles {
        config: read(&beside("tokenizer_config.json")).await?,
        jinja: read(&beside("chat_template.jinja")).await?,
        template_json: read(&beside("chat_template.json")).await?,
    };
    Ok((tokenizer_file(&name, bytes), found))
}

/// `tokenizer.json`, else `tekken.json`, else the first rank file by name.
async fn tokenizer_in(directory: &Path) -> Result<PathBuf, FetchError> {
    let failed = |error| FetchError::Disk { path: directory.to_owned(), error };
    let mut entries = tokio::fs::read_dir(directory).await.map_err(failed)?;
    let mut ranks: Vec<PathBuf> = Vec::new();
    let mut known: Vec<PathBuf> = Vec::new();
    while let Some(entry) = entries.next_entry().await.map_err(failed)? {
        match entry.file_name().to_str() {
            Some("tokenizer.json" | "tekken.json") => known.push(entry.path()),
            Some(name) if name.ends_with(".tiktoken") => ranks.push(entry.path()),
            Some(_) | None => {}
        }
    }
    known.sort();
    ranks.sort();
    // By name tekken.json comes first.
    let found = known.pop().or_else(|| ranks.into_iter().next());
    found.ok_or_else(|| FetchError::NoTokenizer(directory.display().to_string()))
}

/// `None` when there is no such file.
pub(super) async fn read(path: &Path) -> Result<Option<Vec<u8>>, FetchError> {
    let about = match tokio::fs::metadata(path).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        about => about.map_err(|error| FetchError::Disk { path: path.to_owned(), error })?,
    };
    if about.len() > MAX_BYTES {
        return Err(FetchError::TooLarge { name: path.display().to_string() });
    }
    tokio::fs::read(path).await.map(Some).map_err(|error| FetchError::Disk { path: path.to_owned(), error })
}
