#![forbid(unsafe_code)]
//! Kvasir control plane.
pub mod datastore;
