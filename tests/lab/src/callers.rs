//! Who asks: the headers that name a request's objective and its tenant. Drawn apart from the traffic itself, so that
//! the same seed gives the same prompts whoever asks for them.

use shared::headers::{FAIRNESS_ID, OBJECTIVE};
use shared::wire;

use crate::outcome::SLO_TTFT;
use crate::random::Random;

/// How callers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Nobody says who they are.
    Alike,
    /// A fifth are urgent, half are usual, the rest is batch work.
    Bands,
    /// Each names its tenant.
    Tenants,
}

/// An InferenceObjective of `Callers::Bands`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// As in the header.
    pub name: &'static str,
    /// Higher first.
    pub priority: i32,
    /// Share of all requests.
    pub share: f64,
    /// Service level for the first token, seconds.
    pub slo_ttft: f64,
}

/// By band, highest first.
pub const OBJECTIVES: [Objective; 3] = [
    Objective { name: "urgent", priority: 10, share: 0.2, slo_ttft: SLO_TTFT },
    Objective { name: "usual", priority: 0, share: 0.5, slo_ttft: SLO_TTFT },
    Objective { name: "batch", priority: -10, share: 0.3, slo_ttft: 60.0 },
];
/// The batch band.
pub const BATCH: usize = 2;

/// One who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Index into `OBJECTIVES`.
    pub band: Option<usize>,
    /// Number of the tenant.
    pub tenant: Option<u64>,
}

impl Callers {
    /// Who asks for a request of `tenant`'s.
    pub fn draw(self, tenant: u64, chance: &mut Random) -> Caller {
        match self {
            Self::Alike => Caller { band: None, tenant: None },
            Self::Bands => {
                let drawn = chance.uniform();
                let below =
                    |band: usize| OBJECTIVES.iter().take(band + 1).map(|objective| objective.share).sum::<f64>();
                let band = (0..OBJECTIVES.len()).find(|&band| drawn < below(band)).unwrap_or(BATCH);
                Caller { band: Some(band), tenant: None }
            }
            Self::Tenants => Caller { band: None, tenant: Some(tenant) },
        }
    }
}

impl Caller {
    /// Name and value pairs.
    #[must_use]
    pub fn headers(self) -> Vec<(&'static str, String)> {
        let objective = self.band.and_then(|band| OBJECTIVES.get(band));
        let objective = objective.map(|objective| (OBJECTIVE[0], objective.name.to_owned()));
        objective.into_iter().chain(self.tenant.map(|tenant| (FAIRNESS_ID[0], format!("tenant-{tenant}")))).collect()
    }

    /// Service level for the first token, seconds.
    #[must_use]
    pub fn slo_ttft(self) -> f64 {
        self.band.and_then(|band| OBJECTIVES.get(band)).map_or(SLO_TTFT, |objective| objective.slo_ttft)
    }
}

/// What a pool's table says of the objectives.
#[must_use]
pub fn objectives() -> Vec<wire::Objective> {
    OBJECTIVES.map(|row| wire::Objective { name: row.name.to_owned(), priority: row.priority }).into()
}
