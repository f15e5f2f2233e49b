//! gRPC as far as routing needs it: length-prefixed messages out of a byte stream, and the fields of one message.
//!
//! A length is a claim: nothing is allocated for it before the bytes have come.

mod fields;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod written;

pub(crate) use fields::{Fields, Malformed, Value};

/// What stands at the start of a stream's rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'c> {
    /// A message begins.
    Start { compressed: bool },
    /// Its next bytes.
    Bytes(&'c [u8]),
    /// It is whole.
    End,
}

/// Splits a stream into messages: a flag, the length as four bytes, the highest first, then so many bytes.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Of the message's five bytes before its contents, those that have come.
    prefix: Prefix,
    /// Bytes of the open message that are still to come.
    left: Option<u32>,
}

#[derive(Debug, Default)]
struct Prefix {
    bytes: [u8; 5],
    known: usize,
}

impl Frames {
    /// The next piece of what `rest` continues, which is left with what is behind it. `None`: it is used up.
    pub(crate) fn next<'c>(&mut self, rest: &mut &'c [u8]) -> Option<Piece<'c>> {
        match self.left {
            None => self.begin(rest),
            Some(0) => {
                self.left = None;
                Some(Piece::End)
            }
            Some(_) if rest.is_empty() => None,
            Some(left) => {
                let most = usize::try_from(left).unwrap_or(usize::MAX);
                let (bytes, behind) = rest.split_at_checked(most).unwrap_or((rest, &[]));
                self.left = Some(left.saturating_sub(u32::try_from(bytes.len()).unwrap_or(u32::MAX)));
                *rest = behind;
                Some(Piece::Bytes(bytes))
            }
        }
    }

    /// Is the stream between two messages?
    pub(crate) const fn is_between(&self) -> bool {
        self.left.is_none() && self.prefix.known == 0
    }

    fn begin<'c>(&mut self, rest: &mut &[u8]) -> Option<Piece<'c>> {
        while let Some(slot) = self.prefix.bytes.get_mut(self.prefix.known) {
            let (&byte, behind) = rest.split_first()?;
            *slot = byte;
            self.prefix.known += 1;
            *rest = behind;
        }
        let [flag, length @ ..] = std::mem::take(&mut self.prefix).bytes;
        self.left = Some(u32::from_be_bytes(length));
        Some(Piece::Start { compressed: flag != 0 })
    }
}
