//! Many engines in one process, each on its own port, plus one admin port that can reach an engine whose own port refuses.
//!
//! [`Cluster::start`] returns once every port listens; dropping the cluster closes them all.

mod state;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) use self::state::{
    ClusterState, Door, EngineControl, EngineState, InjectError, Sleep, parse_fault, unix_seconds,
};
use crate::drive::Driver;
use crate::engine::{CacheRecord, ConfigError, Engine, EngineConfig, EventDetail};
use crate::kv_events::{BlockHasher, HashAlgorithm, HashForm, KvEventsOptions, OptionsError, WireVersion};
use crate::language::{Language, LanguageConfig, LanguageError};
use crate::publish::{Dialect, Publisher};
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
    /// Engines behind each port, told apart by `X-data-parallel-rank`; at least 1.
    pub data_parallel: usize,
    /// What KV events are published, and where.
    pub kv_events: KvEventsOptions,
    /// As which vLLM they are written.
    pub vllm_version: WireVersion,
    /// How they show block hashes.
    pub hash_form: HashForm,
    /// How block hashes are made.
    pub hash_algorithm: HashAlgorithm,
    /// Template, tokenizer and habits of the model.
    pub language: LanguageConfig,
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
            data_parallel: 1,
            kv_events: KvEventsOptions::default(),
            vllm_version: WireVersion::default(),
            hash_form: HashForm::default(),
            hash_algorithm: HashAlgorithm::default(),
            language: LanguageConfig::default(),
        }
    }
}

/// Why a cluster does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An engine parameter.
    #[error("{0}")]
    Engine(#[from] ConfigError),
    /// Template or tokenizer.
    #[error("{0}")]
    Language(#[from] LanguageError),
    /// What KV events are to do.
    #[error("{0}")]
    Events(#[from] OptionsError),
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

/// An engine and who publishes its events.
type HostedEngine = (Engine, Option<Publisher>);

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
        let language = Arc::new(Language::load(&config.language)?);
        let mut listeners = Vec::new();
        for index in 0..config.engines {
            listeners.push(serve::listen(config.address(index)?).await?);
        }
        let admin = match config.admin_port {
            Some(port) => Some(serve::listen(SocketAddr::new(config.host, port)).await?),
            None => None,
        };
        let (engines, sources) = config.open_engines().await?;
        let addresses: Vec<SocketAddr> = listeners.iter().map(|(address, _)| *address).collect();
        let admin_address = admin.as_ref().map(|(address, _)| *address);
        let state = Arc::new(ClusterState {
            controls: addresses
                .iter()
                .zip(0..)
                .map(|(&address, at)| EngineControl::new(address, config.seed ^ at))
                .collect(),
            sources,
            language,
            ranks: config.data_parallel,
            turn: AtomicU64::new(0),
            hasher: config.kv_events.publishes().then(|| BlockHasher::new(config.hash_algorithm, None)),
            hash_algorithm: config.hash_algorithm,
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
        let mut tasks = JoinSet::new();
        for (index, (_, listener)) in listeners.into_iter().enumerate() {
            tasks.spawn(serve::keep_door(EngineState { index, cluster: Arc::clone(&state) }, listener));
        }
        for (index, text) in &config.faults {
            let fault = parse_fault(text).map_err(|error| StartError::Parameter { name: "fault", rule: error })?;
            let injected = state.inject(*index, fault).await;
            injected.map_err(|error| StartError::Parameter { name: "fault", rule: error.to_string() })?;
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

impl ClusterConfig {
    /// Checks what the engines do not check themselves; gives the effective `max_model_len`.
    fn check(&self) -> Result<u32, StartError> {
        let wrong = |name, rule: String| Err(StartError::Parameter { name, rule });
        for (name, count) in [("engines", self.engines), ("data_parallel", self.data_parallel)] {
            if count == 0 {
                return wrong(name, "must be at least 1, got 0".to_owned());
            }
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

    /// Every engine with its publisher, and what `/kv_event_sources` of each port says of its ranks.
    async fn open_engines(&self) -> Result<(Vec<HostedEngine>, Vec<Vec<KvEventsOptions>>), StartError> {
        let publishes = self.kv_events.publishes();
        let record = if publishes { CacheRecord::On } else { CacheRecord::Off };
        let config = EngineConfig { detail: EventDetail::EveryToken, record, ..self.engine.clone() };
        let (mut engines, mut sources) = (Vec::new(), Vec::new());
        for port in 0..self.engines {
            let mut of_port = Vec::new();
            for rank in 0..self.data_parallel {
                let engine = Engine::new(config.clone())?;
                if !publishes {
                    engines.push((engine, None));
                    continue;
                }
                let offset = u16::try_from(port * self.data_parallel + rank).unwrap_or(u16::MAX);
                let rank = u32::try_from(rank).unwrap_or(u32::MAX);
                let dialect = Dialect { version: self.vllm_version, form: self.hash_form, rank };
                let (publisher, resolved) = Publisher::open(&self.kv_events, dialect, offset, self.host).await?;
                engines.push((engine, Some(publisher)));
                of_port.push(resolved);
            }
            sources.push(of_port);
        }
        Ok((engines, sources))
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
