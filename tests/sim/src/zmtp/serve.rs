//! The two sockets of a publisher over TCP: PUB (live batches) and ROUTER (replay).
//!
//! A subscriber that falls behind by more than the high-water mark loses messages silently, as with libzmq; that is what sequence
//! numbers are for.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{Frame, GREETING, Wish, check_greeting, greeting, message, pong, ready, take_frame, wish};

/// Pause between two attempts to reach a subscriber that listens (libzmq's default).
const RECONNECT: Duration = Duration::from_millis(100);

/// Messages written in one go.
const BURST: usize = 64;

/// What live subscribers share with the publisher.
#[derive(Debug)]
pub(crate) struct Fanout {
    subscribers: Mutex<Vec<mpsc::Sender<Published>>>,
    hwm: usize,
    /// Counts restarts: a connection of an older life is cut.
    life: watch::Sender<u64>,
}

/// A message and the topic it is filtered by.
#[derive(Debug, Clone)]
struct Published {
    topic: Bytes,
    wire: Bytes,
}

impl Fanout {
    pub(crate) fn new(hwm: usize) -> Arc<Self> {
        let hwm = if hwm == 0 { 1 << 20 } else { hwm };
        Arc::new(Self { subscribers: Mutex::new(Vec::new()), hwm, life: watch::Sender::new(0) })
    }

    /// Hands a message to every connection that has room for it.
    pub(crate) fn publish(&self, topic: &Bytes, frames: &[&[u8]]) {
        let published = Published { topic: topic.clone(), wire: message(frames) };
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers
            .retain(|queue| !matches!(queue.try_send(published.clone()), Err(mpsc::error::TrySendError::Closed(_))));
    }

    /// Cuts every connection.
    pub(crate) fn restart(&self) {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.life.send_modify(|life| *life += 1);
    }

    fn join(&self) -> mpsc::Receiver<Published> {
        let (queue, inbox) = mpsc::channel(self.hwm);
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(queue);
        inbox
    }
}

/// Answers replay requests from what it is given at that moment.
pub(crate) trait Replay: Send + Sync + 'static {
    /// The messages that answer a request for everything from `start` on.
    fn replies(&self, start: u64) -> Vec<Bytes>;
}

/// Listens for subscribers until dropped.
pub(crate) async fn keep_publishing(listener: TcpListener, fanout: Arc<Fanout>) {
    let mut peers = JoinSet::new();
    loop {
        if let Some(stream) = accept(&listener, &mut peers).await {
            let fanout = Arc::clone(&fanout);
            peers.spawn(async move { drop(until_restart(&fanout.life, feed(stream, &fanout)).await) });
        }
    }
}

/// Dials one subscriber that listens, again and again, until dropped.
pub(crate) async fn keep_dialling(address: String, fanout: Arc<Fanout>) {
    loop {
        if let Ok(stream) = TcpStream::connect(&address).await {
            // However it ended, it is dialled again.
            drop(until_restart(&fanout.life, feed(stream, &fanout)).await);
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Answers replay requests until dropped.
pub(crate) async fn keep_replaying(listener: TcpListener, fanout: Arc<Fanout>, replay: Arc<dyn Replay>) {
    let mut peers = JoinSet::new();
    loop {
        if let Some(stream) = accept(&listener, &mut peers).await {
            let (fanout, replay) = (Arc::clone(&fanout), Arc::clone(&replay));
            peers.spawn(async move { drop(until_restart(&fanout.life, answer(stream, replay.as_ref())).await) });
        }
    }
}

async fn accept(listener: &TcpListener, peers: &mut JoinSet<()>) -> Option<TcpStream> {
    tokio::select! {
        Some(_) = peers.join_next() => None,
        accepted = listener.accept() => match accepted {
            Ok((stream, _)) => Some(stream),
            Err(_) => {
                // Out of descriptors: wait for some to come back instead of spinning.
                tokio::time::sleep(Duration::from_millis(10)).await;
                None
            }
        }
    }
}

async fn until_restart(
    life: &watch::Sender<u64>,
    conversation: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let mut life = life.subscribe();
    tokio::select! {
        ended = conversation => ended,
        _ = life.changed() => Ok(()),
    }
}

/// A connection after its handshake.
struct Peer {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    unread: BytesMut,
}

impl Peer {
    async fn greet(stream: TcpStream, socket_type: &str) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = stream.into_split();
        writer.write_all(&greeting()).await?;
        let mut theirs = [0; GREETING];
        reader.read_exact(&mut theirs).await?;
        check_greeting(&theirs).map_err(io::Error::other)?;
        writer.write_all(&ready(socket_type)).await?;
        let mut peer = Self { reader, writer, unread: BytesMut::new() };
        match peer.frame().await? {
            Frame::Command { name, .. } if name.as_ref() == b"READY" => Ok(peer),
            Frame::Command { .. } | Frame::Message { .. } => Err(io::Error::other("no READY")),
        }
    }

    /// The next frame. Nothing is lost when the future is dropped.
    async fn frame(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = take_frame(&mut self.unread).map_err(io::Error::other)? {
                return Ok(frame);
            }
            if self.reader.read_buf(&mut self.unread).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Sends a subscriber what it subscribed to.
async fn feed(stream: TcpStream, fanout: &Fanout) -> io::Result<()> {
    let mut peer = Peer::greet(stream, "PUB").await?;
    let mut inbox = fanout.join();
    let mut topics: Vec<Bytes> = Vec::new();
    let mut burst = Vec::new();
    loop {
        tokio::select! {
            frame = peer.frame() => match wish(frame?) {
                Wish::Subscribe(topic) => topics.push(topic),
                Wish::Cancel(topic) => {
                    if let Some(at) = topics.iter().position(|known| *known == topic) {
                        topics.swap_remove(at);
                    }
                }
                Wish::Ping(context) => peer.writer.write_all(&pong(&context)).await?,
                Wish::Nothing => {}
            },
            count = inbox.recv_many(&mut burst, BURST) => {
                if count == 0 {
                    return Ok(());
                }
                for published in burst.drain(..) {
                    if topics.iter().any(|topic| published.topic.starts_with(topic)) {
                        peer.writer.write_all(&published.wire).await?;
                    }
                }
            }
        }
    }
}

/// Answers requests of an empty frame and a sequence number; anything else is ignored.
async fn answer(stream: TcpStream, replay: &dyn Replay) -> io::Result<()> {
    let mut peer = Peer::greet(stream, "ROUTER").await?;
    let mut request: Vec<Bytes> = Vec::new();
    loop {
        match peer.frame().await? {
            Frame::Message { body, last } => {
                request.push(body);
                if !last {
                    continue;
                }
                if let [delimiter, start] = request.as_slice()
                    && delimiter.is_empty()
                {
                    let start = start.iter().fold(0_u64, |value, &byte| (value << 8) | u64::from(byte));
                    for reply in replay.replies(start) {
                        peer.writer.write_all(&reply).await?;
                    }
                }
                request.clear();
            }
            command @ Frame::Command { .. } => {
                if let Wish::Ping(context) = wish(command) {
                    peer.writer.write_all(&pong(&context)).await?;
                }
            }
        }
    }
}

/// A listening socket and its address.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<(SocketAddr, TcpListener)> {
    let listener = TcpListener::bind(address).await?;
    Ok((listener.local_addr()?, listener))
}
