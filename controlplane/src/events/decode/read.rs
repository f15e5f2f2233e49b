//! Reads msgpack from a slice, value by value. Every length that the input claims is checked against the bytes that are
//! left before anything is allocated; a value costs at least one byte, so claims of more values than bytes are lies.
//! Skipping counts values instead of recursing, so nesting of any depth is safe.

use super::DecodeError;

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

/// One value; arrays and maps only by their length, their members follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Nil,
    Bool,
    /// Any integer; negative ones as two's complement, which is how hashes that are signed on the wire are meant.
    Int(u64, Sign),
    Float(f64),
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    Array(usize),
    Map(usize),
    /// Extension types; msgspec writes none.
    Extension,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Positive,
    Negative,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// Bytes left.
    pub(super) const fn left(&self) -> usize {
        self.0.len()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.0.split_first().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (chunk, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*chunk)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(length).map_err(|_| DecodeError::Truncated)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn big(&mut self, width: Width) -> Result<u64, DecodeError> {
        Ok(match width {
            Width::One => u64::from(self.byte()?),
            Width::Two => u64::from(u16::from_be_bytes(self.chunk()?)),
            Width::Four => u64::from(u32::from_be_bytes(self.chunk()?)),
            Width::Eight => u64::from_be_bytes(self.chunk()?),
        })
    }

    /// A claim of `length` members of at least `each` bytes.
    fn members(&self, length: u64, each: usize) -> Result<usize, DecodeError> {
        let length = usize::try_from(length).map_err(|_| DecodeError::Truncated)?;
        match length.checked_mul(each) {
            Some(bytes) if bytes <= self.left() => Ok(length),
            Some(_) | None => Err(DecodeError::Truncated),
        }
    }

    /// The next value.
    pub(super) fn value(&mut self) -> Result<Value<'a>, DecodeError> {
        let tag = self.byte()?;
        Ok(match tag {
            0x00..=0x7f => Value::Int(u64::from(tag), Sign::Positive),
            0x80..=0x8f => Value::Map(self.members(u64::from(tag & 0x0f), 2)?),
            0x90..=0x9f => Value::Array(self.members(u64::from(tag & 0x0f), 1)?),
            0xa0..=0xbf => Value::Text(self.take(u64::from(tag & 0x1f))?),
            0xc0 => Value::Nil,
            0xc1 => return Err(DecodeError::NotMsgpack),
            0xc2 | 0xc3 => Value::Bool,
            0xc4..=0xc6 => Value::Bytes(self.sized(tag - 0xc4)?),
            0xc7..=0xc9 => self.extension(tag - 0xc7)?,
            0xca => Value::Float(f64::from(f32::from_be_bytes(self.chunk()?))),
            0xcb => Value::Float(f64::from_be_bytes(self.chunk()?)),
            0xcc => Value::Int(self.big(Width::One)?, Sign::Positive),
            0xcd => Value::Int(self.big(Width::Two)?, Sign::Positive),
            0xce => Value::Int(self.big(Width::Four)?, Sign::Positive),
            0xcf => Value::Int(self.big(Width::Eight)?, Sign::Positive),
            0xd0 => signed(i64::from(i8::from_be_bytes(self.chunk()?))),
            0xd1 => signed(i64::from(i16::from_be_bytes(self.chunk()?))),
            0xd2 => signed(i64::from(i32::from_be_bytes(self.chunk()?))),
            0xd3 => signed(i64::from_be_bytes(self.chunk()?)),
            0xd4..=0xd8 => {
                self.take((1_u64 << (tag - 0xd4)) + 1)?;
                Value::Extension
            }
            0xd9..=0xdb => Value::Text(self.sized(tag - 0xd9)?),
            0xdc => Value::Array(self.claimed(Width::Two, 1)?),
            0xdd => Value::Array(self.claimed(Width::Four, 1)?),
            0xde => Value::Map(self.claimed(Width::Two, 2)?),
            0xdf => Value::Map(self.claimed(Width::Four, 2)?),
            0xe0..=0xff => signed(i64::from(i8::from_be_bytes([tag]))),
        })
    }

    fn claimed(&mut self, width: Width, each: usize) -> Result<usize, DecodeError> {
        let length = self.big(width)?;
        self.members(length, each)
    }

    fn sized(&mut self, which: u8) -> Result<&'a [u8], DecodeError> {
        let length = self.big(Width::of(which))?;
        self.take(length)
    }

    fn extension(&mut self, which: u8) -> Result<Value<'a>, DecodeError> {
        let length = self.big(Width::of(which))?;
        self.take(length.saturating_add(1))?;
        Ok(Value::Extension)
    }

    /// Passes over `count` values with all that is in them.
    pub(super) fn skip(&mut self, count: usize) -> Result<(), DecodeError> {
        let mut pending = count;
        while pending > 0 {
            pending -= 1;
            let members = match self.value()? {
                Value::Array(length) => length,
                Value::Map(length) => length.saturating_mul(2),
                Value::Nil
                | Value::Bool
                | Value::Int(..)
                | Value::Float(_)
                | Value::Text(_)
                | Value::Bytes(_)
                | Value::Extension => 0,
            };
            pending = pending.saturating_add(members);
            if pending > self.left() {
                return Err(DecodeError::Truncated);
            }
        }
        Ok(())
    }

    /// A token id in its commonest spellings, without the detour over [`Value`]; `None` leaves the reader where it was.
    #[inline]
    pub(super) fn token(&mut self) -> Option<u32> {
        let (token, rest) = match self.0 {
            [0xcd, high, low, rest @ ..] => (u32::from(u16::from_be_bytes([*high, *low])), rest),
            [0xce, a, b, c, d, rest @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]), rest),
            [small @ 0x00..=0x7f, rest @ ..] => (u32::from(*small), rest),
            [0xcc, byte, rest @ ..] => (u32::from(*byte), rest),
            _ => return None,
        };
        self.0 = rest;
        Some(token)
    }
}

#[derive(Clone, Copy)]
enum Width {
    One,
    Two,
    Four,
    Eight,
}

impl Width {
    /// Of the 8, 16 and 32 bit members of a family of tags.
    const fn of(which: u8) -> Self {
        match which {
            0 => Self::One,
            1 => Self::Two,
            _ => Self::Four,
        }
    }
}

const fn signed<'a>(number: i64) -> Value<'a> {
    Value::Int(number.cast_unsigned(), if number < 0 { Sign::Negative } else { Sign::Positive })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing may be allocated for a claim that the input cannot keep; the header alone must tell.
    #[test]
    fn a_length_is_refused_where_it_is_claimed_when_fewer_bytes_are_left() {
        let claims: [(&[u8], Result<Value<'_>, DecodeError>); 6] = [
            (&[0x93, 0xc0, 0xc0, 0xc0], Ok(Value::Array(3))),
            (&[0x93, 0xc0, 0xc0], Err(DecodeError::Truncated)),
            (&[0xdc, 0, 3, 0xc0, 0xc0], Err(DecodeError::Truncated)),
            (&[0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0], Err(DecodeError::Truncated)),
            (&[0x82, 0xc0, 0xc0, 0xc0], Err(DecodeError::Truncated)),
            (&[0xc6, 0xff, 0xff, 0xff, 0xff, 0xc0], Err(DecodeError::Truncated)),
        ];
        for (input, expected) in claims {
            assert_eq!(Reader::new(input).value(), expected, "{input:x?}");
        }
    }
}
