//! A simulated vLLM engine: continuous batching, chunked prefill and a paged prefix cache under a calibrated step cost.
//!
//! [`engine`] is pure and takes time as an argument, so a lab can run hours of traffic in seconds; [`cluster`] puts many of the
//! same engines behind vLLM's HTTP API in real time. It shares no code with the router it witnesses against.

#![forbid(unsafe_code)]

mod admin;
mod api;
pub mod cluster;
mod drive;
pub mod engine;
mod fault;
mod infer;
pub mod kv_events;
pub mod language;
mod observed;
mod prometheus;
pub mod publish;
mod serve;
pub mod text;
mod zmtp;
