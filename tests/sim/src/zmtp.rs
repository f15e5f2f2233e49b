//! ZMTP 3.1 with the NULL mechanism: greeting, commands, frames. Bytes in, bytes out.
//!
//! Subscriptions come in two forms: as messages that begin with 0 or 1 (ZMTP 3.0) and as SUBSCRIBE and CANCEL commands (3.1).

pub(crate) mod serve;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of a greeting.
pub(crate) const GREETING: usize = 64;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// No frame a subscriber or a replay client sends is longer.
const LONGEST_FRAME: u64 = 64 * 1024;

/// The peer does not speak ZMTP 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error("not a ZMTP 3 greeting with the NULL mechanism")]
    Greeting,
    #[error("a frame of {0} bytes")]
    TooLong(u64),
}

/// What a peer sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Command { name: Bytes, body: Bytes },
    Message { body: Bytes, last: bool },
}

/// What a peer wants of a publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    Subscribe(Bytes),
    Cancel(Bytes),
    Ping(Bytes),
    Nothing,
}

/// The bytes that open a connection.
pub(crate) fn greeting() -> [u8; GREETING] {
    let mut bytes = [0; GREETING];
    let signature_and_version = [0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 1];
    for (slot, byte) in bytes.iter_mut().zip(signature_and_version.into_iter().chain(*b"NULL")) {
        *slot = byte;
    }
    bytes
}

/// Checks the peer's.
pub(crate) fn check_greeting(bytes: &[u8; GREETING]) -> Result<(), ProtocolError> {
    let [0xff, _, _, _, _, _, _, _, _, 0x7f, major, _, rest @ ..] = bytes else { return Err(ProtocolError::Greeting) };
    if *major >= 3 && rest.starts_with(b"NULL\0") { Ok(()) } else { Err(ProtocolError::Greeting) }
}

/// The READY command of a socket of this type.
pub(crate) fn ready(socket_type: &str) -> Bytes {
    let mut body = BytesMut::new();
    for (name, value) in [("Socket-Type", socket_type), ("Identity", "")] {
        body.put_u8(u8::try_from(name.len()).unwrap_or_default());
        body.put_slice(name.as_bytes());
        body.put_u32(u32::try_from(value.len()).unwrap_or_default());
        body.put_slice(value.as_bytes());
    }
    command("READY", &body)
}

/// The answer to a PING.
pub(crate) fn pong(context: &[u8]) -> Bytes {
    command("PONG", context)
}

fn command(name: &str, body: &[u8]) -> Bytes {
    let mut content = BytesMut::with_capacity(1 + name.len() + body.len());
    content.put_u8(u8::try_from(name.len()).unwrap_or_default());
    content.put_slice(name.as_bytes());
    content.put_slice(body);
    let mut out = BytesMut::new();
    put_frame(&mut out, COMMAND, &content);
    out.freeze()
}

/// A whole message as it goes over the wire.
pub(crate) fn message(frames: &[&[u8]]) -> Bytes {
    let mut out = BytesMut::with_capacity(frames.iter().map(|frame| frame.len() + 9).sum());
    for (index, frame) in frames.iter().enumerate() {
        put_frame(&mut out, if index + 1 < frames.len() { MORE } else { 0 }, frame);
    }
    out.freeze()
}

fn put_frame(out: &mut BytesMut, flags: u8, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(length) => out.put_slice(&[flags, length]),
        Err(_) => {
            out.put_u8(flags | LONG);
            out.put_u64(u64::try_from(body.len()).unwrap_or(u64::MAX));
        }
    }
    out.put_slice(body);
}

/// Takes one frame off the front; None while it is incomplete.
pub(crate) fn take_frame(buffer: &mut BytesMut) -> Result<Option<Frame>, ProtocolError> {
    let mut head = buffer.as_ref();
    if head.len() < 2 {
        return Ok(None);
    }
    let flags = head.get_u8();
    let length = match flags & LONG {
        0 => u64::from(head.get_u8()),
        _ if head.len() < 8 => return Ok(None),
        _ => head.get_u64(),
    };
    if length > LONGEST_FRAME {
        return Err(ProtocolError::TooLong(length));
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if head.len() < length {
        return Ok(None);
    }
    let head_bytes = buffer.len() - head.len();
    buffer.advance(head_bytes);
    let mut body = buffer.split_to(length).freeze();
    if flags & COMMAND == 0 {
        return Ok(Some(Frame::Message { body, last: flags & MORE == 0 }));
    }
    let name_length = if body.is_empty() { 0 } else { usize::from(body.get_u8()).min(body.len()) };
    let name = body.split_to(name_length);
    Ok(Some(Frame::Command { name, body }))
}

/// What a publisher reads from a frame.
pub(crate) fn wish(frame: Frame) -> Wish {
    match frame {
        Frame::Command { name, body } => match name.as_ref() {
            b"SUBSCRIBE" => Wish::Subscribe(body),
            b"CANCEL" => Wish::Cancel(body),
            // The first two bytes are a time to live.
            b"PING" => Wish::Ping(body.slice(body.len().min(2)..)),
            _ => Wish::Nothing,
        },
        Frame::Message { mut body, .. } => match body.first() {
            Some(1) => Wish::Subscribe(body.split_off(1)),
            Some(0) => Wish::Cancel(body.split_off(1)),
            _ => Wish::Nothing,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_frame_by_frame_however_it_is_cut() {
        let long = vec![7; 300];
        let bytes = message(&[b"", b"seq", &long]);
        for cut in 0..bytes.len() {
            let mut buffer = BytesMut::from(&bytes[..cut]);
            let mut bodies = Vec::new();
            for rest in [&bytes[cut..], &[]] {
                while let Some(Frame::Message { body, last }) = take_frame(&mut buffer).unwrap() {
                    bodies.push((body, last));
                }
                buffer.extend_from_slice(rest);
            }
            let expected: [(&[u8], bool); 3] = [(b"", false), (b"seq", false), (&long, true)];
            assert!(bodies.iter().zip(expected).all(|((body, last), (wanted, end))| body == wanted && *last == end));
            assert_eq!(bodies.len(), 3, "cut at {cut}");
        }
    }

    #[test]
    fn both_forms_of_subscription_are_understood() {
        let read = |bytes: &[u8]| wish(take_frame(&mut BytesMut::from(bytes)).unwrap().unwrap());
        assert_eq!(read(b"\x00\x03\x01kv"), Wish::Subscribe(Bytes::from_static(b"kv")));
        assert_eq!(read(&command("SUBSCRIBE", b"kv")), Wish::Subscribe(Bytes::from_static(b"kv")));
        assert_eq!(read(&command("CANCEL", b"")), Wish::Cancel(Bytes::new()));
        assert_eq!(read(&command("PING", b"\x00\x10ctx")), Wish::Ping(Bytes::from_static(b"ctx")));
    }

    #[test]
    fn the_greeting_is_checked() {
        assert_eq!(check_greeting(&greeting()), Ok(()));
        let mut curve = greeting();
        curve[12..17].copy_from_slice(b"CURVE");
        assert_eq!(check_greeting(&curve), Err(ProtocolError::Greeting));
        assert_eq!(
            take_frame(&mut BytesMut::from(&[2, 0xff, 0, 0, 0, 0, 0, 0, 0][..])),
            Err(ProtocolError::TooLong(0xff00_0000_0000_0000))
        );
    }
}
