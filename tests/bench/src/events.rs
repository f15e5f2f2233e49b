//! The path of a KV event: engines publish, the control plane decodes, every worker of an Envoy looks prefixes up. How long that
//! takes, and what it costs the control plane.
//!
//! A worker is asked by requests on a connection that it has accepted: its answer names the table version that it decides
//! on. Which version first holds a marker block is known from a gateway of the bench's own, which folds the same segments.

pub(crate) mod drive;
pub(crate) mod gateway;
pub(crate) mod plan;
pub(crate) mod pods;
pub(crate) mod report;
pub(crate) mod rig;
pub(crate) mod timeline;
pub(crate) mod traffic;
pub(crate) mod workers;
