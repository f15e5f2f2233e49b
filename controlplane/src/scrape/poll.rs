//! Watches one endpoint: health, models and metrics, each at its own pace, one request at a time. Values of the last
//! good scrape stay when a scrape fails; their age shows. Hints of gateways bring the next probe forward.

use std::sync::Arc;
use std::time::Duration;

use shared::identity::EndpointId;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::attributes::Gpu;
use super::engine::{Engine, with_capacity};
use super::fetch::{Answer, Client, FetchError};
use super::pace::{self, Activity};
use super::{Hint, attributes, models};
use crate::clock;
use crate::config::Pool;
use crate::datastore::{Discovered, Finding, LoadSample, Update};
use crate::health::{Observation, Standing, Verdict};
use crate::telemetry::Metrics;

/// How often `/v1/models` is read.
const MODELS_EVERY: Duration = Duration::from_secs(10);

/// The first probes of a pool spread over at most this.
const FIRST_PROBES_WITHIN: Duration = Duration::from_millis(250);

/// What a watch over one endpoint needs.
#[derive(Clone, Debug)]
pub struct Context {
    /// The pool's settings; changes are taken up with the next probe.
    pub pool: watch::Receiver<Arc<Pool>>,
    /// The datastore.
    pub updates: mpsc::Sender<Update>,
    /// Shared by all.
    pub client: Client,
    /// Shared by all.
    pub metrics: Arc<Metrics>,
}

/// The watch over one endpoint.
#[derive(Debug)]
pub struct Probe {
    context: Context,
    id: EndpointId,
    endpoint: Discovered,
    standing: Standing,
    wait: Duration,
    last: Option<LoadSample>,
    /// When the GPU exporter was asked last, and what it said.
    gpu: Option<(Instant, Option<f64>)>,
    /// Of the last failed scrape, so that a lasting one is logged once.
    failing: bool,
}

impl Probe {
    /// A watch that has not begun.
    #[must_use]
    pub fn new(context: Context, endpoint: Discovered) -> Self {
        let id = EndpointId::of(&endpoint.address);
        Self {
            context,
            id,
            endpoint,
            standing: Standing::default(),
            wait: Duration::ZERO,
            last: None,
            gpu: None,
            failing: false,
        }
    }

    /// Runs until it is dropped or the datastore is gone.
    pub async fn run(mut self, mut hints: mpsc::Receiver<Hint>) {
        let started = Instant::now();
        let pool = self.settings();
        tokio::time::sleep(pace::stagger(self.id.0, pool.scrape.busy.min(FIRST_PROBES_WITHIN))).await;
        let (mut health_due, mut models_due, mut scrape_due) = (started, started, started);
        loop {
            let pool = self.settings();
            if health_due <= Instant::now() {
                let observed = self.check(&pool).await;
                if observed == Observation::Up && models_due <= Instant::now() {
                    self.read_models(&pool).await;
                    models_due = Instant::now() + MODELS_EVERY;
                }
                // Load before health: an endpoint enters the table with its load known.
                if observed == Observation::Up && !self.standing.is_healthy() {
                    self.scrape(&pool).await;
                    scrape_due = Instant::now() + self.wait;
                }
                self.observe(observed, &pool).await;
                health_due = Instant::now() + pool.health.interval;
            }
            if scrape_due <= Instant::now() {
                self.scrape(&pool).await;
                scrape_due = Instant::now() + self.wait;
            }
            tokio::select! {
                () = self.context.updates.closed() => return,
                () = tokio::time::sleep_until(health_due.min(scrape_due)) => {}
                Some(hint) = hints.recv() => match hint {
                    Hint::Failed { .. } => {
                        self.standing.suspect();
                        (health_due, scrape_due) = (Instant::now(), Instant::now());
                    }
                    Hint::Busy { .. } => {
                        self.wait = pool.scrape.busy;
                        scrape_due = scrape_due.min(Instant::now() + self.wait);
                    }
                },
            }
        }
    }

    fn settings(&self) -> Arc<Pool> {
        Arc::clone(&self.context.pool.borrow())
    }

    async fn check(&self, pool: &Pool) -> Observation {
        let (path, timeout) = (&pool.health.path, pool.scrape.timeout);
        match self.context.client.get(&self.endpoint.address, path, timeout).await {
            Ok(Answer { status: 500.., .. }) => Observation::Down(format!("{path} does not answer 2xx")),
            Ok(_) => Observation::Up,
            Err(error) => Observation::Down(error.to_string()),
        }
    }

    async fn observe(&mut self, observed: Observation, pool: &Pool) {
        let endpoint = self.endpoint.address.as_str();
        let finding = match self.standing.observe(observed, &pool.health) {
            Some(Verdict::Healthy) => {
                info!(pool = pool.name, endpoint, "endpoint healthy");
                Finding::Healthy
            }
            Some(Verdict::Unhealthy(reason)) => {
                warn!(pool = pool.name, endpoint, reason, "endpoint unhealthy");
                self.context.metrics.ejected(&pool.name);
                Finding::Unhealthy(reason)
            }
            None => return,
        };
        self.tell(pool, finding).await;
    }

    async fn read_models(&self, pool: &Pool) {
        let answer = self.context.client.get(&self.endpoint.address, "/v1/models", pool.scrape.timeout).await;
        let parsed = match answer {
            Ok(answer) if answer.status == 200 => models::parse(&answer.body).ok(),
            Ok(_) | Err(_) => None,
        };
        match parsed {
            Some(models) => self.tell(pool, Finding::Models(models)).await,
            None => debug!(pool = pool.name, endpoint = self.endpoint.address, "no model list"),
        }
    }

    async fn scrape(&mut self, pool: &Pool) {
        let started = Instant::now();
        let answer = self.context.client.get(&self.metrics_host(pool), &pool.scrape.path, pool.scrape.timeout).await;
        self.context.metrics.scraped(&pool.name, started.elapsed());
        let outcome = match answer {
            Ok(Answer { status: 200, body }) => self.read(pool, &body),
            Ok(Answer { status, .. }) => Err(("status", format!("HTTP {status}"))),
            Err(error) => {
                if error.is_silence() && self.metrics_host(pool) == self.endpoint.address {
                    self.observe(Observation::Down(error.to_string()), pool).await;
                }
                Err((FetchError::reason(&error), error.to_string()))
            }
        };
        let activity = match outcome {
            Ok(mut sample) => {
                self.add_gpu(pool, &mut sample).await;
                self.learn(pool, sample).await
            }
            Err((reason, error)) => {
                self.context.metrics.scrape_failed(&pool.name, reason);
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(pool = pool.name, endpoint = self.endpoint.address, error, "scrape failed");
                }
                // Until it is ejected it is asked again soon, after that ever less often.
                if self.standing.is_healthy() && reason != "status" && reason != "text" {
                    Activity::Busy
                } else {
                    Activity::Quiet
                }
            }
        };
        self.wait = pace::next(self.wait, activity, &pool.scrape);
    }

    fn read(&self, pool: &Pool, body: &[u8]) -> Result<LoadSample, (&'static str, String)> {
        let text = str::from_utf8(body).map_err(|error| ("text", error.to_string()))?;
        let engine = Engine::of(&self.endpoint, pool.engine);
        let mut sample = engine.read(text, clock::now()).map_err(|error| ("text", error.to_string()))?;
        if let Some(wanted) = pool.attributes() {
            sample.attributes = attributes::custom(text, engine, &wanted.custom);
        }
        Ok(with_capacity(sample, pool.kv_cache_tokens))
    }

    /// Asks the GPU exporter beside the endpoint, if the profile reads it. Without an answer its attribute is unknown.
    async fn add_gpu(&mut self, pool: &Pool, sample: &mut LoadSample) {
        let Some(gpu) = pool.attributes().and_then(|wanted| wanted.gpu.as_ref()) else { return };
        if self.gpu.is_none_or(|(at, _)| at.elapsed() >= gpu.interval) {
            self.gpu = Some((Instant::now(), self.ask_gpu(pool, gpu).await));
        }
        if let Some((_, Some(value))) = self.gpu {
            sample.attributes.insert(gpu.attribute.clone(), value);
        }
    }

    async fn ask_gpu(&self, pool: &Pool, gpu: &Gpu) -> Option<f64> {
        let host = on_port(&self.endpoint.address, gpu.port);
        let value = match self.context.client.get(&host, &gpu.path, pool.scrape.timeout).await {
            Ok(Answer { status: 200, body }) => {
                let pod = self.endpoint.labels.get("pod").map(String::as_str);
                str::from_utf8(&body).ok().and_then(|text| attributes::gpu_utilization(text, pod))
            }
            Ok(_) | Err(_) => None,
        };
        if value.is_none() {
            self.context.metrics.scrape_failed(&pool.name, "gpu");
            debug!(pool = pool.name, endpoint = self.endpoint.address, host, "no GPU utilization");
        }
        value
    }

    async fn learn(&mut self, pool: &Pool, sample: LoadSample) -> Activity {
        if std::mem::take(&mut self.failing) {
            info!(pool = pool.name, endpoint = self.endpoint.address, "scrape works again");
        }
        let news = self.last.as_ref().is_none_or(|last| LoadSample { at: sample.at, ..last.clone() } != sample);
        let activity = if news || sample.running > 0 || sample.waiting > 0 { Activity::Busy } else { Activity::Quiet };
        self.last = Some(sample.clone());
        self.tell(pool, Finding::Load(sample)).await;
        activity
    }

    fn metrics_host(&self, pool: &Pool) -> String {
        match (&self.endpoint.metrics, pool.scrape.port) {
            (Some(host), _) => host.clone(),
            (None, Some(port)) => on_port(&self.endpoint.address, port),
            (None, None) => self.endpoint.address.clone(),
        }
    }

    async fn tell(&self, pool: &Pool, finding: Finding) {
        let update = Update::Probe { pool: pool.name.clone(), endpoint: self.id, finding };
        if self.context.updates.send(update).await.is_err() {
            debug!(pool = pool.name, "datastore has stopped");
        }
    }
}

/// The host of `address` with another port.
fn on_port(address: &str, port: u16) -> String {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    format!("{host}:{port}")
}
