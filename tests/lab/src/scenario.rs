//! What a run is told: fleet, traffic, who chooses, what goes wrong, and how long messages take. Times are seconds of virtual
//! time from the start of the run.

use shared::wire;
use vllm_sim::engine::EngineConfig;

use crate::callers::Callers;
use crate::holding::Holding;
use crate::policy::Policy;
use crate::workload::{Kind, Rhythm};

/// One run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What is asked.
    pub workload: Kind,
    /// Requests a second, on average.
    pub rate: f64,
    /// When they come.
    pub rhythm: Rhythm,
    /// Decides everything that chance decides.
    pub seed: u64,
    /// Engines.
    pub pods: usize,
    /// What each engine is; speeds change by `speeds`.
    pub engine: EngineConfig,
    /// Envoy processes; each request comes to a random one.
    pub gateways: usize,
    /// Who asks.
    pub callers: Callers,
    /// What lets requests wait; `None`: nothing does.
    pub flow: Option<wire::FlowControl>,
    /// Who chooses.
    pub policy: Policy,
    /// What the gateways know of each other.
    pub sharing: Sharing,
    /// Requests that arrive before this are not judged.
    pub warm: f64,
    /// New requests arrive until then; those in flight are then finished.
    pub until: f64,
    /// Changes of pods' speeds.
    pub speeds: Vec<SpeedChange>,
    /// When pods refuse requests.
    pub refusals: Vec<Refusal>,
    /// When the control plane is silent.
    pub outage: Option<Outage>,
    /// Share of requests whose client goes away, at a random moment.
    pub aborts: f64,
    /// How long messages take and how often they are sent.
    pub pace: Pace,
}

/// What gateways know of each other's work and routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One control plane for all.
    Shared,
    /// A control plane for each gateway: nothing is shared but what scrapes show.
    Alone,
}

/// From `at` on, `pod` runs at `speed` (1: as calibrated).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpeedChange {
    /// When.
    pub at: f64,
    /// Which pod.
    pub pod: usize,
    /// How fast.
    pub speed: f64,
}

/// `pod` refuses connections for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refusal {
    /// Which pod.
    pub pod: usize,
    /// From when.
    pub from: f64,
    /// Until when.
    pub until: f64,
}

/// The control plane is gone for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outage {
    /// From when.
    pub from: f64,
    /// Until when.
    pub until: f64,
    /// Does it come back with what it knew?
    pub memory: Memory,
}

/// What survives an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Only the network was cut.
    Kept,
    /// It was restarted: a new epoch, nothing known.
    Lost,
}

/// Delays and periods.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Gateway to pod, and back.
    pub hop: f64,
    /// Gateway to control plane, and back.
    pub link: f64,
    /// From an engine's figures to the control plane.
    pub scrape_delay: f64,
    /// Between two scrapes of a pod; pods take turns.
    pub scrape: f64,
    /// Between two reports of a gateway.
    pub report: f64,
    /// Least between two publications.
    pub publish: f64,
    /// A gateway gives up a silent stream after this; what it reported meanwhile is lost.
    pub silence: f64,
}

impl Default for Pace {
    /// The product's own periods; delays of one rack.
    fn default() -> Self {
        Self { hop: 2e-4, link: 1e-3, scrape_delay: 3e-3, scrape: 0.05, report: 0.01, publish: 0.01, silence: 4.0 }
    }
}

impl Scenario {
    /// Eight calibrated pods behind one gateway, nothing goes wrong: 60 s to warm up, then 120 s that count (conversations
    /// need longer to reach their usual length).
    #[must_use]
    pub fn new(workload: Kind, rate: f64) -> Self {
        let warm = if matches!(workload, Kind::Chat | Kind::Agents) { 150.0 } else { 60.0 };
        Self {
            workload,
            rate,
            rhythm: Rhythm::Poisson,
            seed: 501,
            pods: 8,
            engine: EngineConfig::default(),
            gateways: 1,
            callers: Callers::Alike,
            flow: None,
            policy: Policy::Kvasir,
            sharing: Sharing::Shared,
            warm,
            until: warm + 120.0,
            speeds: Vec::new(),
            refusals: Vec::new(),
            outage: None,
            aborts: 0.0,
            pace: Pace::default(),
        }
    }

    /// The same traffic with requests held by `holding`, or not at all.
    #[must_use]
    pub fn holding(&self, holding: Holding) -> Self {
        Self { flow: holding.control(self.callers, self.gateways), ..self.clone() }
    }

    /// The same traffic under another policy.
    #[must_use]
    pub fn under(&self, policy: Policy) -> Self {
        Self { policy, ..self.clone() }
    }
}
