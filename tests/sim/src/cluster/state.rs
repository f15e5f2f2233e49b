//! What every handler shares: the engines' controls (door, faults, sleep), the driver, the model's language.
//!
//! A fault is in force when `inject` returns: a closed door has no listener any more, a killed engine no connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::drive::{Driver, DriverStopped, EventsFault};
use crate::engine::RequestId;
use crate::fault::{AnswerFaults, Damage, Existing, Fault, FaultError, RawFault, Scope};
use crate::infer::CallError;
use crate::kv_events::{BlockHasher, HashAlgorithm, KvEventsOptions};
use crate::language::Language;

/// Whether an engine's port takes connections.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Door {
    Open,
    Closed { until: Option<Instant>, existing: Existing, order: u64 },
}

/// How deep an engine sleeps (`/sleep?level=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    Awake,
    /// Level 0: requests wait, nothing is given up.
    Paused,
    /// Level 1.
    WeightsOffloaded,
    /// Level 2.
    AllDiscarded,
}

/// What the HTTP side knows of one engine.
pub(crate) struct EngineControl {
    pub(crate) address: SocketAddr,
    pub(crate) door: watch::Sender<Door>,
    /// The last order to close that has been carried out.
    pub(crate) closed: watch::Sender<u64>,
    orders: AtomicU64,
    pub(crate) sleep: Mutex<Sleep>,
    pub(crate) faults: Mutex<AnswerFaults>,
    pub(crate) slow: Mutex<f64>,
    /// Inference requests that came, and those answered with 2xx headers.
    pub(crate) received: AtomicU64,
    pub(crate) answered: AtomicU64,
}

impl EngineControl {
    pub(super) fn new(address: SocketAddr, seed: u64) -> Self {
        Self {
            address,
            door: watch::Sender::new(Door::Open),
            closed: watch::Sender::new(0),
            orders: AtomicU64::new(0),
            sleep: Mutex::new(Sleep::Awake),
            faults: Mutex::new(AnswerFaults::new(seed)),
            slow: Mutex::new(1.0),
            received: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        }
    }

    /// Closes the port; done once nobody can connect any more, and with `Existing::Cut` once every connection is gone.
    async fn close(&self, until: Option<Instant>, existing: Existing) {
        let order = self.orders.fetch_add(1, Ordering::Relaxed) + 1;
        let (mut closed, mut door) = (self.closed.subscribe(), self.door.subscribe());
        self.door.send_replace(Door::Closed { until, existing, order });
        let overruled = |door: &Door| !matches!(door, Door::Closed { order: latest, .. } if *latest == order);
        // Both senders live in `self`.
        tokio::select! {
            _ = closed.wait_for(|&done| done >= order) => {}
            _ = door.wait_for(overruled) => {}
        }
    }

    pub(crate) fn sleep(&self) -> Sleep {
        *self.sleep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_sleep(&self, sleep: Sleep) {
        *self.sleep.lock().unwrap_or_else(PoisonError::into_inner) = sleep;
    }

    /// What happens to a request on a path of this scope.
    pub(crate) fn draw_fault(&self, path: Scope, uptime: Duration) -> Option<Damage> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).draw(path, uptime)
    }
}

/// What every handler shares.
pub(crate) struct ClusterState {
    pub(crate) controls: Vec<EngineControl>,
    /// `/kv_event_sources` by port and rank.
    pub(crate) sources: Vec<Vec<KvEventsOptions>>,
    pub(crate) language: Arc<Language>,
    pub(crate) ranks: usize,
    pub(super) turn: AtomicU64,
    /// None when nobody publishes.
    pub(crate) hasher: Option<BlockHasher>,
    pub(crate) hash_algorithm: HashAlgorithm,
    pub(crate) driver: Driver,
    pub(crate) block_size: u32,
    pub(crate) model: String,
    pub(crate) adapters: Vec<Arc<str>>,
    pub(crate) max_model_len: u32,
    pub(crate) seed: u64,
    /// Of every engine, before faults.
    pub(super) speed: f64,
    pub(super) origin: Instant,
    pub(super) ids: AtomicU64,
}

/// A fault cannot be put in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InjectError {
    #[error("there is no engine {0}")]
    NoSuchEngine(usize),
    #[error("{0}")]
    Stopped(#[from] DriverStopped),
}

impl ClusterState {
    pub(crate) fn next_id(&self) -> RequestId {
        RequestId(self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// Time since the start, for faults that end.
    pub(crate) fn uptime(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The adapter of this name; None for the base model.
    pub(crate) fn adapter(&self, model: &str) -> Result<Option<Arc<str>>, CallError> {
        if model == self.model {
            return Ok(None);
        }
        let found = self.adapters.iter().find(|adapter| adapter.as_ref() == model);
        found.map(|adapter| Some(Arc::clone(adapter))).ok_or_else(|| CallError::UnknownModel(model.to_owned()))
    }

    /// The engines behind a port, as the driver counts them.
    pub(crate) fn hosts(&self, port: usize) -> std::ops::Range<usize> {
        port * self.ranks..(port + 1) * self.ranks
    }

    /// The engine that takes a request: the rank it names, or the next in turn.
    pub(crate) fn host(&self, port: usize, rank: Option<usize>) -> usize {
        let rank = rank.filter(|&rank| rank < self.ranks).unwrap_or_else(|| match self.ranks {
            1 => 0,
            ranks => usize::try_from(self.turn.fetch_add(1, Ordering::Relaxed)).unwrap_or_default() % ranks,
        });
        port * self.ranks + rank
    }

    /// Puts a fault in force; done once it is.
    pub(crate) async fn inject(&self, index: usize, fault: Fault) -> Result<(), InjectError> {
        let control = self.controls.get(index).ok_or(InjectError::NoSuchEngine(index))?;
        match fault {
            Fault::Refuse { lasting, existing } => {
                let until = lasting.and_then(|wait| Instant::now().checked_add(wait));
                control.close(until, existing).await;
            }
            Fault::Slow { factor } => {
                *control.slow.lock().unwrap_or_else(PoisonError::into_inner) = factor;
                for host in self.hosts(index) {
                    self.driver.set_speed(host, self.speed / factor)?;
                }
            }
            Fault::Events(fault) => {
                for host in self.hosts(index) {
                    self.driver.break_events(host, fault)?;
                }
            }
            Fault::Answer { damage, often, lasting, scope } => {
                let until = lasting.map(|wait| self.uptime().saturating_add(wait));
                control.faults.lock().unwrap_or_else(PoisonError::into_inner).set(damage, often, scope, until);
            }
        }
        Ok(())
    }

    /// Takes every fault off an engine.
    pub(crate) async fn reset(&self, index: usize) -> Result<(), InjectError> {
        let control = self.controls.get(index).ok_or(InjectError::NoSuchEngine(index))?;
        control.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
        control.door.send_replace(Door::Open);
        self.inject(index, Fault::Events(EventsFault::Lose(0))).await?;
        self.inject(index, Fault::Slow { factor: 1.0 }).await
    }
}

/// The state of a handler on one engine's port.
#[derive(Clone)]
pub(crate) struct EngineState {
    pub(crate) index: usize,
    pub(crate) cluster: Arc<ClusterState>,
}

impl EngineState {
    pub(crate) fn control(&self) -> Option<&EngineControl> {
        self.cluster.controls.get(self.index)
    }
}

/// Seconds since 1970, for `created` fields and info metrics.
pub(crate) fn unix_seconds() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A fault from its JSON text.
pub(crate) fn parse_fault(text: &str) -> Result<Fault, String> {
    let raw: RawFault = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Fault::try_from(raw).map_err(|error: FaultError| error.to_string())
}
