//! One VM's bookings as bytes in Envoy's shared data, so that every worker of the process sees every other's. Written
//! whole by its owner, read whole by the others; a vector whose owner stopped renewing it no longer counts.
//!
//! Layout, little-endian: stamp u64 (nanoseconds), then per endpoint id u64, waiting u32, decoding u32, queued u64,
//! context u64.

use super::Ledger;
use crate::clock::Timestamp;
use crate::identity::EndpointId;
use crate::table::live::Work;

const HEADER: usize = 8;
const ROW: usize = 32;

/// A decoded vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmVector {
    /// When its owner last renewed it.
    pub stamp: Timestamp,
    /// Its endpoints with work.
    pub rows: Vec<(EndpointId, Work)>,
}

/// The bytes are no vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a booking vector of {0} bytes")]
pub struct VectorError(usize);

impl VmVector {
    /// Decodes a vector.
    ///
    /// # Errors
    /// When the length is not a header and whole rows.
    pub fn decode(bytes: &[u8]) -> Result<Self, VectorError> {
        let (stamp, rows) = bytes.split_first_chunk::<HEADER>().ok_or(VectorError(bytes.len()))?;
        let (rows, []) = rows.as_chunks::<ROW>() else { return Err(VectorError(bytes.len())) };
        Ok(Self { stamp: Timestamp::from_nanos(u64::from_le_bytes(*stamp)), rows: rows.iter().map(row).collect() })
    }
}

fn row(bytes: &[u8; ROW]) -> (EndpointId, Work) {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, from)| *to = *from);
        u64::from_le_bytes(word)
    };
    let counts = word(8);
    let work = Work {
        waiting: u32::try_from(counts & u64::from(u32::MAX)).unwrap_or(u32::MAX),
        decoding: u32::try_from(counts >> 32).unwrap_or(u32::MAX),
        queued_tokens: word(16),
        context_tokens: word(24),
    };
    (EndpointId(word(0)), work)
}

impl Ledger {
    /// This VM's own work, to be shared, renewed at `now`.
    #[must_use]
    pub fn own_vector(&self, now: Timestamp) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.tallies.len() * ROW);
        bytes.extend_from_slice(&now.as_nanos().to_le_bytes());
        for tally in self.tallies.iter().filter(|tally| !tally.own.is_idle()) {
            bytes.extend_from_slice(&tally.id.0.to_le_bytes());
            bytes.extend_from_slice(&tally.own.waiting.to_le_bytes());
            bytes.extend_from_slice(&tally.own.decoding.to_le_bytes());
            bytes.extend_from_slice(&tally.own.queued_tokens.to_le_bytes());
            bytes.extend_from_slice(&tally.own.context_tokens.to_le_bytes());
        }
        bytes
    }

    /// Replaces what is known of the sibling VMs by the sum of `vectors`.
    pub fn set_siblings<'a>(&mut self, vectors: impl IntoIterator<Item = &'a VmVector>) {
        for tally in &mut self.tallies {
            tally.siblings = Work::default();
        }
        for vector in vectors {
            for &(id, work) in &vector.rows {
                let number = self.number(id);
                if let Some(tally) = self.tallies.get_mut(number as usize) {
                    tally.siblings = tally.siblings.plus(work);
                }
            }
        }
    }
}
