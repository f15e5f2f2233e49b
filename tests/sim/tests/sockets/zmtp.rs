//! A ZMTP peer of few words, written for these tests alone: subscribe, ask for a replay, read messages.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::rig::DEADLINE;

pub(crate) struct Peer {
    stream: TcpStream,
}

impl Peer {
    /// Connects a SUB socket to everything; returns when the publisher knows of it.
    pub(crate) async fn subscribe(endpoint: &str) -> Self {
        let mut peer = Self::greet(TcpStream::connect(address(endpoint)).await.unwrap(), "SUB").await;
        peer.follow("").await;
        peer
    }

    /// Takes the connection of a publisher that dials.
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
        let mut peer = Self::greet(stream, "SUB").await;
        peer.follow("").await;
        peer
    }

    pub(crate) async fn dealer(endpoint: &str) -> Self {
        Self::greet(TcpStream::connect(address(endpoint)).await.unwrap(), "DEALER").await
    }

    async fn greet(mut stream: TcpStream, kind: &str) -> Self {
        let mut greeting = [0; 64];
        greeting[..12].copy_from_slice(&[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1]);
        greeting[12..16].copy_from_slice(b"NULL");
        stream.write_all(&greeting).await.unwrap();
        let mut theirs = [0; 64];
        stream.read_exact(&mut theirs).await.unwrap();
        assert_eq!((theirs[0], theirs[9], theirs[10]), (0xff, 0x7f, 3));
        let mut ready = b"\x05READY\x0bSocket-Type\0\0\0".to_vec();
        ready.push(u8::try_from(kind.len()).unwrap());
        ready.extend_from_slice(kind.as_bytes());
        let mut peer = Self { stream };
        peer.send(4, &ready).await;
        let (flags, body) = peer.frame().await.unwrap();
        assert!(flags == 4 && body.starts_with(b"\x05READY"), "{body:?}");
        peer
    }

    /// Subscribes, and waits for the answer to a ping behind it.
    async fn follow(&mut self, topic: &str) {
        self.send(0, &[b"\x01", topic.as_bytes()].concat()).await;
        self.send(4, b"\x04PING\0\0").await;
        assert_eq!(self.frame().await.unwrap(), (4, b"\x04PONG".to_vec()));
    }

    async fn send(&mut self, flags: u8, body: &[u8]) {
        self.stream.write_all(&[flags, u8::try_from(body.len()).unwrap()]).await.unwrap();
        self.stream.write_all(body).await.unwrap();
    }

    async fn frame(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let flags = self.stream.read_u8().await?;
        let length = if flags & 2 == 0 { self.stream.read_u8().await?.into() } else { self.stream.read_u64().await? };
        let mut body = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut body).await?;
        Ok((flags, body))
    }

    /// The frames of the next message; None when the connection is cut.
    pub(crate) async fn message(&mut self) -> Option<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        loop {
            let (flags, body) = timeout(DEADLINE, self.frame()).await.unwrap().ok()?;
            frames.push(body);
            if flags & 1 == 0 {
                return Some(frames);
            }
        }
    }

    /// Messages until none comes for a while.
    pub(crate) async fn batches(&mut self) -> Vec<Batch> {
        let mut all = Vec::new();
        while let Ok(Some(frames)) = timeout(Duration::from_millis(300), self.message()).await {
            let [topic, number, payload] = frames.try_into().unwrap();
            all.push(Batch { topic, number: number_of(&number), payload });
        }
        all
    }

    /// Asks for everything from `start` on; every reply but the end marker, as it came.
    pub(crate) async fn replay(&mut self, start: u64) -> Vec<Vec<Vec<u8>>> {
        self.send(1, b"").await;
        self.send(0, &start.to_be_bytes()).await;
        let mut all = Vec::new();
        loop {
            let reply = self.message().await.unwrap();
            if number_of(&reply[reply.len() - 2]) == u64::MAX {
                assert!(reply.last().unwrap().is_empty() && reply.iter().rev().skip(2).all(Vec::is_empty), "{reply:?}");
                return all;
            }
            all.push(reply);
        }
    }
}

pub(crate) struct Batch {
    pub(crate) topic: Vec<u8>,
    pub(crate) number: u64,
    pub(crate) payload: Vec<u8>,
}

impl Batch {
    pub(crate) fn says(&self, words: &str) -> bool {
        self.payload.windows(words.len()).any(|window| window == words.as_bytes())
    }
}

fn number_of(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

fn address(endpoint: &str) -> &str {
    endpoint.strip_prefix("tcp://").unwrap()
}
