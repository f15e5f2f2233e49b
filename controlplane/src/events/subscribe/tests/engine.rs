//! A publisher with a replay endpoint on real sockets, written against the protocol and not with the code under test:
//! frames are read and written byte by byte. It can be told to lose batches, to forget, to fall silent and to die.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::task::AbortOnDropHandle;

use crate::events::sources::{Address, Source};

/// How it behaves.
#[derive(Clone, Debug)]
pub(in crate::events) struct Habits {
    pub(in crate::events) topic: &'static str,
    /// Since vLLM 0.26 answers to replays carry the topic.
    pub(in crate::events) replay_topic: bool,
    /// Batches that it remembers.
    pub(in crate::events) memory: usize,
    /// The second number of its protocol version.
    pub(in crate::events) minor: u8,
    /// Sends every batch to every subscriber, whatever the subscription.
    pub(in crate::events) unfiltered: bool,
    /// Its batches are of this time, which tells its lives apart.
    pub(in crate::events) life: f64,
}

impl Default for Habits {
    fn default() -> Self {
        Self { topic: "kv-events", replay_topic: true, memory: 10_000, minor: 1, unfiltered: false, life: 1.0 }
    }
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    remembered: Vec<(u64, Vec<u8>)>,
    subscribers: Vec<Subscriber>,
    silent: bool,
    pings: usize,
    subscriptions: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Subscriber {
    topic: Vec<u8>,
    out: UnboundedSender<Vec<u8>>,
}

#[derive(Clone, Debug)]
struct Shared {
    habits: Habits,
    state: Arc<Mutex<State>>,
}

/// Dropping it closes all its sockets at once.
#[derive(Debug)]
pub(in crate::events) struct Engine {
    shared: Shared,
    ports: (u16, u16),
    _tasks: Vec<AbortOnDropHandle<()>>,
}

fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    match u8::try_from(body.len()) {
        Ok(length) => [&[flags, length], body].concat(),
        Err(_) => [&[flags | 2], &(body.len() as u64).to_be_bytes()[..], body].concat(),
    }
}

fn message(parts: &[&[u8]]) -> Vec<u8> {
    let last = parts.len() - 1;
    parts.iter().enumerate().flat_map(|(at, part)| frame(u8::from(at < last), part)).collect()
}

async fn read_frame(stream: &mut OwnedReadHalf) -> Option<(u8, Vec<u8>)> {
    let flags = stream.read_u8().await.ok()?;
    let length = if flags & 2 == 0 { u64::from(stream.read_u8().await.ok()?) } else { stream.read_u64().await.ok()? };
    let mut body = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some((flags, body))
}

impl Engine {
    /// On free ports.
    pub(in crate::events) async fn start(habits: Habits) -> Self {
        Self::start_on((0, 0), habits).await
    }

    /// On the ports of one that has died.
    pub(in crate::events) async fn start_on(ports: (u16, u16), habits: Habits) -> Self {
        let publish = TcpListener::bind(("127.0.0.1", ports.0)).await.unwrap();
        let replay = TcpListener::bind(("127.0.0.1", ports.1)).await.unwrap();
        let ports = (publish.local_addr().unwrap().port(), replay.local_addr().unwrap().port());
        let shared = Shared { habits, state: Arc::default() };
        let tasks = vec![
            spawn(accept(publish, shared.clone(), |stream, shared| async move { shared.publish_to(stream).await })),
            spawn(accept(replay, shared.clone(), |stream, shared| async move { shared.replay_to(stream).await })),
        ];
        Self { shared, ports, _tasks: tasks }
    }

    /// Publishes by dialling `to`; no replay endpoint.
    pub(in crate::events) async fn dialling(to: std::net::SocketAddr, habits: Habits) -> Self {
        let shared = Shared { habits, state: Arc::default() };
        let stream = TcpStream::connect(to).await.unwrap();
        let tasks = vec![spawn({
            let shared = shared.clone();
            async move {
                shared.publish_to(stream).await;
            }
        })];
        Self { shared, ports: (0, 0), _tasks: tasks }
    }

    pub(in crate::events) fn ports(&self) -> (u16, u16) {
        self.ports
    }

    pub(in crate::events) fn source(&self, topic: &str) -> Source {
        let at = |port| Address { host: "127.0.0.1".to_owned(), port };
        Source { events: at(self.ports.0), replay: Some(at(self.ports.1)), topic: topic.to_owned(), rank: 0 }
    }

    /// Publishes the next batch: one block, named as the batch is numbered, was removed.
    pub(in crate::events) fn publish(&self) {
        self.shared.publish(true);
    }

    /// Publishes the next batch, which gets lost on its way.
    pub(in crate::events) fn lose(&self) {
        self.shared.publish(false);
    }

    /// From now on nothing is said any more, but connections stay open.
    pub(in crate::events) fn fall_silent(&self) {
        self.shared.state.lock().unwrap().silent = true;
    }

    /// Topics subscribed to, and pings heard.
    pub(in crate::events) fn heard(&self) -> (Vec<Vec<u8>>, usize) {
        let state = self.shared.state.lock().unwrap();
        (state.subscriptions.clone(), state.pings)
    }

    pub(in crate::events) fn subscribers(&self) -> usize {
        self.shared.state.lock().unwrap().subscribers.len()
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

async fn accept<F: Future<Output = Option<()>> + Send + 'static>(
    listener: TcpListener,
    shared: Shared,
    serve: impl Fn(TcpStream, Shared) -> F,
) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, shared.clone()));
    }
}

impl Shared {
    fn publish(&self, arrives: bool) {
        let mut state = self.state.lock().unwrap();
        let seq = state.next;
        state.next += 1;
        // [life, [["BlockRemoved", [seq]]], 0]
        let payload = [
            &[0x93, 0xcb][..],
            &self.habits.life.to_be_bytes(),
            &[0x91, 0x92, 0xac],
            b"BlockRemoved",
            &[0x91, 0xcf],
            &seq.to_be_bytes(),
            &[0x00],
        ]
        .concat();
        if arrives && !state.silent {
            let topic = self.habits.topic.as_bytes();
            let bytes = message(&[topic, &seq.to_be_bytes(), &payload]);
            let wants = |subscriber: &Subscriber| self.habits.unfiltered || topic.starts_with(&subscriber.topic);
            state.subscribers.retain(|subscriber| !wants(subscriber) || subscriber.out.send(bytes.clone()).is_ok());
        }
        state.remembered.push((seq, payload));
        if state.remembered.len() > self.habits.memory {
            state.remembered.remove(0);
        }
    }

    /// Greets as a socket of this kind; afterwards everything sent to the channel goes out.
    async fn greet(&self, stream: TcpStream, kind: &str) -> Option<(OwnedReadHalf, UnboundedSender<Vec<u8>>)> {
        let (mut reader, mut writer) = stream.into_split();
        let mut greeting = [0; 64];
        greeting[0] = 0xff;
        greeting[9..16].copy_from_slice(&[0x7f, 3, self.habits.minor, b'N', b'U', b'L', b'L']);
        let length = u32::try_from(kind.len()).unwrap().to_be_bytes();
        let ready = [b"\x05READY\x0bSocket-Type", &length[..], kind.as_bytes()].concat();
        writer.write_all(&[greeting.to_vec(), frame(4, &ready)].concat()).await.ok()?;
        reader.read_exact(&mut greeting).await.ok()?;
        let (out, mut outgoing): (_, UnboundedReceiver<Vec<u8>>) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(bytes) = outgoing.recv().await {
                if writer.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        Some((reader, out))
    }

    async fn publish_to(&self, stream: TcpStream) -> Option<()> {
        let (mut reader, out) = self.greet(stream, "PUB").await?;
        loop {
            let (flags, body) = read_frame(&mut reader).await?;
            let mut state = self.state.lock().unwrap();
            let topic = match (flags & 4 != 0, body.as_slice()) {
                (true, [9, b'S', b'U', b'B', b'S', b'C', b'R', b'I', b'B', b'E', topic @ ..]) => topic,
                (false, [1, topic @ ..]) => topic,
                (true, [4, b'P', b'I', b'N', b'G', ..]) => {
                    state.pings += 1;
                    if !state.silent {
                        out.send(frame(4, b"\x04PONG")).ok()?;
                    }
                    continue;
                }
                _ => continue,
            };
            state.subscriptions.push(topic.to_vec());
            state.subscribers.push(Subscriber { topic: topic.to_vec(), out: out.clone() });
        }
    }

    async fn replay_to(&self, stream: TcpStream) -> Option<()> {
        let (mut reader, out) = self.greet(stream, "ROUTER").await?;
        let mut parts = Vec::new();
        loop {
            let (flags, body) = read_frame(&mut reader).await?;
            if flags & 4 != 0 {
                continue;
            }
            parts.push(body);
            if flags & 1 != 0 {
                continue;
            }
            let [empty, seq] = <[Vec<u8>; 2]>::try_from(std::mem::take(&mut parts)).ok()?;
            assert!(empty.is_empty());
            let from = u64::from_be_bytes(seq.try_into().ok()?);
            let state = self.state.lock().unwrap();
            let answer = |topic: &str, seq: u64, payload: &[u8]| {
                let seq = seq.to_be_bytes();
                let new: [&[u8]; 4] = [b"", topic.as_bytes(), &seq, payload];
                let old: [&[u8]; 3] = [b"", &seq, payload];
                message(if self.habits.replay_topic { &new } else { &old })
            };
            for (seq, payload) in state.remembered.iter().filter(|(seq, _)| *seq >= from) {
                out.send(answer(self.habits.topic, *seq, payload)).ok()?;
            }
            out.send(answer("", u64::MAX, b"")).ok()?;
        }
    }
}
