//! Kvasir's control plane: what it knows (`datastore`), where from (`discovery`, `kubernetes`, `scrape`, `health`), what it tells
//! (`admin`, `explain`), the Envoy it configures (`envoy`, `standalone`), and the `runtime` that owns all tasks.
//! Pure files and shell files never mix: only files named watch, poll, drive, serve, fetch, write touch the world.
#![forbid(unsafe_code)]

pub mod admin;
pub mod bookings;
pub mod clock;
pub mod config;
pub mod datastore;
pub mod discovery;
pub mod envoy;
pub mod epp;
pub mod events;
pub mod exact;
pub mod explain;
pub mod health;
pub mod kubernetes;
pub mod llmd;
pub mod publish;
pub mod rates;
pub mod residency;
pub mod runtime;
pub mod scrape;
pub mod standalone;
pub mod telemetry;
pub mod tls;
pub mod vocabulary;
