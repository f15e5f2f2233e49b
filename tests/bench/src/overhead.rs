//! The overhead comparison: what is measured, in samples per round.
//! A *unit* is what CPU time is counted per: a request, or one event of a streamed response.

pub(crate) mod bars;
pub(crate) mod drive;
pub(crate) mod figures;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod rig;

use crate::load::Summary;
use clap::ValueEnum;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// What stands in front of Envoy's router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Variant {
    /// Nothing
    Plain,
    /// Kvasir's Wasm filter
    Filter,
    /// A no-op external processor
    ExtProc,
    /// Kvasir's control plane as endpoint picker, wired as the no-op one
    Epp,
}

impl fmt::Display for Variant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Variant::Plain => "plain",
            Variant::Filter => "filter",
            Variant::ExtProc => "ext_proc",
            Variant::Epp => "epp",
        })
    }
}

/// One way to load an Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shape {
    /// Requests of that many bytes with small answers, in a closed loop over that many connections.
    Whole { body_bytes: usize, concurrency: usize },
    /// That many streamed answers at a time.
    Streamed { streams: usize },
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Whole { body_bytes, concurrency } if body_bytes % 1024 == 0 => {
                write!(out, "{} KiB, c={concurrency}", body_bytes / 1024)
            }
            Shape::Whole { body_bytes, concurrency } => write!(out, "{body_bytes} B, c={concurrency}"),
            Shape::Streamed { streams } => write!(out, "{streams} streams"),
        }
    }
}

/// One run of one shape through one variant. CPU in microseconds per unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) latency: Summary,
    pub(crate) envoy_cpu: f64,
    pub(crate) ext_proc_cpu: f64,
    pub(crate) control_plane_cpu: f64,
    /// HTTP chunks that arrived per event sent: 1.0 when Envoy saw every event on its own. `None` for whole answers.
    pub(crate) chunks_per_event: Option<f64>,
}

/// All samples of one round.
pub(crate) type Round = BTreeMap<(Shape, Variant), Sample>;
