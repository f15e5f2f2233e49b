//! Follows one kind in one scope: lists, then watches from there on, for ever. A watch that ends goes on from the last
//! version it told (bookmarks keep that fresh); a version that the server has forgotten (410) means a new list; a kind
//! that is not served is looked for again, as is a better version of it while an older one is in use.
//! The loop is our own because it has to tell when the server is back: no object need change for that.

use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::time::{Duration, Instant};

use kube::Client;
use kube::core::params::{ListParams, WatchParams};
use kube::core::{Request, WatchEvent};
use serde::Deserialize;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tracing::{debug, warn};

use super::collection::{News, Scope};
use super::object::{Kept, Meta, Named, Wire as _};
use crate::events::backoff::Backoff;

/// Objects in one answer.
const PAGE: u32 = 500;
/// A list that takes longer has failed.
const ANSWER: Duration = Duration::from_secs(30);
/// The server ends a watch after this many seconds; the next goes on where it ended.
const WATCH_SECONDS: u32 = 290;
/// A watch without even a bookmark for this long may have lost its connection without a word: bookmarks come each minute.
const SILENCE: Duration = Duration::from_secs(100);
/// A watch that ended within this time did not work.
const SHORT: Duration = Duration::from_secs(1);
/// Between attempts to reach the server.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Between looks for a kind, or a better version of it.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Where a kind is served.
#[derive(Clone, Copy, Debug)]
pub struct Resource {
    /// Such as `apis/GROUP/VERSION`; the first that is served is used.
    pub versions: &'static [&'static str],
    /// Such as `pods`.
    pub plural: &'static str,
}

/// Pods.
pub const PODS: Resource = Resource { versions: &["api/v1"], plural: "pods" };
/// InferencePools.
pub const INFERENCE_POOLS: Resource = Resource {
    versions: &["apis/inference.networking.k8s.io/v1", "apis/inference.networking.x-k8s.io/v1alpha2"],
    plural: "inferencepools",
};
/// InferenceObjectives.
pub const OBJECTIVES: Resource = Resource { versions: &["apis/llm-d.ai/v1alpha2"], plural: "inferenceobjectives" };
/// InferenceModelRewrites.
pub const REWRITES: Resource = Resource { versions: &["apis/llm-d.ai/v1alpha2"], plural: "inferencemodelrewrites" };

/// Why following ended.
enum Ended {
    /// The version from which to go on is forgotten, or everything is to be read again.
    Expired,
    /// The kind is no more.
    NotServed,
    /// The server cannot be followed.
    Lost(String),
}

/// Follows `resource` in `scope` and tells what happens, until the receiver is gone or this is dropped.
pub async fn follow<T, F>(client: Client, resource: Resource, scope: Scope, tell: impl Fn(News<T>) -> F)
where
    T: Kept,
    F: Future<Output = bool>,
{
    let (mut retry, mut look) = (Backoff::new(RETRY.0, RETRY.1), Backoff::new(LOOK_AGAIN.0, LOOK_AGAIN.1));
    let mut followed = false;
    loop {
        let rank = match served(&client, resource).await {
            Ok(Some(rank)) => rank,
            Ok(None) => {
                // A server that just came up may not know all its kinds: what was there is asked for twice.
                if !std::mem::take(&mut followed) && !tell(News::NotServed).await {
                    return;
                }
                tokio::time::sleep(look.wait(chance())).await;
                continue;
            }
            Err(error) => {
                if !tell(News::Lost(reason(&error))).await {
                    return;
                }
                tokio::time::sleep(retry.wait(chance())).await;
                continue;
            }
        };
        look.succeeded();
        followed = true;
        let Some(version) = resource.versions.get(rank) else { return };
        let path = path(version, resource.plural, &scope);
        let session = Session { client: &client, path: &path, tell: &tell };
        tokio::select! {
            still = session.run(&mut retry) => if !still { return },
            () = better(&client, resource, rank) => {}
        }
    }
}

/// The first of the resource's versions that the server has.
async fn served(client: &Client, resource: Resource) -> kube::Result<Option<usize>> {
    for (rank, version) in resource.versions.iter().enumerate() {
        // The core's version is always there.
        let Some(version) = version.strip_prefix("apis/") else { return Ok(Some(rank)) };
        match timeout(ANSWER, client.list_api_group_resources(version)).await {
            Ok(Ok(list)) if list.resources.iter().any(|known| known.name == resource.plural) => return Ok(Some(rank)),
            Ok(Err(error)) if code(&error) != Some(404) => return Err(error),
            Ok(Ok(_) | Err(_)) => {}
            Err(late) => return Err(kube::Error::Service(late.into())),
        }
    }
    Ok(None)
}

/// Waits until a version before `rank` is served.
async fn better(client: &Client, resource: Resource, rank: usize) {
    let mut look = Backoff::new(LOOK_AGAIN.0, LOOK_AGAIN.1);
    loop {
        if rank == 0 {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(look.wait(chance())).await;
        if let Ok(Some(found)) = served(client, resource).await
            && found < rank
        {
            return;
        }
    }
}

/// One version of a kind in one scope.
struct Session<'a, Tell> {
    client: &'a Client,
    path: &'a str,
    tell: &'a Tell,
}

#[derive(Deserialize)]
struct List<T> {
    metadata: ListMeta,
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    r#continue: String,
}

impl<Tell> Session<'_, Tell> {
    /// Follows until the kind is no longer served; false when nobody listens any more.
    async fn run<T: Kept, F: Future<Output = bool>>(&self, retry: &mut Backoff) -> bool
    where
        Tell: Fn(News<T>) -> F,
    {
        let mut version: Option<String> = None;
        loop {
            let ended = match version.take() {
                None => self.list().await,
                Some(mut at) => {
                    let began = Instant::now();
                    let ended = self.watch(&mut at, retry).await;
                    version = Some(at);
                    // A server that ends every watch at once must not be asked for the next at once.
                    if ended.is_ok() && began.elapsed() < SHORT {
                        tokio::time::sleep(RETRY.0).await;
                    }
                    ended
                }
            };
            match ended {
                Ok(Some(listed)) => {
                    version = Some(listed);
                    retry.succeeded();
                }
                Ok(None) => {}
                Err(Stopped::Deaf) => return false,
                Err(Stopped::Ended(Ended::NotServed)) => return true,
                Err(Stopped::Ended(Ended::Expired)) => {
                    debug!(path = self.path, "version forgotten, listing again");
                    version = None;
                }
                Err(Stopped::Ended(Ended::Lost(why))) => {
                    if !(self.tell)(News::Lost(why)).await {
                        return false;
                    }
                    tokio::time::sleep(retry.wait(chance())).await;
                }
            }
        }
    }

    /// Lists all; returns the version to watch from.
    async fn list<T: Kept, F: Future<Output = bool>>(&self) -> Result<Option<String>, Stopped>
    where
        Tell: Fn(News<T>) -> F,
    {
        let mut objects = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let request = Request::new(self.path).list(&params).map_err(kube::Error::BuildRequest)?;
            let page: List<T::Wire> = match timeout(ANSWER, self.client.request(request)).await {
                Ok(page) => page?,
                Err(_) => return Err(lost(format!("no list within {}s", ANSWER.as_secs()))),
            };
            objects.extend(page.items.into_iter().flatten().map(Named::of));
            if page.metadata.r#continue.is_empty() {
                self.tell_or_stop(News::Listed(objects)).await?;
                self.tell_or_stop(News::Reached).await?;
                return Ok(Some(page.metadata.resource_version));
            }
            params.continue_token = Some(page.metadata.r#continue);
        }
    }

    /// Watches from version `at` on, which moves; returns when the server ends the watch.
    async fn watch<T: Kept, F: Future<Output = bool>>(
        &self,
        at: &mut String,
        retry: &mut Backoff,
    ) -> Result<Option<String>, Stopped>
    where
        Tell: Fn(News<T>) -> F,
    {
        let params = WatchParams { timeout: Some(WATCH_SECONDS), bookmarks: true, ..WatchParams::default() };
        let request = Request::new(self.path).watch(&params, at).map_err(kube::Error::BuildRequest)?;
        let Ok(events) = timeout(ANSWER, self.client.request_events::<T::Wire>(request)).await else {
            return Err(lost(format!("no watch within {}s", ANSWER.as_secs())));
        };
        let mut events = pin!(events?);
        retry.succeeded();
        self.tell_or_stop(News::Reached).await?;
        while let Ok(Some(event)) = timeout(SILENCE, events.next()).await {
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    at.clone_from(&object.meta().resource_version);
                    self.tell_or_stop(News::Changed(Named::of(object))).await?;
                }
                Ok(WatchEvent::Deleted(object)) => {
                    let Meta { namespace, name, resource_version, .. } = object.meta();
                    at.clone_from(resource_version);
                    let gone = News::Gone { namespace: namespace.as_str().into(), name: name.as_str().into() };
                    self.tell_or_stop(gone).await?;
                }
                Ok(WatchEvent::Bookmark(mark)) => *at = mark.metadata.resource_version,
                Ok(WatchEvent::Error(status)) => return Err(kube::Error::Api(status).into()),
                // It will not be any better the next time.
                Err(kube::Error::SerdeError(error)) => warn!(path = self.path, %error, "unreadable event, left out"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    async fn tell_or_stop<T: Kept, F: Future<Output = bool>>(&self, news: News<T>) -> Result<(), Stopped>
    where
        Tell: Fn(News<T>) -> F,
    {
        if (self.tell)(news).await { Ok(()) } else { Err(Stopped::Deaf) }
    }
}

enum Stopped {
    /// Nobody listens any more.
    Deaf,
    Ended(Ended),
}

fn lost(why: String) -> Stopped {
    Stopped::Ended(Ended::Lost(why))
}

impl From<kube::Error> for Stopped {
    fn from(error: kube::Error) -> Self {
        Self::Ended(match code(&error) {
            Some(404) => Ended::NotServed,
            Some(410) => Ended::Expired,
            _ => Ended::Lost(reason(&error)),
        })
    }
}

fn code(error: &kube::Error) -> Option<u16> {
    if let kube::Error::Api(status) = error { Some(status.code) } else { None }
}

/// What went wrong, with its causes, for people.
#[must_use]
pub fn reason(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = error.source();
    }
    text
}

fn path(version: &str, plural: &str, scope: &Scope) -> String {
    match scope {
        Scope::All => format!("/{version}/{plural}"),
        Scope::Namespace(namespace) => format!("/{version}/namespaces/{namespace}/{plural}"),
    }
}

/// Any number, another each time.
fn chance() -> u32 {
    u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default()
}
