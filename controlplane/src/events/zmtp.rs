//! ZMTP 3.1 as far as a follower of events needs it (SUB and DEALER, NULL mechanism), sans I/O: bytes in, traffic out, and
//! the bytes to send.
//!
//! Written here because no crate serves: `zeromq` 0.7 (pure Rust) takes a PING for a protocol error, sends none, sets no
//! limit to messages and hides when a connection breaks; `rzmq` brings some 90 crates; the bindings bring a C++ library,
//! its threads and `unsafe`. What is needed of the protocol is small and frozen (<https://rfc.zeromq.org/spec/37/>). What a
//! reader might get wrong: a topic is subscribed to by a command in 3.1 and by a message in 3.0, and each old peer may
//! only know its own form.

use bytes::{Buf as _, Bytes, BytesMut};

#[cfg(test)]
mod tests;

/// A message of more parts is refused; events have 3, answers to replays 4.
const MOST_PARTS: usize = 8;

/// Commands are short: a READY with some metadata is the longest.
const LONGEST_COMMAND: usize = 4096;

/// Bytes of a greeting.
pub const GREETING_BYTES: usize = 64;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// What this end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Receives what is published.
    Sub,
    /// Asks for replays.
    Dealer,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Sub => "SUB",
            Self::Dealer => "DEALER",
        }
    }

    const fn talks_to(self, peer: &[u8]) -> bool {
        match self {
            Self::Sub => matches!(peer, b"PUB" | b"XPUB"),
            Self::Dealer => matches!(peer, b"ROUTER" | b"REP" | b"DEALER"),
        }
    }
}

/// The peer does not speak our language.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Some other protocol, or ZMTP before 3.0.
    #[error("peer does not speak ZMTP 3")]
    Greeting,
    /// CURVE or PLAIN, say.
    #[error("peer demands a security mechanism other than NULL")]
    Mechanism,
    /// A SUB met a ROUTER, say: the wrong port.
    #[error("peer is a {0} socket")]
    SocketType(String),
    /// Sent by the peer before it hangs up.
    #[error("peer refused: {0}")]
    Refused(String),
    /// A frame, or a message in all its parts, is longer than allowed.
    #[error("message of more than {0} bytes")]
    TooLarge(usize),
    /// Flags or lengths that make no sense.
    #[error("malformed frame")]
    Malformed,
}

/// The dialect of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// 3.0: topics by message, perhaps no heartbeats.
    V30,
    /// 3.1 or newer.
    V31,
}

/// What a peer sends after its greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// A whole message.
    Message(Vec<Bytes>),
    /// The handshake is done.
    Ready,
    /// Answer with [`pong`] of the same context.
    Ping(Bytes),
    /// Any other command: PONG, and whatever is to come.
    Other,
}

/// What is sent first.
#[must_use]
pub fn greeting() -> [u8; GREETING_BYTES] {
    let mut greeting = [0; GREETING_BYTES];
    let head = [0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 1, b'N', b'U', b'L', b'L'];
    for (to, from) in greeting.iter_mut().zip(head) {
        *to = from;
    }
    greeting
}

/// Judges the peer's greeting.
///
/// # Errors
/// When we have no language in common.
pub fn read_greeting(bytes: &[u8; GREETING_BYTES]) -> Result<Revision, Violation> {
    let [0xff, _, _, _, _, _, _, _, _, 0x7f, major @ 3..=255, minor, mechanism @ ..] = bytes else {
        return Err(Violation::Greeting);
    };
    if !mechanism.starts_with(b"NULL\0") {
        return Err(Violation::Mechanism);
    }
    Ok(if *major > 3 || *minor > 0 { Revision::V31 } else { Revision::V30 })
}

/// What is sent second.
#[must_use]
pub fn ready(role: Role) -> Vec<u8> {
    let mut body = Vec::from(b"\x05READY");
    property(&mut body, b"Socket-Type", role.name().as_bytes());
    if role == Role::Dealer {
        property(&mut body, b"Identity", b"");
    }
    frame(COMMAND, &body)
}

fn property(body: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    body.extend(u8::try_from(name.len()));
    body.extend_from_slice(name);
    body.extend_from_slice(&u32::try_from(value.len()).unwrap_or(0).to_be_bytes());
    body.extend_from_slice(value);
}

/// Asks a publisher for all messages whose first part begins so.
#[must_use]
pub fn subscribe(topic: &[u8], revision: Revision) -> Vec<u8> {
    match revision {
        Revision::V30 => frame(0, &[b"\x01", topic].concat()),
        Revision::V31 => frame(COMMAND, &[b"\x09SUBSCRIBE", topic].concat()),
    }
}

/// Asks for a sign of life.
#[must_use]
pub fn ping() -> Vec<u8> {
    frame(COMMAND, b"\x04PING\0\0")
}

/// Gives one.
#[must_use]
pub fn pong(context: &[u8]) -> Vec<u8> {
    frame(COMMAND, &[b"\x04PONG", context].concat())
}

/// A message of these parts.
#[must_use]
pub fn message(parts: &[&[u8]]) -> Vec<u8> {
    let last = parts.len().saturating_sub(1);
    parts.iter().enumerate().flat_map(|(at, part)| frame(if at < last { MORE } else { 0 }, part)).collect()
}

fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(body.len() + 9);
    if let Ok(length) = u8::try_from(body.len()) {
        frame.extend([flags, length]);
    } else {
        frame.push(flags | LONG);
        frame.extend(u64::try_from(body.len()).unwrap_or(u64::MAX).to_be_bytes());
    }
    frame.extend_from_slice(body);
    frame
}

/// Cuts what arrives after the greeting into [`Traffic`].
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    /// Bytes of one message.
    most: usize,
    parts: Vec<Bytes>,
    parts_bytes: usize,
}

impl Decoder {
    /// Messages of more than `most` bytes are refused as soon as their length is known.
    #[must_use]
    pub const fn new(role: Role, most: usize) -> Self {
        Self { role, most, parts: Vec::new(), parts_bytes: 0 }
    }

    /// The next traffic in `buffer`, which loses what was used. `None`: more bytes are needed.
    ///
    /// # Errors
    /// When the peer breaks the protocol; the connection is of no more use then.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Traffic>, Violation> {
        while let Some((flags, body)) = self.frame(buffer)? {
            if flags & COMMAND != 0 {
                return self.command(body).map(Some);
            }
            self.parts_bytes = self.parts_bytes.saturating_add(body.len());
            self.parts.push(body);
            if self.parts.len() > MOST_PARTS {
                return Err(Violation::Malformed);
            }
            if flags & MORE == 0 {
                self.parts_bytes = 0;
                return Ok(Some(Traffic::Message(core::mem::take(&mut self.parts))));
            }
        }
        Ok(None)
    }

    fn frame(&self, buffer: &mut BytesMut) -> Result<Option<(u8, Bytes)>, Violation> {
        let (flags, header, length) = match &buffer[..] {
            [flags, rest @ ..] if flags & LONG != 0 => {
                let Some(length) = rest.first_chunk::<8>() else { return Ok(None) };
                (*flags, 9, u64::from_be_bytes(*length))
            }
            [flags, length, ..] => (*flags, 2, u64::from(*length)),
            _ => return Ok(None),
        };
        let command = flags & COMMAND != 0;
        if flags & !(MORE | LONG | COMMAND) != 0 || (command && flags & MORE != 0) {
            return Err(Violation::Malformed);
        }
        let limit = if command { LONGEST_COMMAND } else { self.most.saturating_sub(self.parts_bytes) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > limit {
            return Err(Violation::TooLarge(if command { LONGEST_COMMAND } else { self.most }));
        }
        if buffer.len() - header < length {
            return Ok(None);
        }
        buffer.advance(header);
        Ok(Some((flags, buffer.split_to(length).freeze())))
    }

    fn command(&self, body: Bytes) -> Result<Traffic, Violation> {
        let (length, rest) = body.split_first().ok_or(Violation::Malformed)?;
        let (name, content) = rest.split_at_checked(usize::from(*length)).ok_or(Violation::Malformed)?;
        match name {
            b"READY" => {
                let peer = socket_type(content).ok_or(Violation::Malformed)?;
                if self.role.talks_to(peer) {
                    Ok(Traffic::Ready)
                } else {
                    Err(Violation::SocketType(String::from_utf8_lossy(peer).into_owned()))
                }
            }
            b"PING" => {
                let (_ttl, context) = content.split_at_checked(2).ok_or(Violation::Malformed)?;
                Ok(Traffic::Ping(body.slice_ref(context)))
            }
            b"ERROR" => {
                let reason = content.split_first().map_or(content, |(_, reason)| reason);
                Err(Violation::Refused(String::from_utf8_lossy(reason).into_owned()))
            }
            _ => Ok(Traffic::Other),
        }
    }
}

fn socket_type(mut properties: &[u8]) -> Option<&[u8]> {
    while let Some((length, rest)) = properties.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            return Some(value);
        }
        properties = rest;
    }
    None
}
