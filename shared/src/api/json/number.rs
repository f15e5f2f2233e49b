//! The value of a number's text, as far as counts and ids need it: whole, not negative, without an exponent.

/// A whole number read digit by digit.
#[derive(Debug, Default)]
pub(crate) struct NumberReader {
    value: u64,
    /// Behind the decimal point.
    fraction: bool,
    /// Negative, not whole, or with an exponent.
    odd: bool,
}

impl NumberReader {
    #[inline]
    pub(crate) fn push(&mut self, text: &[u8]) {
        for &byte in text {
            match byte {
                b'0' if self.fraction => {}
                b'0'..=b'9' if !self.fraction => {
                    self.value = self.value.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
                }
                b'.' => self.fraction = true,
                _ => self.odd = true,
            }
        }
    }

    /// A token id: digits alone.
    #[inline]
    pub(crate) fn token_id(&self) -> Option<u32> {
        if self.odd || self.fraction { None } else { u32::try_from(self.value).ok() }
    }

    /// A limit: a whole number, `5.0` too, beyond `u32::MAX` taken for that.
    pub(crate) fn limit(&self) -> Option<u32> {
        if self.odd { None } else { Some(u32::try_from(self.value).unwrap_or(u32::MAX)) }
    }
}
