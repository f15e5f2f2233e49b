//! Names of things: an endpoint is known by its address everywhere, and by a small slot number inside one table.

use core::hash::{BuildHasherDefault, Hasher};
use std::collections::HashMap;

use xxhash_rust::xxh64::xxh64;

/// Endpoints of one pool are numbered below this.
pub const MAX_ENDPOINTS: u16 = 1024;

/// xxh64 (seed 0) of the address text `ip:port`. The same in every gateway and over every restart, unlike a `Slot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u64);

impl EndpointId {
    /// The id of the endpoint at `address` (`ip:port`, as it stands in the steering header).
    #[must_use]
    pub fn of(address: &str) -> Self {
        Self(xxh64(address.as_bytes(), 0))
    }
}

/// Position of an endpoint in its pool's table, below `MAX_ENDPOINTS`; means nothing outside one table epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// `None` when `index` is not below `MAX_ENDPOINTS`.
    #[must_use]
    pub fn new(index: u32) -> Option<Self> {
        u16::try_from(index).ok().filter(|&i| i < MAX_ENDPOINTS).map(Self)
    }

    /// The index into slot-ordered vectors.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A map whose keys are 64-bit hashes already: hashing them again would cost more than the lookup.
pub type HashedMap<K, V> = HashMap<K, V, BuildHasherDefault<AlreadyHashed>>;

/// Takes the last 64-bit word written as the hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh64(bytes, self.0);
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}
