//! One published payload to a [`Batch`]: all wire versions of vLLM (0.9 to 0.33) and SGLang. The batch is an array
//! `[time, events, rank]` in all of them; an event is an array by position in the older ones and a map in the newer.
//!
//! Unknown events and malformed ones are skipped and counted; only what breaks the framing itself fails the batch. The
//! reader is written by hand: derived decoders want one shape per type, and here every field has two or three.

use super::event::Batch;

mod fields;
mod read;
#[cfg(test)]
mod tests;

use fields::Fields;
use read::{Reader, Sign, Value};

/// Fewer bytes than this hold no event: the shortest is `["AllBlocksCleared"]`.
const SHORTEST_EVENT: usize = 18;

/// Why a payload is no batch. The whole batch is lost then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends too early, or claims a length beyond its end.
    #[error("payload ends before what it announces")]
    Truncated,
    /// A byte that begins no value.
    #[error("payload is not msgpack")]
    NotMsgpack,
    /// Not `[time, events, rank]`.
    #[error("payload is not an event batch")]
    NotABatch,
}

/// Why one event is left out: its framing is sound, its content is not what its name says, or its name is unknown.
enum Unfit {
    Event,
    Batch(DecodeError),
}

impl From<DecodeError> for Unfit {
    fn from(error: DecodeError) -> Self {
        Self::Batch(error)
    }
}

/// Reads one payload. Memory is at most a small multiple of the payload's length, whatever it claims.
///
/// # Errors
/// When the payload is truncated, not msgpack, or not a batch.
pub fn decode(payload: &[u8]) -> Result<Batch, DecodeError> {
    let mut reader = Reader::new(payload);
    let Value::Array(length) = reader.value()? else { return Err(DecodeError::NotABatch) };
    let Some(extra) = length.checked_sub(2) else { return Err(DecodeError::NotABatch) };
    let mut batch = Batch { at: time(reader.value()?)?, ..Batch::default() };
    let Value::Array(events) = reader.value()? else { return Err(DecodeError::NotABatch) };
    batch.events.reserve_exact(events.min(reader.left() / SHORTEST_EVENT));
    for _ in 0..events {
        let start = reader;
        match Fields::read(&mut reader).and_then(Fields::into_event) {
            Ok(event) => batch.events.push(event),
            Err(Unfit::Event) => {
                batch.skipped = batch.skipped.saturating_add(1);
                reader = start;
                reader.skip(1)?;
            }
            Err(Unfit::Batch(error)) => return Err(error),
        }
    }
    if extra > 0 {
        batch.rank = rank(&mut reader)?;
    }
    Ok(batch)
}

fn time(value: Value<'_>) -> Result<f64, DecodeError> {
    if let Value::Float(seconds) = value {
        return Ok(seconds);
    }
    let Value::Int(seconds, _) = value else { return Err(DecodeError::NotABatch) };
    u32::try_from(seconds).map(f64::from).map_err(|_| DecodeError::NotABatch)
}

fn rank(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let mut value = *reader;
    reader.skip(1)?;
    let Value::Int(rank, Sign::Positive) = value.value()? else { return Ok(0) };
    Ok(u32::try_from(rank).unwrap_or(0))
}
