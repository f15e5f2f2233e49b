//! An endpoint slot and a cache tier in one number, as the table carries it: slot * 4 + tier.

use shared::identity::Slot;

/// Where in an endpoint a chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Device memory: usable at once.
    Gpu,
    /// Host memory: has to be reloaded.
    Cpu,
    /// Disk or a remote store.
    Storage,
    /// No place: beside a tier of the same endpoint it says that a prompt can go on from here, where holding every block
    /// before is not enough (engines with cache groups of several kinds).
    Checkpoint,
}

/// One endpoint's tier. Ordered by slot, then tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(u16);

impl Holder {
    /// The tier `tier` of the endpoint at `slot`.
    #[must_use]
    pub fn new(slot: Slot, tier: Tier) -> Self {
        let tier = match tier {
            Tier::Gpu => 0,
            Tier::Cpu => 1,
            Tier::Storage => 2,
            Tier::Checkpoint => 3,
        };
        // A slot is below 1024: the sum is below 4096.
        Self(u16::try_from(slot.index()).unwrap_or(u16::MAX / 4).saturating_mul(4).saturating_add(tier))
    }

    /// Says that a prompt can go on from here, not where a block lies.
    #[must_use]
    pub const fn is_checkpoint(self) -> bool {
        self.0 % 4 == 3
    }

    /// Index of the slot.
    #[must_use]
    pub const fn slot_index(self) -> usize {
        (self.0 / 4) as usize
    }

    /// As `ResidencyGroup.holders` carries it.
    #[must_use]
    pub fn wire(self) -> u32 {
        u32::from(self.0)
    }
}
