//! The one brain of the endpoint picker and who may touch it. Every way to it is a short step under one lock; a step that
//! panicked elsewhere leaves the brain as it was found, since its steps are pure.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use shared::brain::Brain;
use shared::clock::Timestamp;
use shared::lifecycle::Plan;
use shared::table::sync::{Folded, Refused};
use shared::wire::{Live, Report};
use tokio::sync::watch;

use super::Settings;
use super::exchange::Exchange;
use super::stats::Stats;

/// The publishing task forgets a gateway that says nothing for two seconds.
const KEEP_ALIVE: Duration = Duration::from_millis(500);

/// The endpoint picker of this process.
#[derive(Debug)]
pub struct Picker {
    /// How it runs.
    pub settings: Settings,
    /// What it counts.
    pub stats: Stats,
    brain: Mutex<Brain>,
    wanted: watch::Sender<bool>,
    fed: watch::Sender<bool>,
}

/// What a picker counts and knows, for the registry.
#[derive(Debug)]
pub struct PickerCollector(pub Arc<Picker>);

impl Collector for PickerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.stats.encode(&self.0.brain(), &mut encoder)
    }
}

/// When the last report was, and what it said.
#[derive(Debug, Default)]
pub struct Reporting {
    sequence: u64,
    at: Timestamp,
    work: bool,
}

impl Picker {
    /// With a brain that knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let wanted = watch::Sender::new(settings.attach == super::Attach::AtStart);
        let mut brain = Brain::default();
        brain.queueless = true;
        let brain = Mutex::new(brain);
        let (stats, fed) = (Stats::default(), watch::Sender::new(false));
        Self { settings, stats, brain, wanted, fed }
    }

    /// The brain, for one step.
    pub fn brain(&self) -> MutexGuard<'_, Brain> {
        self.brain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new request, for the pool called `pool`; `None`: by its model.
    #[must_use]
    pub fn exchange(&self, pool: Option<String>) -> Exchange {
        let brain = self.brain();
        let pools = &brain.table().pools;
        // Where there is no other pool, nobody needs to be told which.
        let pool = pool.or_else(|| pools.keys().next().filter(|_| pools.len() == 1).cloned());
        // Which pool's limit counts is known only with the body's model: until then, the largest.
        let largest = pools.values().map(|pool| pool.settings.max_body_bytes).max();
        let plan = Plan { pool, max_body_bytes: largest.filter(|&limit| limit > 0), subset: None };
        drop(brain);
        Exchange::new(plan, self.settings.conformance, self.settings.subsets)
    }

    /// Somebody needs the brain from now on.
    pub fn want(&self) {
        self.wanted.send_if_modified(|wanted| !std::mem::replace(wanted, true));
    }

    /// Is the brain needed?
    pub fn wanted(&self) -> watch::Receiver<bool> {
        self.wanted.subscribe()
    }

    /// Does the brain know a table?
    pub fn fed(&self) -> watch::Receiver<bool> {
        self.fed.subscribe()
    }

    /// Folds an encoded segment of the table in.
    ///
    /// # Errors
    /// As `Brain::fold`; the table in force stays.
    pub fn fold(&self, segment: &[u8], now: Timestamp) -> Result<Folded, Refused> {
        let folded = self.brain().fold(segment, now);
        match &folded {
            Ok(Folded::InForce(_)) => {
                self.fed.send_if_modified(|fed| !std::mem::replace(fed, true));
            }
            Ok(Folded::Building | Folded::Old) => {}
            Err(_) => self.stats.refused(),
        }
        folded
    }

    /// Takes load, bookings and rates.
    pub fn take_live(&self, live: Live, now: Timestamp) {
        if let Err(error) = self.brain().set_live(live, now) {
            self.stats.refused();
            tracing::warn!(%error, "live message refused");
        }
    }

    /// Time passes; what is to be reported, if anything.
    pub fn tick(&self, reporting: &mut Reporting, now: Timestamp) -> Option<Report> {
        let mut brain = self.brain();
        brain.pass_time(now).iter().for_each(|turned| self.stats.turned(turned));
        let work = brain.ledger.busy().next().is_some();
        let news = !brain.outbox.is_empty() || work || reporting.work;
        if !news && now.since(reporting.at) < KEEP_ALIVE {
            return None;
        }
        *reporting = Reporting { sequence: reporting.sequence + 1, at: now, work };
        Some(brain.report(reporting.sequence))
    }
}
