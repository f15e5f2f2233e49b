//! The VMs of the process, in shared data: who is there, and the queue that wakes each. Entries are renewed; a VM that
//! trapped or belonged to an old configuration stops renewing and drops out.
//!
//! Row, little-endian: id u64, queue u32, zero u32, stamp u64.

use core::time::Duration;

use shared::clock::Timestamp;

/// A row renewed longer ago than this is dead.
pub const LIFETIME: Duration = Duration::from_secs(5);

/// One VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Unique in the process.
    pub id: u64,
    /// Token of the shared queue that wakes it.
    pub queue: u32,
    /// When it last renewed.
    pub stamp: Timestamp,
}

/// The members in `bytes`; a damaged tail is ignored.
#[must_use]
pub fn decode(bytes: &[u8]) -> Vec<Member> {
    let (words, _) = bytes.as_chunks::<8>();
    let (rows, _) = words.as_chunks::<3>();
    rows.iter()
        .map(|[id, queue, stamp]| Member {
            id: u64::from_le_bytes(*id),
            queue: u32::try_from(u64::from_le_bytes(*queue)).unwrap_or(u32::MAX),
            stamp: Timestamp::from_nanos(u64::from_le_bytes(*stamp)),
        })
        .collect()
}

/// The bytes for shared data.
#[must_use]
pub fn encode(members: &[Member]) -> Vec<u8> {
    members
        .iter()
        .flat_map(|member| [member.id, u64::from(member.queue), member.stamp.as_nanos()])
        .flat_map(u64::to_le_bytes)
        .collect()
}

/// `members` with `me` renewed and the dead gone.
#[must_use]
pub fn renewed(members: &[Member], me: Member) -> Vec<Member> {
    let alive = |member: &&Member| member.id != me.id && me.stamp.since(member.stamp) < LIFETIME;
    members.iter().filter(alive).copied().chain([me]).collect()
}

#[cfg(test)]
mod tests {
    use super::{Member, decode, encode, renewed};
    use shared::clock::Timestamp;

    #[test]
    fn the_dead_drop_out_and_the_living_are_kept() {
        let member = |id, seconds| Member { id, queue: 7, stamp: Timestamp::from_secs_f64(seconds) };
        let members = [member(1, 1.0), member(2, 4.0), member(3, 5.0)];
        assert_eq!(decode(&encode(&members)), members);
        let now = renewed(&members, member(3, 8.0));
        assert_eq!(now.iter().map(|member| member.id).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(decode(&[1; 23]), []);
    }
}
