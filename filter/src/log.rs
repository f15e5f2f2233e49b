//! The process's copy of the table: the segments as they came, in a ring of shared-data keys, and a head that says where
//! the newest complete snapshot begins. A VM that starts late or was reloaded replays from there, control plane or not.

use shared::clock::Timestamp;

/// Segments in the ring. A snapshot is asked for before the ring would overwrite the base.
pub const RING: u64 = 16_384;
/// A fresh snapshot is due when this many segments follow the base.
pub const COMPACT_AFTER: u64 = RING / 2;

/// Where the log stands; sequence numbers count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// First segment of the newest complete snapshot; 0: none yet.
    pub base: u64,
    /// The next segment to be written.
    pub next: u64,
    /// When the control plane last said anything.
    pub heard: Timestamp,
}

impl Head {
    /// From shared data; `None` when the bytes are no head.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let ([base, next, heard], []) = bytes.as_chunks::<8>() else { return None };
        Some(Self {
            base: u64::from_le_bytes(*base),
            next: u64::from_le_bytes(*next),
            heard: Timestamp::from_nanos(u64::from_le_bytes(*heard)),
        })
    }

    /// For shared data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [self.base, self.next, self.heard.as_nanos()].into_iter().flat_map(u64::to_le_bytes).collect()
    }

    /// Should the control plane be asked for a snapshot, so that the ring can start over?
    #[must_use]
    pub const fn is_long(&self) -> bool {
        self.base > 0 && self.next.saturating_sub(self.base) > COMPACT_AFTER
    }
}

/// The shared-data key of segment `sequence`.
#[must_use]
pub fn key(sequence: u64) -> String {
    format!("kvasir/log/{}", sequence % RING)
}

/// A stored segment: sequence u64, received u64, bytes.
#[must_use]
pub fn seal(sequence: u64, received: Timestamp, segment: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + segment.len());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&received.as_nanos().to_le_bytes());
    bytes.extend_from_slice(segment);
    bytes
}

/// Opens what `seal` made; `None` when it is not segment `sequence` (the ring has gone round).
#[must_use]
pub fn open(sequence: u64, bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (found, rest) = bytes.split_first_chunk::<8>()?;
    let (received, segment) = rest.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*found) == sequence).then(|| (Timestamp::from_nanos(u64::from_le_bytes(*received)), segment))
}

#[cfg(test)]
mod tests {
    use super::{Head, RING, key, open, seal};
    use shared::clock::Timestamp;

    #[test]
    fn a_segment_that_the_ring_has_overwritten_is_not_taken_for_another() {
        let stored = seal(5 + RING, Timestamp::from_nanos(9), b"segment");
        assert_eq!(key(5), key(5 + RING));
        assert_eq!(open(5, &stored), None);
        assert_eq!(open(5 + RING, &stored), Some((Timestamp::from_nanos(9), &b"segment"[..])));
        assert_eq!(open(1, b"short"), None);
    }

    #[test]
    fn the_head_survives_and_asks_for_a_snapshot_in_time() {
        let head = Head { base: 3, next: 3 + RING / 2, heard: Timestamp::from_nanos(4) };
        assert_eq!(Head::decode(&head.encode()), Some(head));
        assert!(!head.is_long());
        assert!(Head { next: head.next + 1, ..head }.is_long());
        assert!(!Head { base: 0, ..head }.is_long());
    }
}
