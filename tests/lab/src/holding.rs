//! Flow control as pools are given it: the flow study's settings and llm-d's detectors with the same deadlines. llm-d has
//! none by default; with its own 60 s to wait it would fare far worse.

use shared::wire;
use shared::wire::flow_control::Hold;

use crate::callers::{Callers, OBJECTIVES};
use crate::gateway::SESSION;

/// What keeps requests waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Nothing: no flow control.
    None,
    /// The prediction for the endpoint that was chosen.
    Ours,
    /// llm-d's utilization detector, 5 waiting and 0.8 of the KV cache.
    Utilization,
    /// llm-d's concurrency detector, 100 requests a pod.
    Concurrency,
    /// The cap on live sessions alone.
    Sessions,
    /// The prediction and the cap on live sessions.
    OursWithSessions,
}

/// Share of the service level for the first token that is planned with.
const DEADLINE: f64 = 0.9;
/// Requests that may wait in all gateways together.
const PLACES: u32 = 5000;
/// By band, as pools have them by default.
const LIMITS: [f64; 3] = [1.0, 0.9, 0.8];
const SHARES: [f64; 3] = [0.0, 0.2, 0.05];

impl Holding {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Utilization, Self::Concurrency, Self::Ours, Self::Sessions, Self::OursWithSessions];

    /// As it stands in tables and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ours => "ours",
            Self::Utilization => "utilization",
            Self::Concurrency => "concurrency",
            Self::Sessions => "sessions",
            Self::OursWithSessions => "ours+sessions",
        }
    }

    /// For one of `gateways` with one worker each. Without bands there is one, with the whole of every limit.
    #[must_use]
    pub fn control(self, callers: Callers, gateways: usize) -> Option<wire::FlowControl> {
        let hold = match self {
            Self::None => return None,
            Self::Ours | Self::OursWithSessions => {
                Hold::Prediction(wire::Prediction { token_budget: 8192.0, ignore_tpot: false })
            }
            Self::Sessions => Hold::Prediction(wire::Prediction { token_budget: 1e12, ignore_tpot: true }),
            Self::Utilization => {
                Hold::Utilization(wire::Utilization { queue_depth: 5.0, kv_share: 0.8, stale_after_ms: 0 })
            }
            Self::Concurrency => Hold::Concurrency(wire::Concurrency { requests: 100.0, tokens: 0.0 }),
        };
        let graded = self == Self::Ours && callers == Callers::Bands;
        let band = |(objective, (limit, min_share)): (&crate::callers::Objective, (f64, f64))| wire::Band {
            priority: objective.priority,
            limit: if graded { limit } else { 1.0 },
            min_share: if graded { min_share } else { 0.0 },
            ttl_seconds: objective.slo_ttft * DEADLINE,
            deadline: objective.slo_ttft < 10.0 && self != Self::Sessions,
            ..wire::Band::default()
        };
        let bands = OBJECTIVES.iter().zip(LIMITS.into_iter().zip(SHARES)).map(band);
        let one = |band: &wire::Band| callers == Callers::Bands || band.priority == 0;
        Some(wire::FlowControl {
            bands: bands.filter(one).collect(),
            max_requests: PLACES.div_ceil(u32::try_from(gateways.max(1)).unwrap_or(PLACES)),
            max_bytes: 0,
            skip: 8,
            hold: Some(hold),
            sessions: matches!(self, Self::Sessions | Self::OursWithSessions).then(sessions),
            ..wire::FlowControl::default()
        })
    }
}

/// The product's defaults, which are the study's.
fn sessions() -> wire::Sessions {
    wire::Sessions { header: SESSION.to_owned(), capacity_share: 0.8, ttl_seconds: 30.0, idle_seconds: 30.0 }
}
