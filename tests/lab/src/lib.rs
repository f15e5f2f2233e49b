//! Hours of LLM traffic in seconds: the real brain of every gateway and the real control plane's state over simulated
//! engines, all in virtual time. Nothing here decides anything; it carries bytes, with delays, and keeps accounts.
//!
//! `world` runs a `Scenario`; a `workload` makes its requests from a seed; `outcome` says how it went. The same scenario
//! gives the same figures, bit for bit.
#![forbid(unsafe_code)]

pub mod callers;
pub mod exactness;
pub mod flow_table;
pub mod gateway;
pub mod holding;
pub mod outcome;
pub mod plane;
pub mod policy;
pub mod prompt;
pub mod random;
pub mod scenario;
pub mod table;
pub mod workload;
pub mod world;
