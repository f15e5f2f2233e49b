//! Reads HTTP/1.1 messages, as little of them as a closed loop needs: where a message ends, its status, and how often a
//! chunk arrived. Works for any split of the bytes. Not a general parser: no pipelining, and a message without a length
//! has no body (true for requests, and for what Envoy and the backend answer here).

use std::time::Duration;
use thiserror::Error;

/// A head longer than this is not one of ours.
const MAX_HEAD: usize = 64 * 1024;
/// Asks the backend for a streamed response of that many events.
pub(crate) const STREAM_EVENTS: &str = "x-bench-events";
/// Pause between two events of a streamed response, in microseconds.
pub(crate) const STREAM_PAUSE: &str = "x-bench-pause-us";

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Malformed {
    #[error("the head is longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    #[error("not an HTTP/1 start line: {0:?}")]
    StartLine(String),
    #[error("bad header line: {0:?}")]
    Header(String),
    #[error("bad chunk size line: {0:?}")]
    ChunkSize(String),
    #[error("{0} bytes after the end of the message")]
    Excess(usize),
}

/// A message that was read to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// 0 for a request.
    pub(crate) status: u16,
    /// A request for the engine's metrics.
    pub(crate) metrics: bool,
    /// A request for where the engine publishes its KV events.
    pub(crate) event_sources: bool,
    /// Bytes of the body, without chunk framing.
    pub(crate) body_bytes: u64,
    /// Chunks with data; 0 for a body that is not chunked.
    pub(crate) chunks: u64,
    /// Asked for by [`STREAM_EVENTS`] and [`STREAM_PAUSE`].
    pub(crate) stream: Option<StreamWish>,
}

/// A streamed response, as a request asks for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StreamWish {
    pub(crate) events: u32,
    pub(crate) pause: Duration,
}

#[derive(Debug)]
enum Stage {
    Head(Vec<u8>),
    Fixed(u64),
    ChunkSize(Vec<u8>),
    ChunkData(u64),
    /// The line break after a chunk's data.
    ChunkEnd(Vec<u8>),
    Trailers(Vec<u8>),
}

enum Length {
    Fixed(u64),
    Chunked,
}

/// Reads one message after the other.
#[derive(Debug)]
pub(crate) struct Reader {
    stage: Stage,
    message: Message,
    /// Where the bytes of bodies go, if anyone wants them.
    body: Option<Vec<u8>>,
}

impl Reader {
    pub(crate) fn counting() -> Reader {
        Reader { stage: Stage::Head(Vec::new()), message: Message::default(), body: None }
    }

    pub(crate) fn keeping_body() -> Reader {
        Reader { body: Some(Vec::new()), ..Reader::counting() }
    }

    /// The bodies read so far; empty for a reader that only counts.
    pub(crate) fn into_body(self) -> Vec<u8> {
        self.body.unwrap_or_default()
    }

    /// Takes all of `bytes`. A message, when they complete one; the reader is then ready for the next.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Option<Message>, Malformed> {
        let mut rest = bytes;
        loop {
            let (done, after) = self.step(rest)?;
            if done {
                self.stage = Stage::Head(Vec::new());
                let message = std::mem::take(&mut self.message);
                return if after.is_empty() { Ok(Some(message)) } else { Err(Malformed::Excess(after.len())) };
            }
            if after.is_empty() {
                return Ok(None);
            }
            rest = after;
        }
    }

    /// One stage's worth of bytes. Whether the message is complete, and the bytes not used yet.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<(bool, &'a [u8]), Malformed> {
        match &mut self.stage {
            Stage::Head(seen) => {
                let Some((head, rest)) = until(seen, bytes, b"\r\n\r\n")? else { return Ok((false, &[])) };
                let length = read_head(&head, &mut self.message)?;
                let done = matches!(length, Length::Fixed(0));
                self.stage = match length {
                    Length::Fixed(left) => Stage::Fixed(left),
                    Length::Chunked => Stage::ChunkSize(Vec::new()),
                };
                Ok((done, rest))
            }
            Stage::Fixed(left) => {
                let rest = take_body(left, bytes, &mut self.message, self.body.as_mut());
                Ok((*left == 0, rest))
            }
            Stage::ChunkSize(seen) => {
                let Some((line, rest)) = until(seen, bytes, b"\r\n")? else { return Ok((false, &[])) };
                let size = chunk_size(&line)?;
                self.stage = if size == 0 { Stage::Trailers(Vec::new()) } else { Stage::ChunkData(size) };
                Ok((false, rest))
            }
            Stage::ChunkData(left) => {
                let rest = take_body(left, bytes, &mut self.message, self.body.as_mut());
                if *left == 0 {
                    self.message.chunks += 1;
                    self.stage = Stage::ChunkEnd(Vec::new());
                }
                Ok((false, rest))
            }
            Stage::ChunkEnd(seen) => {
                let Some((line, rest)) = until(seen, bytes, b"\r\n")? else { return Ok((false, &[])) };
                if !line.is_empty() {
                    return Err(Malformed::ChunkSize(text(&line)));
                }
                self.stage = Stage::ChunkSize(Vec::new());
                Ok((false, rest))
            }
            Stage::Trailers(seen) => {
                let Some((line, rest)) = until(seen, bytes, b"\r\n")? else { return Ok((false, &[])) };
                self.stage = Stage::Trailers(Vec::new());
                Ok((line.is_empty(), rest))
            }
        }
    }
}

/// What stood before a mark, and the bytes after it.
type Found<'a> = (Vec<u8>, &'a [u8]);

/// Appends to `seen` up to and with `end`. `None` when it did not come yet.
fn until<'a>(seen: &mut Vec<u8>, bytes: &'a [u8], end: &[u8]) -> Result<Option<Found<'a>>, Malformed> {
    let before = seen.len();
    if before == 0
        && let Some(offset) = bytes.windows(end.len()).take(MAX_HEAD).position(|window| window == end)
    {
        let (found, rest) = bytes.split_at(offset);
        return Ok(Some((found.to_vec(), rest.get(end.len()..).unwrap_or_default())));
    }
    seen.extend_from_slice(bytes.get(..MAX_HEAD.min(bytes.len())).unwrap_or_default());
    let from = before.saturating_sub(end.len() - 1);
    let found = seen.get(from..).and_then(|tail| tail.windows(end.len()).position(|window| window == end));
    match found {
        Some(offset) => {
            let used = from + offset + end.len() - before;
            seen.truncate(from + offset);
            Ok(Some((std::mem::take(seen), bytes.get(used..).unwrap_or_default())))
        }
        None if seen.len() >= MAX_HEAD => Err(Malformed::HeadTooLong),
        None => Ok(None),
    }
}

fn take_body<'a>(left: &mut u64, bytes: &'a [u8], message: &mut Message, body: Option<&mut Vec<u8>>) -> &'a [u8] {
    let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
    let (data, rest) = bytes.split_at(wanted.min(bytes.len()));
    let taken = u64::try_from(data.len()).unwrap_or(u64::MAX);
    *left -= taken;
    message.body_bytes += taken;
    if let Some(body) = body {
        body.extend_from_slice(data);
    }
    rest
}

fn read_head(head: &[u8], message: &mut Message) -> Result<Length, Malformed> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let start = lines.next().unwrap_or_default();
    if let Some(answer) = start.strip_prefix(b"HTTP/1.1 ") {
        let status = answer.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        message.status = status.ok_or_else(|| Malformed::StartLine(text(start)))?;
    } else if !start.ends_with(b" HTTP/1.1") {
        return Err(Malformed::StartLine(text(start)));
    }
    message.metrics = start.starts_with(b"GET /metrics ");
    message.event_sources = start.starts_with(b"GET /kv_event_sources ");
    let mut length = Length::Fixed(0);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(|| Malformed::Header(text(line)))?;
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            length = Length::Fixed(number(value).ok_or_else(|| Malformed::Header(text(line)))?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") && value.eq_ignore_ascii_case(b"chunked") {
            length = Length::Chunked;
        } else if name.eq_ignore_ascii_case(STREAM_EVENTS.as_bytes()) {
            let events = number(value).and_then(|events| u32::try_from(events).ok());
            message.stream.get_or_insert_default().events = events.ok_or_else(|| Malformed::Header(text(line)))?;
        } else if name.eq_ignore_ascii_case(STREAM_PAUSE.as_bytes()) {
            let pause = number(value).ok_or_else(|| Malformed::Header(text(line)))?;
            message.stream.get_or_insert_default().pause = Duration::from_micros(pause);
        }
    }
    Ok(length)
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let size = std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    size.ok_or_else(|| Malformed::ChunkSize(text(line)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..bytes.len().min(80)).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nt: v\r\n\r\n";
    const FIXED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
    const BODILESS: &[u8] = b"GET /ready HTTP/1.1\r\nhost: a\r\n\r\n";

    fn whole(bytes: &[u8]) -> Result<Option<Message>, Malformed> {
        Reader::counting().feed(bytes)
    }

    #[test]
    fn a_fixed_length_answer_ends_with_its_last_byte() {
        let message = Message { status: 503, body_bytes: 4, ..Message::default() };
        assert_eq!(whole(FIXED), Ok(Some(message)));
        assert_eq!(whole(FIXED.strip_suffix(b"y").expect("suffix")), Ok(None));
    }

    #[test]
    fn chunks_with_data_are_counted() {
        let message = Message { status: 200, body_bytes: 6, chunks: 2, ..Message::default() };
        assert_eq!(whole(CHUNKED), Ok(Some(message)));
    }

    #[test]
    fn a_request_carries_its_stream_wish() {
        let wish = StreamWish { events: 7, pause: Duration::from_micros(1500) };
        let request = b"POST / HTTP/1.1\r\nx-bench-events: 7\r\nX-Bench-Pause-Us: 1500\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(whole(request), Ok(Some(Message { stream: Some(wish), ..Message::default() })));
        assert_eq!(whole(BODILESS), Ok(Some(Message::default())));
        let scrape = Message { metrics: true, ..Message::default() };
        assert_eq!(whole(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n"), Ok(Some(scrape)));
    }

    #[test]
    fn bytes_after_the_end_are_an_error() {
        assert_eq!(whole(&[FIXED, b"HTTP"].concat()), Err(Malformed::Excess(4)));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        assert!(matches!(whole(b"\x16\x03\x01 hello\r\n\r\n"), Err(Malformed::StartLine(_))));
        assert!(matches!(whole(b"GET / HTTP/1.1\r\nno colon\r\n\r\n"), Err(Malformed::Header(_))));
        assert!(matches!(
            whole(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
            Err(Malformed::ChunkSize(_))
        ));
        assert_eq!(whole(&vec![b'a'; MAX_HEAD]), Err(Malformed::HeadTooLong));
    }

    #[test]
    fn a_kept_body_has_no_chunk_framing() {
        let mut reader = Reader::keeping_body();
        assert!(matches!(reader.feed(CHUNKED), Ok(Some(_))));
        assert_eq!(reader.into_body(), b"hello!");
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_reads_the_same(cuts in prop::collection::vec(1_usize..40, 1..60), which in 0_usize..3) {
            let bytes = [CHUNKED, FIXED, BODILESS][which];
            let mut reader = Reader::counting();
            let (mut rest, mut read) = (bytes, Vec::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (part, after) = rest.split_at((*cut).min(rest.len()));
                read.extend(reader.feed(part).expect("well-formed"));
                rest = after;
            }
            prop_assert_eq!(read, vec![whole(bytes).expect("well-formed").expect("complete")]);
        }
    }
}
