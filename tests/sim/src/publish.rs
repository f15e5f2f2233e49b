//! One engine's KV-event publisher: numbers batches, keeps the last of them for replay, hands them to its sockets.
//!
//! Sequence numbers start at 0 with the process (or an injected restart) and never skip, whether a batch was sent or lost.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::cluster::StartError;
use crate::engine::CacheChange;
use crate::kv_events::{Endpoint, HashForm, KvEventsOptions, ReplayFraming, WireVersion, events_of};
use crate::zmtp::message;
use crate::zmtp::serve::{Fanout, Replay, bind, keep_dialling, keep_publishing, keep_replaying};

/// Ends a replay.
const END_SEQ: [u8; 8] = [0xff; 8];

/// Which publisher of its process this is, and how it writes.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// Whose wire form.
    pub version: WireVersion,
    /// How hashes are written.
    pub form: HashForm,
    /// vLLM's data-parallel rank.
    pub rank: u32,
}

/// A publisher and its sockets.
#[derive(Debug)]
pub struct Publisher {
    dialect: Dialect,
    topic: Bytes,
    next: u64,
    lose: u64,
    past: Arc<Past>,
    fanout: Arc<Fanout>,
    _tasks: JoinSet<()>,
}

/// What replay answers from.
#[derive(Debug)]
struct Past {
    batches: Mutex<VecDeque<(u64, Bytes)>>,
    most: usize,
    framing: ReplayFraming,
    topic: Bytes,
}

impl Publisher {
    /// Opens the sockets. `offset` is added to every port but 0; `host` is where `*` binds. Gives the options as resolved.
    ///
    /// # Errors
    /// When a port cannot be had.
    pub async fn open(
        options: &KvEventsOptions,
        dialect: Dialect,
        offset: u16,
        host: IpAddr,
    ) -> Result<(Self, KvEventsOptions), StartError> {
        let topic = Bytes::from(options.topic.clone());
        let framing = dialect.version.replay_framing();
        let batches = Mutex::new(VecDeque::new());
        let past = Arc::new(Past { batches, most: options.buffer_steps, framing, topic: topic.clone() });
        let fanout = Fanout::new(options.hwm);
        let mut tasks = JoinSet::new();
        let mut resolved = options.clone();
        resolved.publisher.get_or_insert_with(|| "zmq".to_owned());
        match options.endpoint()? {
            Endpoint::Bind { port } => {
                let (address, listener) = listen(SocketAddr::new(host, shifted(port, offset)?)).await?;
                resolved.endpoint = if port == 0 { format!("tcp://{address}") } else { star(address) };
                tasks.spawn(keep_publishing(listener, Arc::clone(&fanout)));
            }
            Endpoint::Connect { host, port } => {
                let address = format!("{host}:{}", shifted(port, offset)?);
                resolved.endpoint = format!("tcp://{address}");
                tasks.spawn(keep_dialling(address, Arc::clone(&fanout)));
            }
        }
        if let Some(endpoint) = options.replay()? {
            let (port, named) = match &endpoint {
                Endpoint::Bind { port } => (*port, None),
                Endpoint::Connect { host, port } => (*port, host.parse().ok()),
            };
            let (address, listener) = listen(SocketAddr::new(named.unwrap_or(host), shifted(port, offset)?)).await?;
            let starred = port != 0 && named.is_none();
            resolved.replay_endpoint = Some(if starred { star(address) } else { format!("tcp://{address}") });
            tasks.spawn(keep_replaying(listener, Arc::clone(&fanout), Arc::clone(&past) as Arc<dyn Replay>));
        }
        Ok((Self { dialect, topic, next: 0, lose: 0, past, fanout, _tasks: tasks }, resolved))
    }

    /// Publishes one step's changes. `timestamp`: seconds since 1970.
    pub fn publish(&mut self, timestamp: f64, changes: &[CacheChange]) {
        let Dialect { version, form, rank } = self.dialect;
        let payload = Bytes::from(version.encode(form, timestamp, rank, &events_of(changes)));
        let number = self.next;
        self.next += 1;
        self.past.keep(number, payload.clone());
        if self.lose > 0 {
            self.lose -= 1;
            return;
        }
        self.fanout.publish(&self.topic, &[&self.topic, &number.to_be_bytes(), &payload]);
    }

    /// The next `count` batches get their numbers and a place in the replay buffer, and are not sent.
    pub(crate) fn lose(&mut self, count: u64) {
        self.lose = count;
    }

    /// As a new process: numbers from 0, nothing to replay, connections cut.
    pub(crate) fn restart(&mut self) {
        self.next = 0;
        self.lose = 0;
        self.past.batches.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.fanout.restart();
    }

    /// Batches published so far.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.next
    }
}

impl Past {
    fn keep(&self, number: u64, payload: Bytes) {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.push_back((number, payload));
        while batches.len() > self.most {
            batches.pop_front();
        }
    }

    fn reply(&self, number: [u8; 8], payload: &[u8], topic: &[u8]) -> Bytes {
        match self.framing {
            ReplayFraming::WithoutTopic => message(&[b"", &number, payload]),
            ReplayFraming::WithTopic => message(&[b"", topic, &number, payload]),
        }
    }
}

impl Replay for Past {
    fn replies(&self, start: u64) -> Vec<Bytes> {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = batches.iter().filter(|(number, _)| *number >= start);
        let replies = wanted.map(|(number, payload)| self.reply(number.to_be_bytes(), payload, &self.topic));
        replies.chain([self.reply(END_SEQ, b"", b"")]).collect()
    }
}

async fn listen(address: SocketAddr) -> Result<(SocketAddr, tokio::net::TcpListener), StartError> {
    bind(address).await.map_err(|source| StartError::Listen { address, source })
}

fn shifted(port: u16, offset: u16) -> Result<u16, StartError> {
    if port == 0 {
        return Ok(0);
    }
    port.checked_add(offset).ok_or_else(|| StartError::Parameter {
        name: "kv_events_config",
        rule: format!("publisher {offset} would need a port above 65535"),
    })
}

fn star(address: SocketAddr) -> String {
    format!("tcp://*:{}", address.port())
}
