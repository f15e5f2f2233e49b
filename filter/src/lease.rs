//! Which VM of the process talks to the control plane: whoever holds the lease in shared data, taken and renewed by
//! compare-and-swap. A holder that stops renewing loses it.

use core::time::Duration;

use shared::clock::Timestamp;

/// How long a lease lasts without renewal.
pub const TERM: Duration = Duration::from_secs(1);

/// The lease as it stands in shared data: holder u64, expiry u64, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The VM that holds it.
    pub holder: u64,
    /// Until when.
    pub until: Timestamp,
}

/// What a VM should do about a lease it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Another VM holds it.
    Follow,
    /// This VM holds it for long enough.
    Lead,
    /// This VM should write the lease given: it is free, or half over.
    Write(Lease),
}

impl Lease {
    /// From shared data; `None` when the bytes are no lease.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let ([holder, until], []) = bytes.as_chunks::<8>() else { return None };
        Some(Self { holder: u64::from_le_bytes(*holder), until: Timestamp::from_nanos(u64::from_le_bytes(*until)) })
    }

    /// For shared data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [self.holder.to_le_bytes(), self.until.as_nanos().to_le_bytes()].concat()
    }
}

/// What VM `me` should do at `now`, having read `current`.
#[must_use]
pub fn claim(current: Option<Lease>, me: u64, now: Timestamp) -> Claim {
    match current {
        Some(lease) if lease.holder != me && now < lease.until => Claim::Follow,
        Some(lease) if lease.holder == me && now.after(TERM / 2) < lease.until => Claim::Lead,
        _ => Claim::Write(Lease { holder: me, until: now.after(TERM) }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, Lease, claim};
    use shared::clock::Timestamp;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_lease_is_taken_when_free_or_over_and_renewed_at_half_time() {
        let mine = Lease { holder: 1, until: at(1000) };
        assert_eq!(claim(None, 1, at(0)), Claim::Write(mine));
        assert_eq!(claim(Some(mine), 1, at(400)), Claim::Lead);
        assert_eq!(claim(Some(mine), 1, at(500)), Claim::Write(Lease { holder: 1, until: at(1500) }));
        assert_eq!(claim(Some(mine), 2, at(999)), Claim::Follow);
        assert_eq!(claim(Some(mine), 2, at(1000)), Claim::Write(Lease { holder: 2, until: at(2000) }));
        assert_eq!(Lease::decode(&mine.encode()), Some(mine));
        assert_eq!(Lease::decode(b"short"), None);
    }
}
