//! Amounts of booked work, and arithmetic on them that cannot overflow: a hostile report must not wrap a sum.

use shared::wire::Bookings;

/// Requests and tokens in flight; sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests whose first token was not seen (P).
    pub waiting: u64,
    /// Requests that decode (D).
    pub decoding: u64,
    /// Uncached prompt tokens of the waiting (Q).
    pub queued_tokens: u64,
    /// Context tokens of all in flight (C).
    pub context_tokens: u64,
}

impl From<&Bookings> for Load {
    fn from(wire: &Bookings) -> Self {
        Self {
            waiting: wire.waiting.into(),
            decoding: wire.decoding.into(),
            queued_tokens: wire.queued_tokens,
            context_tokens: wire.context_tokens,
        }
    }
}

impl Load {
    /// P + D.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.waiting.saturating_add(self.decoding)
    }

    /// Sum.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            waiting: self.waiting.saturating_add(other.waiting),
            decoding: self.decoding.saturating_add(other.decoding),
            queued_tokens: self.queued_tokens.saturating_add(other.queued_tokens),
            context_tokens: self.context_tokens.saturating_add(other.context_tokens),
        }
    }

    /// Scaled down in proportion until at most `most` requests are in flight, rounded down.
    #[must_use]
    pub fn clamped(self, most: u64) -> Self {
        let in_flight = self.in_flight();
        if in_flight <= most {
            return self;
        }
        let scale = |amount: u64| {
            let scaled = u128::from(amount) * u128::from(most) / u128::from(in_flight);
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        Self {
            waiting: scale(self.waiting),
            decoding: scale(self.decoding),
            queued_tokens: scale(self.queued_tokens),
            context_tokens: scale(self.context_tokens),
        }
    }

    /// As the table carries it.
    #[must_use]
    pub fn wire(&self) -> Bookings {
        Bookings {
            waiting: u32::try_from(self.waiting).unwrap_or(u32::MAX),
            decoding: u32::try_from(self.decoding).unwrap_or(u32::MAX),
            queued_tokens: self.queued_tokens,
            context_tokens: self.context_tokens,
        }
    }
}
