//! Engines that dial us: a publisher whose endpoint is no wildcard connects instead of binding. One gate listens on one
//! port for many engines; whose batches they are is told by the topic and the engine's address, because ZMTP tells no more.
//!
//! A topic that several endpoints claim (a bare IP that some share) belongs to none of them: counted as unknown.
//! Ranks of one engine dial consecutive ports, so each rank has its own gate.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::frames;
use super::stream::{Link, LinkError, Pace};
use super::subscribe::Follower;
use super::subscribe::inbox::Inbox;
use super::zmtp::Role;
use crate::clock;

/// More connections than this are refused.
const MOST: usize = 4096;
/// Characters of an unknown topic that are logged.
const SHOWN: usize = 200;

/// Whose batches go where.
#[derive(Clone, Debug)]
struct Route {
    id: u64,
    /// Routes of one owner may all take a message.
    owner: String,
    topic: String,
    /// `None`: any engine.
    from: Option<IpAddr>,
    inbox: Inbox,
    /// The connection that it was last heard on.
    heard_on: Arc<AtomicU64>,
}

impl Route {
    fn takes(&self, topic: &[u8], from: IpAddr) -> bool {
        topic.starts_with(self.topic.as_bytes()) && self.from.is_none_or(|wanted| wanted == from)
    }

    /// The most telling route wins.
    fn precision(&self) -> (bool, usize) {
        (self.from.is_some(), self.topic.len())
    }
}

/// One listening port.
#[derive(Clone, Debug)]
pub struct Gate {
    routes: Arc<watch::Sender<Vec<Route>>>,
    /// Numbers routes and connections.
    admitted: Arc<AtomicU64>,
    unknown: Arc<AtomicU64>,
}

/// Dropping it ends the delivery to its follower.
#[derive(Debug)]
pub struct Admission {
    id: u64,
    gate: Gate,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.gate.routes.send_modify(|routes| routes.retain(|route| route.id != self.id));
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// Without followers.
    #[must_use]
    pub fn new() -> Self {
        Self { routes: Arc::new(watch::Sender::new(Vec::new())), admitted: Arc::default(), unknown: Arc::default() }
    }

    /// Messages that were nobody's, so far.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Delivers batches whose topic begins with `topic` and that come `from` this address to `follower`, which follows
    /// the endpoint `owner`.
    #[must_use]
    pub fn admit(&self, owner: &str, topic: &str, from: Option<IpAddr>, follower: &Follower) -> Admission {
        let id = self.admitted.fetch_add(1, Ordering::Relaxed);
        let route = Route {
            id,
            owner: owner.to_owned(),
            topic: topic.to_owned(),
            from,
            inbox: follower.inbox(),
            heard_on: Arc::default(),
        };
        self.routes.send_modify(|routes| routes.push(route));
        Admission { id, gate: self.clone() }
    }

    /// Accepts publishers until `stop`.
    pub async fn serve(self, listener: TcpListener, pace: Pace, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) if connections.len() < MOST => {
                        connections.spawn(self.clone().hear(stream, peer, pace));
                    }
                    Ok((_, peer)) => warn!(%peer, "too many publishers"),
                    Err(error) => {
                        // Out of file descriptors, say: it must not become a busy loop.
                        warn!(%error, "cannot accept publishers");
                        tokio::time::sleep(pace.connect / 10).await;
                    }
                },
                Some(_ended) = connections.join_next() => {}
            }
        }
    }

    async fn hear(self, stream: TcpStream, peer: SocketAddr, pace: Pace) {
        let from = peer.ip().to_canonical();
        let connection = self.admitted.fetch_add(1, Ordering::Relaxed);
        let mut met: Vec<Route> = Vec::new();
        let error = match Link::shake(stream, Role::Sub, pace).await {
            Ok(mut link) => match link.subscribe("").await {
                Ok(()) => self.read(&mut link, (connection, from), &mut met).await,
                Err(error) => error,
            },
            Err(error) => error,
        };
        debug!(%peer, %error, "publisher left");
        // One that came back before it was missed is not gone.
        for route in met.into_iter().filter(|route| route.heard_on.load(Ordering::Relaxed) == connection) {
            route.inbox.disconnected(error.to_string()).await;
        }
    }

    async fn read(&self, link: &mut Link, (connection, from): (u64, IpAddr), met: &mut Vec<Route>) -> LinkError {
        let known: Vec<Route> = self.routes.borrow().iter().filter(|route| route.from == Some(from)).cloned().collect();
        for route in known {
            self.meet(&route, connection, met).await;
        }
        let mut told = false;
        let mut changes = self.routes.subscribe();
        let (mut topic, mut routes) = (None, Vec::new());
        loop {
            let parts = match link.receive().await {
                Ok(parts) => parts,
                Err(error) => return error,
            };
            let named = parts.first().map_or(&b""[..], |topic: &Bytes| topic);
            // A publisher has one topic: whose it is was mostly found before.
            if topic.as_deref() != Some(named) || changes.has_changed().unwrap_or(true) {
                changes.mark_unchanged();
                routes = self.routes(named, from);
                topic = Some(named.to_vec());
            }
            if routes.is_empty() {
                self.unknown.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut told, true) {
                    let topic: String = String::from_utf8_lossy(named).chars().take(SHOWN).collect();
                    warn!(%from, topic, "KV events of an unknown pod, or of several");
                }
            }
            for route in &routes {
                self.meet(route, connection, met).await;
                match frames::published(&parts, route.topic.as_bytes()) {
                    Some(published) => route.inbox.offer(published, clock::now()),
                    None => route.inbox.refuse(),
                }
            }
        }
    }

    /// The most telling routes, if they have one owner.
    fn routes(&self, topic: &[u8], from: IpAddr) -> Vec<Route> {
        let routes = self.routes.borrow();
        let takers = || routes.iter().filter(|route| route.takes(topic, from));
        let most = takers().map(Route::precision).max();
        let best: Vec<Route> = takers().filter(|route| Some(route.precision()) == most).cloned().collect();
        let one_owner = best.iter().zip(best.iter().skip(1)).all(|(one, next)| one.owner == next.owner);
        if one_owner { best } else { Vec::new() }
    }

    /// Tells a follower, once per connection, that its publisher is here.
    async fn meet(&self, route: &Route, connection: u64, met: &mut Vec<Route>) {
        if !met.iter().any(|known| known.id == route.id) {
            met.push(route.clone());
            route.heard_on.store(connection, Ordering::Relaxed);
            route.inbox.connected().await;
        }
    }
}

#[cfg(test)]
mod tests;
