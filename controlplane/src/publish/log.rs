//! The published table as segments: the recent deltas, and the last snapshot for as long as the deltas continue it.
//!
//! A reader says which version it has and gets what comes next. A snapshot is made only when somebody needs one and the
//! last one is too old to be continued.

use std::collections::VecDeque;
use std::sync::Arc;

use prost::Message;
use shared::wire::{PoolChange, Segment};

/// Deltas are kept up to this many encoded bytes: a gateway that was away for less resumes.
pub const LOG_BYTES: usize = 16 << 20;
/// Deltas given out at once.
const BATCH: usize = 32;

#[derive(Clone, Debug)]
struct Snapshot {
    version: u64,
    parts: Vec<Arc<Segment>>,
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing is newer than what it has.
    UpToDate,
    /// Send these, in order; then it has this version.
    Segments(Vec<Arc<Segment>>, u64),
    /// A snapshot has to be made first.
    NeedsSnapshot,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct TableLog {
    epoch: u64,
    version: u64,
    deltas: VecDeque<(Arc<Segment>, usize)>,
    bytes: usize,
    limit: usize,
    snapshot: Option<Snapshot>,
}

impl TableLog {
    /// Empty, at version 1. `epoch` must differ from those of earlier control planes and not be 0; `limit` is in bytes.
    #[must_use]
    pub const fn new(epoch: u64, limit: usize) -> Self {
        Self { epoch, version: 1, deltas: VecDeque::new(), bytes: 0, limit, snapshot: None }
    }

    /// Of all segments in here.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The newest version.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Publishes one delta; the oldest go when there is no room.
    pub fn append(&mut self, pools: Vec<PoolChange>) {
        self.version += 1;
        let delta = Segment { epoch: self.epoch, version: self.version, part: 0, parts: 0, pools };
        let bytes = delta.encoded_len();
        self.bytes += bytes;
        self.deltas.push_back((Arc::new(delta), bytes));
        while self.bytes > self.limit
            && let Some((_, bytes)) = self.deltas.pop_front()
        {
            self.bytes -= bytes;
        }
    }

    /// `parts` are the whole table as it is at the newest version; none for an empty table.
    pub fn set_snapshot(&mut self, parts: Vec<Vec<PoolChange>>) {
        let parts = snapshot_segments(self.epoch, self.version, parts).into_iter().map(Arc::new).collect();
        self.snapshot = Some(Snapshot { version: self.version, parts });
    }

    /// Is there no snapshot that deltas continue?
    #[must_use]
    pub fn needs_snapshot(&self) -> bool {
        self.snapshot.as_ref().is_none_or(|snapshot| !self.continues(snapshot.version))
    }

    /// Can a reader that has `version` go on by deltas?
    #[must_use]
    pub fn continues(&self, version: u64) -> bool {
        let oldest = self.deltas.front().map_or(self.version + 1, |(delta, _)| delta.version);
        version <= self.version && version + 1 >= oldest
    }

    /// What a reader needs that has `version` (`None`: nothing usable).
    #[must_use]
    pub fn next(&self, version: Option<u64>) -> Next {
        match version.filter(|&v| self.continues(v)) {
            Some(version) if version == self.version => Next::UpToDate,
            Some(version) => {
                let oldest = self.deltas.front().map_or(0, |(delta, _)| delta.version);
                let skip = usize::try_from((version + 1).saturating_sub(oldest)).unwrap_or(usize::MAX);
                let batch: Vec<_> = self.deltas.iter().skip(skip).take(BATCH).map(|(delta, _)| delta.clone()).collect();
                let last = batch.last().map_or(version, |delta| delta.version);
                Next::Segments(batch, last)
            }
            None => match &self.snapshot {
                Some(snapshot) if self.continues(snapshot.version) => {
                    Next::Segments(snapshot.parts.clone(), snapshot.version)
                }
                _ => Next::NeedsSnapshot,
            },
        }
    }

    /// Where a gateway that says it has this stands; `None` when it needs a snapshot.
    #[must_use]
    pub fn resume(&self, epoch: u64, version: u64) -> Option<u64> {
        (epoch == self.epoch && self.continues(version)).then_some(version)
    }
}

/// Numbers the parts of a snapshot; an empty table has one empty part.
#[must_use]
pub fn snapshot_segments(epoch: u64, version: u64, mut parts: Vec<Vec<PoolChange>>) -> Vec<Segment> {
    if parts.is_empty() {
        parts.push(Vec::new());
    }
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let segment = |(part, pools)| Segment { epoch, version, part, parts: count, pools };
    (1u32..).zip(parts).map(segment).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change(i: u64) -> Vec<PoolChange> {
        vec![PoolChange { name: format!("pool-{i}"), ..PoolChange::default() }]
    }

    proptest! {
        /// From any version, known or not, a reader reaches the newest by snapshot and deltas n -> n+1 only.
        #[test]
        fn a_reader_reaches_the_newest_version_from_anywhere(deltas in 0..80u64, limit in 0..2000usize, have in proptest::option::of(0..100u64)) {
            let mut log = TableLog::new(9, limit);
            for i in 0..deltas {
                log.append(change(i));
            }
            let mut at = have.and_then(|version| log.resume(9, version));
            prop_assert_eq!(log.resume(8, 1), None);
            for _ in 0..200 {
                match log.next(at) {
                    Next::UpToDate => break,
                    Next::NeedsSnapshot => {
                        prop_assert!(at.is_none());
                        log.set_snapshot(Vec::new());
                    }
                    Next::Segments(segments, reached) => {
                        for segment in &segments {
                            if segment.parts == 0 {
                                prop_assert_eq!(Some(segment.version), at.map(|v| v + 1));
                            }
                            at = Some(segment.version);
                        }
                        prop_assert_eq!(at, Some(reached));
                    }
                }
            }
            prop_assert_eq!(at, Some(log.version()));
        }
    }

    #[test]
    fn a_snapshot_that_deltas_no_longer_continue_is_not_used() {
        let mut log = TableLog::new(9, 60);
        log.set_snapshot(Vec::new());
        assert!(matches!(log.next(None), Next::Segments(_, 1)));
        for i in 0..50 {
            log.append(change(i));
        }
        assert_eq!(log.next(None), Next::NeedsSnapshot);
        assert_eq!(log.next(Some(1)), Next::NeedsSnapshot);
    }
}
