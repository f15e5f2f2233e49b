//! Many engines in one process, each on its own port, plus one admin port that can reach an engine whose own port refuses.
//!
//! [`Cluster::start`] returns once every port listens; dropping the cluster closes them all.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::drive::{Driver, DriverStopped};
use crate::engine::{ConfigError, Engine, EngineConfig, EventDetail, RequestId};
use crate::fault::{AnswerFaults, Damage, Existing, Fault, FaultError, RawFault, Scope};
use crate::infer::CallError;
use crate::serve;

/// What a process of simulated engines is told.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// How many engines, at least 1.
    pub engines: usize,
    /// Address to listen on.
    pub host: IpAddr,
    /// Port of the first engine, the others follow; 0 lets the system pick each.
    pub port: u16,
    /// Port of the admin API; None for none, 0 for any.
    pub admin_port: Option<u16>,
    /// Name of the base model.
    pub model: String,
    /// Names of LoRA adapters.
    pub loras: Vec<String>,
    /// Engine seconds per real second; positive.
    pub speedup: f64,
    /// Seeds answers and fault draws.
    pub seed: u64,
    /// Every engine's parameters.
    pub engine: EngineConfig,
    /// Longest prompt and answer together, in tokens; None: 131072, or what the blocks hold if that is less.
    pub max_model_len: Option<u32>,
    /// Faults from the start: engine index and fault as JSON.
    pub faults: Vec<(usize, String)>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            engines: 1,
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            admin_port: None,
            model: "sim-model".to_owned(),
            loras: Vec::new(),
            speedup: 1.0,
            seed: 0,
            engine: EngineConfig::default(),
            max_model_len: None,
            faults: Vec::new(),
        }
    }
}

/// Why a cluster does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An engine parameter.
    #[error("{0}")]
    Engine(#[from] ConfigError),
    /// A parameter of the cluster.
    #[error("{name}: {rule}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// What it must be.
        rule: String,
    },
    /// A port cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// Running engines.
#[derive(Debug)]
pub struct Cluster {
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    tasks: JoinSet<()>,
}

impl Cluster {
    /// Binds every port and serves until dropped. Needs a Tokio runtime.
    ///
    /// # Errors
    /// When a parameter is out of range or a port cannot be bound.
    pub async fn start(config: ClusterConfig) -> Result<Self, StartError> {
        let max_model_len = config.check()?;
        let mut listeners = Vec::new();
        for index in 0..config.engines {
            listeners.push(serve::listen(config.address(index)?).await?);
        }
        let admin = match config.admin_port {
            Some(port) => Some(serve::listen(SocketAddr::new(config.host, port)).await?),
            None => None,
        };
        let engine = EngineConfig { detail: EventDetail::EveryToken, ..config.engine.clone() };
        let engines = (0..config.engines).map(|_| Engine::new(engine.clone())).collect::<Result<Vec<_>, _>>()?;
        let addresses: Vec<SocketAddr> = listeners.iter().map(|(address, _)| *address).collect();
        let admin_address = admin.as_ref().map(|(address, _)| *address);
        let state = Arc::new(ClusterState {
            controls: addresses
                .iter()
                .zip(0..)
                .map(|(&address, at)| EngineControl::new(address, config.seed ^ at))
                .collect(),
            driver: Driver::spawn(engines, config.speedup),
            block_size: config.engine.block_size,
            speed: config.engine.speed,
            model: config.model,
            adapters: config.loras.into_iter().map(Arc::from).collect(),
            max_model_len,
            seed: config.seed,
            origin: Instant::now(),
            ids: AtomicU64::new(1),
        });
        for (index, text) in &config.faults {
            let fault = parse_fault(text).map_err(|error| StartError::Parameter { name: "fault", rule: error })?;
            let injected = state.inject(*index, fault);
            injected.map_err(|error| StartError::Parameter { name: "fault", rule: error.to_string() })?;
        }
        let mut tasks = JoinSet::new();
        for (index, (_, listener)) in listeners.into_iter().enumerate() {
            tasks.spawn(serve::keep_door(EngineState { index, cluster: Arc::clone(&state) }, listener));
        }
        if let Some((_, listener)) = admin {
            tasks.spawn(serve::keep_admin(Arc::clone(&state), listener));
        }
        Ok(Self { addresses, admin: admin_address, tasks })
    }

    /// Where each engine listens, by index.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin API listens.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Serves until the future is dropped; it completes only if every port's task has died.
    pub async fn serve(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// A fault from its JSON text.
pub(crate) fn parse_fault(text: &str) -> Result<Fault, String> {
    let raw: RawFault = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Fault::try_from(raw).map_err(|error: FaultError| error.to_string())
}

impl ClusterConfig {
    /// Checks what the engines do not check themselves; gives the effective `max_model_len`.
    fn check(&self) -> Result<u32, StartError> {
        let wrong = |name, rule: String| Err(StartError::Parameter { name, rule });
        if self.engines == 0 {
            return wrong("engines", "must be at least 1, got 0".to_owned());
        }
        if !(self.speedup.is_finite() && self.speedup > 0.0) {
            return wrong("speedup", format!("must be a finite number above 0, got {}", self.speedup));
        }
        if let Some((index, _)) = self.faults.iter().find(|(index, _)| *index >= self.engines) {
            return wrong("fault", format!("there is no engine {index}, the last one is {}", self.engines - 1));
        }
        let capacity = u64::from(self.engine.num_gpu_blocks) * u64::from(self.engine.block_size);
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        match self.max_model_len {
            Some(0) => wrong("max_model_len", "must be at least 1, got 0".to_owned()),
            Some(length) if length > capacity => {
                wrong("max_model_len", format!("must fit into the {capacity} tokens of KV cache, got {length}"))
            }
            Some(length) => Ok(length),
            None => Ok(capacity.min(131_072)),
        }
    }

    fn address(&self, index: usize) -> Result<SocketAddr, StartError> {
        let port = match self.port {
            0 => Some(0),
            first => u16::try_from(index).ok().and_then(|index| first.checked_add(index)),
        };
        let rule = || format!("engine {index} would need a port above 65535");
        port.map(|port| SocketAddr::new(self.host, port))
            .ok_or_else(|| StartError::Parameter { name: "port", rule: rule() })
    }
}

/// Whether an engine's port takes connections.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Door {
    Open,
    Closed { until: Option<Instant>, existing: Existing },
}

/// What the HTTP side knows of one engine.
pub(crate) struct EngineControl {
    pub(crate) address: SocketAddr,
    pub(crate) door: watch::Sender<Door>,
    pub(crate) faults: Mutex<AnswerFaults>,
    pub(crate) slow: Mutex<f64>,
    /// Inference requests that came, and those answered with 2xx headers.
    pub(crate) received: AtomicU64,
    pub(crate) answered: AtomicU64,
}

impl EngineControl {
    fn new(address: SocketAddr, seed: u64) -> Self {
        Self {
            address,
            door: watch::Sender::new(Door::Open),
            faults: Mutex::new(AnswerFaults::new(seed)),
            slow: Mutex::new(1.0),
            received: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        }
    }

    /// What happens to a request on a path of this scope.
    pub(crate) fn draw_fault(&self, path: Scope, uptime: Duration) -> Option<Damage> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).draw(path, uptime)
    }
}

/// What every handler shares.
pub(crate) struct ClusterState {
    pub(crate) controls: Vec<EngineControl>,
    pub(crate) driver: Driver,
    pub(crate) block_size: u32,
    pub(crate) model: String,
    pub(crate) adapters: Vec<Arc<str>>,
    pub(crate) max_model_len: u32,
    pub(crate) seed: u64,
    speed: f64,
    origin: Instant,
    ids: AtomicU64,
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

    /// Puts a fault in force.
    pub(crate) fn inject(&self, index: usize, fault: Fault) -> Result<(), InjectError> {
        let control = self.controls.get(index).ok_or(InjectError::NoSuchEngine(index))?;
        match fault {
            Fault::Refuse { lasting, existing } => {
                let until = lasting.and_then(|wait| Instant::now().checked_add(wait));
                control.door.send_replace(Door::Closed { until, existing });
                if existing == Existing::Cut {
                    self.driver.crash(index)?;
                }
            }
            Fault::Slow { factor } => {
                *control.slow.lock().unwrap_or_else(PoisonError::into_inner) = factor;
                self.driver.set_speed(index, self.speed / factor)?;
            }
            Fault::Answer { damage, often, lasting, scope } => {
                let until = lasting.map(|wait| self.uptime().saturating_add(wait));
                control.faults.lock().unwrap_or_else(PoisonError::into_inner).set(damage, often, scope, until);
            }
        }
        Ok(())
    }

    /// Takes every fault off an engine.
    pub(crate) fn reset(&self, index: usize) -> Result<(), InjectError> {
        let control = self.controls.get(index).ok_or(InjectError::NoSuchEngine(index))?;
        control.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
        control.door.send_replace(Door::Open);
        self.inject(index, Fault::Slow { factor: 1.0 })
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
