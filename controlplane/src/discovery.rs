//! Where a pool's endpoints come from. A source always tells the whole list; what is known about an endpoint that stays
//! is kept by the datastore.

pub mod listing;
pub mod retire;
pub mod static_file;
pub mod watch;
