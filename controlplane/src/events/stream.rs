//! One ZMTP connection over TCP: handshake, heartbeats, messages. A peer that vanished without a word (half-open) is
//! noticed by silence: peers of revision 3.1 are pinged, from older ones any long silence ends the connection, because
//! not all of them know PING.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::sources::Address;
use super::zmtp::{self, Decoder, GREETING_BYTES, Revision, Role, Traffic, Violation};

/// How long is too long.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For the connection and the handshake, each.
    pub connect: Duration,
    /// Without traffic, a peer is pinged this often.
    pub ping: Duration,
    /// A peer that can be pinged is gone after this much silence; more than `ping`.
    pub silence: Duration,
    /// So is one that cannot be pinged. Idle engines are silent, too: each time costs a reconnect.
    pub old_silence: Duration,
    /// Bytes of one message.
    pub message: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            ping: Duration::from_secs(5),
            silence: Duration::from_secs(15),
            old_silence: Duration::from_secs(600),
            message: 64 << 20,
        }
    }
}

/// Why there is no connection any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens, or the name is unknown.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// No connection or no handshake in time.
    #[error("no handshake within {0:?}")]
    Slow(Duration),
    /// The peer hung up.
    #[error("peer closed the connection")]
    Closed,
    /// The network broke.
    #[error("connection broke: {0}")]
    Broken(#[source] std::io::Error),
    /// Half-open.
    #[error("peer silent for {0:?}")]
    Silent(Duration),
    /// The peer speaks something else.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    buffer: BytesMut,
    decoder: Decoder,
    revision: Revision,
    pace: Pace,
    heard: Instant,
}

impl Link {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// When nobody answers, or not in our protocol.
    pub async fn dial(address: &Address, role: Role, pace: Pace) -> Result<Self, LinkError> {
        let connect = TcpStream::connect((address.host.as_str(), address.port));
        let stream = timeout(pace.connect, connect).await.map_err(|_| LinkError::Slow(pace.connect))?;
        Self::shake(stream.map_err(LinkError::Connect)?, role, pace).await
    }

    /// Shakes hands on a connection, whoever opened it.
    ///
    /// # Errors
    /// When the peer does not answer in our protocol.
    pub async fn shake(stream: TcpStream, role: Role, pace: Pace) -> Result<Self, LinkError> {
        timeout(pace.connect, Self::handshake(stream, role, pace)).await.map_err(|_| LinkError::Slow(pace.connect))?
    }

    async fn handshake(mut stream: TcpStream, role: Role, pace: Pace) -> Result<Self, LinkError> {
        // Small writes, each waited for. Where it cannot be set it is only slower.
        let _slower = stream.set_nodelay(true);
        stream.write_all(&zmtp::greeting()).await.map_err(LinkError::Broken)?;
        let mut greeting = [0; GREETING_BYTES];
        stream.read_exact(&mut greeting).await.map_err(LinkError::Broken)?;
        let revision = zmtp::read_greeting(&greeting)?;
        stream.write_all(&zmtp::ready(role)).await.map_err(LinkError::Broken)?;
        let (buffer, decoder) = (BytesMut::new(), Decoder::new(role, pace.message));
        let mut link = Self { stream, buffer, decoder, revision, pace, heard: Instant::now() };
        loop {
            match link.decoder.next(&mut link.buffer)? {
                Some(Traffic::Ready) => return Ok(link),
                Some(Traffic::Message(_)) => return Err(Violation::Malformed.into()),
                Some(Traffic::Ping(_) | Traffic::Other) => {}
                None => link.fill().await?,
            }
        }
    }

    /// Asks for all messages whose topic begins so.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn subscribe(&mut self, topic: &str) -> Result<(), LinkError> {
        self.write(&zmtp::subscribe(topic.as_bytes(), self.revision)).await
    }

    /// Sends one message.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send(&mut self, parts: &[&[u8]]) -> Result<(), LinkError> {
        self.write(&zmtp::message(parts)).await
    }

    /// The next message; heartbeats are seen to meanwhile. Not to be called again after it was cancelled.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn receive(&mut self) -> Result<Vec<Bytes>, LinkError> {
        loop {
            match self.decoder.next(&mut self.buffer)? {
                Some(Traffic::Message(parts)) => return Ok(parts),
                Some(Traffic::Ping(context)) => self.write(&zmtp::pong(&context)).await?,
                Some(Traffic::Ready | Traffic::Other) => {}
                None => self.listen().await?,
            }
        }
    }

    /// Reads more, and pings while there is nothing to read.
    async fn listen(&mut self) -> Result<(), LinkError> {
        let (every, silence) = match self.revision {
            Revision::V31 => (self.pace.ping, self.pace.silence),
            Revision::V30 => (self.pace.old_silence, self.pace.old_silence),
        };
        let over = self.heard + silence;
        loop {
            let next = (Instant::now() + every).min(over);
            if let Ok(read) = timeout_at(next, self.fill()).await {
                return read;
            }
            if Instant::now() >= over {
                return Err(LinkError::Silent(silence));
            }
            self.write(&zmtp::ping()).await?;
        }
    }

    async fn fill(&mut self) -> Result<(), LinkError> {
        self.buffer.reserve(READ);
        let read = self.stream.read_buf(&mut self.buffer).await.map_err(LinkError::Broken)?;
        self.heard = Instant::now();
        if read == 0 { Err(LinkError::Closed) } else { Ok(()) }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        match timeout(self.pace.silence, self.stream.write_all(bytes)).await {
            Ok(written) => written.map_err(LinkError::Broken),
            Err(_) => Err(LinkError::Silent(self.pace.silence)),
        }
    }
}

/// Room for one read.
const READ: usize = 64 << 10;
