//! A gateway of the bench's own on the control plane's stream: it folds what Envoy's leader folds, and notes which version
//! brought each marker.

pub(crate) mod stream;

use shared::table::sync::{Folded, Refused, TableSync};
use shared::wire::Segment;
use std::collections::HashMap;
use std::time::Duration;

use super::timeline::Sighting;
use prost::Message as _;

/// The table, and the markers that are on their way. Times since the run began.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    table: TableSync,
    /// By the key of their last chunk: when they were published, and who waits.
    pending: HashMap<u64, Duration>,
    pub(crate) sightings: Vec<(u64, Sighting)>,
    pub(crate) bytes: u64,
    pub(crate) segments: u64,
}

impl Watch {
    /// A marker whose last chunk has this key was published.
    pub(crate) fn expect(&mut self, key: u64, published: Duration) {
        self.pending.insert(key, published);
    }

    /// Markers that were not seen.
    pub(crate) fn unseen(&self) -> usize {
        self.pending.len()
    }

    /// Chunks that somebody holds.
    pub(crate) fn resident_chunks(&self) -> usize {
        self.table.table().pools.values().map(|pool| pool.residency.len()).sum()
    }

    /// Folds a segment in; the version now in force.
    pub(crate) fn fold(&mut self, segment: &Segment, now: Duration) -> Result<u64, Refused> {
        let bytes = segment.encode_to_vec();
        self.bytes += u64::try_from(bytes.len()).unwrap_or(0);
        self.segments += 1;
        if let Folded::InForce(version) = self.table.fold(&bytes)? {
            let groups =
                segment.pools.iter().flat_map(|pool| &pool.residency).filter(|group| !group.holders.is_empty());
            for key in groups.flat_map(|group| &group.keys) {
                if let Some(published) = self.pending.remove(key) {
                    self.sightings.push((*key, Sighting { published, received: now, version: version.version }));
                }
            }
        }
        Ok(self.table.table().version.version)
    }
}
