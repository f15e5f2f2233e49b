//! Work that gateways say they have in flight, and what scrapes show beyond it.
//!
//! `Ledger::others` answers for one gateway at a time: everybody's work but its own. A gateway's own bookings are younger
//! in the gateway than anything known here, so they must never come back to it.

pub mod arrivals;
pub mod failing;
pub mod history;
pub mod ledger;
pub mod load;
