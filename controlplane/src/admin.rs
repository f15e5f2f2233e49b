//! HTTP for people, probes and Prometheus.

pub mod inspect;
pub mod serve;
