//! The cluster: its objects as far as they matter here, watched into one `Cluster` snapshot (`watch`, `drive`), out of
//! which discovery makes endpoints. Also who leads among replicas (`lease`). Nothing here writes to the cluster except
//! the election: an endpoint picker has no say in an InferencePool's conditions, those are its gateway's.

pub mod automatic;
pub mod cluster;
pub mod collection;
pub mod drive;
pub mod endpoints;
pub mod fetch;
pub mod inference_pool;
pub mod lease;
pub mod object;
pub mod objective;
pub mod pod;
pub mod rewrite;
pub mod watch;
