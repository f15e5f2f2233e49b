//! The messages of vLLM's gRPC service on their way back: how many brought tokens, and what they said of usage.
//!
//! `Generate` answers with chunks and closes with the whole, which repeats all tokens; what does not stream answers with
//! the whole alone. A message is held up to [`KEPT_BYTES`]; of a longer one nothing is read but that it came.

use super::usage::Usage;
use crate::api::grpc::{Fields, Frames, Malformed, Piece, Value};

/// Some 200,000 token ids.
const KEPT_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct MessageStream {
    frames: Frames,
    message: Vec<u8>,
    /// It is compressed, or longer than is kept.
    unread: bool,
    pub(super) usage: Option<Usage>,
}

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Chunk,
    Whole,
}

impl MessageStream {
    pub(super) fn restart(&mut self) {
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        *self = Self { message, ..Self::default() };
    }

    /// Takes the next bytes; returns how many messages with tokens ended in them.
    pub(super) fn push(&mut self, chunk: &[u8]) -> u32 {
        let (mut events, mut rest) = (0, chunk);
        while let Some(piece) = self.frames.next(&mut rest) {
            match piece {
                Piece::Start { compressed } => {
                    self.message.clear();
                    self.unread = compressed;
                }
                Piece::Bytes(bytes) => {
                    self.unread = self.unread || self.message.len() + bytes.len() > KEPT_BYTES;
                    if !self.unread {
                        self.message.extend_from_slice(bytes);
                    }
                }
                Piece::End => events += u32::from(self.unread || self.has_tokens()),
            }
        }
        events
    }

    /// Reads the message at hand. One that cannot be read has come all the same.
    fn has_tokens(&mut self) -> bool {
        let Ok((part, usage)) = read(&self.message) else { return true };
        if usage != Usage::default() {
            self.usage = Some(self.usage.unwrap_or_default().merged(usage));
        }
        part != Some(Part::Whole)
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.message.capacity()
    }
}

/// Field 1 is a chunk, field 2 the whole: `GenerateResponse` of `vllm_engine.proto`. Of an `EmbedResponse` field 1 is the
/// packed vector and field 2 the count of prompt tokens.
fn read(message: &[u8]) -> Result<(Option<Part>, Usage), Malformed> {
    let mut read = (None, Usage::default());
    for field in Fields::new(message) {
        match field? {
            (1, Value::Bytes(chunk)) => {
                if let Ok(usage) = usage(chunk, 2) {
                    read = (Some(Part::Chunk), usage);
                }
            }
            (2, Value::Bytes(whole)) => read = (Some(Part::Whole), usage(whole, 3)?),
            (2, prompt) => read.1 = Usage { prompt_tokens: prompt.number(), ..Usage::default() },
            _ => {}
        }
    }
    Ok(read)
}

/// Prompt, output and cached tokens are three fields in a row. Zero prompt tokens are none reported: the wire leaves
/// zeros out, and every prompt has tokens.
fn usage(message: &[u8], first: u32) -> Result<Usage, Malformed> {
    let mut counts = [0_u32; 3];
    for field in Fields::new(message) {
        let (number, value) = field?;
        let place = number.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        if let (Some(slot), Some(count)) = (place.and_then(|place| counts.get_mut(place)), value.number()) {
            *slot = count;
        }
    }
    let [prompt, output, cached] = counts;
    let reported = prompt > 0;
    Ok(Usage {
        prompt_tokens: reported.then_some(prompt),
        output_tokens: reported.then_some(output),
        cached_tokens: reported.then_some(cached),
    })
}
