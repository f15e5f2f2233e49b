//! Model files from a hub: `{endpoint}/{model}/resolve/{revision}/{file}`, with the variables that Hugging Face's own
//! tools read.
//!
//! A branch moves, a commit does not: cached files of a commit are used unasked, those of a branch only when the hub
//! cannot be reached. A cache never fills in for single files: it may hold another commit's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directory::read;
use super::{FetchError, FoundFiles, MAX_BYTES, TokenizerFile, tokenizer_file};

const ENDPOINT: &str = "https://huggingface.co";
const REVISION: &str = "main";
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// For one file.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);
/// The hub sends large files from other hosts.
const REDIRECTS: usize = 5;
/// Hexadecimal digits of a commit.
const COMMIT: usize = 40;
/// In the order in which they are tried.
const TOKENIZERS: [&str; 4] = ["tokenizer.json", "tekken.json", "qwen.tiktoken", "tiktoken.model"];

/// A model at a hub.
#[derive(Clone, PartialEq, Eq)]
pub struct Hub {
    /// Without a slash at its end.
    pub endpoint: String,
    /// `owner/name`
    pub model: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Sent as a bearer token to the endpoint only.
    pub token: Option<String>,
    /// Directory for what was downloaded.
    pub cache: Option<PathBuf>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { endpoint, model, revision, token, cache } = self;
        let token = token.as_ref().map(|_| "…");
        let mut shown = formatter.debug_struct("Hub");
        shown.field("endpoint", endpoint).field("model", model).field("revision", revision);
        shown.field("token", &token).field("cache", cache).finish()
    }
}

impl Hub {
    /// `model` at `HF_ENDPOINT` (else Hugging Face's hub) with `HF_TOKEN`, as `variable` gives them.
    #[must_use]
    pub fn from_environment(model: &str, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Self {
            endpoint: endpoint.trim().trim_end_matches('/').to_owned(),
            model: model.to_owned(),
            revision: REVISION.to_owned(),
            token: set("HF_TOKEN").map(|token| token.trim().to_owned()),
            cache: None,
        }
    }

    /// The first known tokenizer and its companions: all from the hub, or all from the cache.
    pub(super) async fn files(&self) -> Result<(TokenizerFile, FoundFiles), FetchError> {
        for name in [&self.model, &self.revision] {
            require_plain(name)?;
        }
        let never_changes = self.revision.len() == COMMIT && self.revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        if never_changes && let Some(files) = self.cached().await? {
            return Ok(files);
        }
        match self.downloaded().await {
            Err(FetchError::Http(unreachable)) => self.cached().await?.ok_or(FetchError::Http(unreachable)),
            answer => answer,
        }
    }

    async fn downloaded(&self) -> Result<(TokenizerFile, FoundFiles), FetchError> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS))
            .build()?;
        let mut tokenizer = None;
        for name in TOKENIZERS {
            if let Some(bytes) = self.download(&client, name).await? {
                tokenizer = Some((name, bytes));
                break;
            }
        }
        let missing = || FetchError::NoTokenizer(format!("{}/{}", self.endpoint, self.model));
        let (name, bytes) = tokenizer.ok_or_else(missing)?;
        let mut found = FoundFiles::default();
        for (companion, slot) in companions(&mut found) {
            *slot = self.download(&client, companion).await?;
        }
        if let Some(directory) = self.directory() {
            for (companion, slot) in companions(&mut found) {
                if let Some(bytes) = slot {
                    keep(&directory.join(companion), bytes).await?;
                }
            }
            // Last: its presence says that all of them are there.
            keep(&directory.join(name), &bytes).await?;
        }
        Ok((tokenizer_file(name, bytes), found))
    }

    async fn cached(&self) -> Result<Option<(TokenizerFile, FoundFiles)>, FetchError> {
        let Some(directory) = self.directory() else { return Ok(None) };
        for name in TOKENIZERS {
            if let Some(bytes) = read(&directory.join(name)).await? {
                let mut found = FoundFiles::default();
                for (companion, slot) in companions(&mut found) {
                    *slot = read(&directory.join(companion)).await?;
                }
                return Ok(Some((tokenizer_file(name, bytes), found)));
            }
        }
        Ok(None)
    }

    /// Where this revision is cached.
    fn directory(&self) -> Option<PathBuf> {
        let cache = self.cache.as_ref()?;
        Some(cache.join(self.model.replace('/', "--")).join(self.revision.replace('/', "--")))
    }

    async fn download(&self, client: &reqwest::Client, name: &str) -> Result<Option<Vec<u8>>, FetchError> {
        let url = format!("{}/{}/resolve/{}/{name}", self.endpoint, self.model, self.revision);
        let mut request = client.get(&url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let mut response = request.send().await?;
        match response.status().as_u16() {
            404 => return Ok(None),
            200 => {}
            status => return Err(FetchError::Refused { url, status }),
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
                return Err(FetchError::TooLarge { name: url });
            }
        }
        Ok(Some(bytes))
    }
}

/// Names of the files beside a tokenizer, and where they go.
fn companions(found: &mut FoundFiles) -> [(&'static str, &mut Option<Vec<u8>>); 3] {
    let FoundFiles { config, jinja, template_json } = found;
    [("tokenizer_config.json", config), ("chat_template.jinja", jinja), ("chat_template.json", template_json)]
}

/// Written aside and renamed: a reader, or a crash, never sees half a file.
async fn keep(path: &Path, bytes: &[u8]) -> Result<(), FetchError> {
    let failed = |error| FetchError::Disk { path: path.to_owned(), error };
    let aside = path.with_extension(format!("{}.part", std::process::id()));
    if let Some(directory) = path.parent() {
        tokio::fs::create_dir_all(directory).await.map_err(failed)?;
    }
    tokio::fs::write(&aside, bytes).await.map_err(failed)?;
    tokio::fs::rename(&aside, path).await.map_err(failed)
}

/// Refuses names that would leave their place in a URL or a path.
fn require_plain(name: &str) -> Result<(), FetchError> {
    let plain = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed)
    };
    if name.split('/').all(plain) { Ok(()) } else { Err(FetchError::Name(name.to_owned())) }
}

#[cfg(test)]
mod tests;
