//! Logs and metrics. Metric names start with `kvasir_`, units are base units, labels come from the configuration or from
//! closed sets. What can be read off the view (endpoints by state, load, ages) is computed when somebody scrapes.

mod collect;
pub mod door;
mod fetch;
mod foresight;
pub mod process;
pub mod tables;
mod truth;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::datastore::View;

/// Content type of `Metrics::text`.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to stderr; `filter` as in `info,controlplane=debug`. A second call changes nothing.
pub fn init_logs(filter: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that logging is already set up, as in tests.
    let _already = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolReason {
    pool: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lease {
    lease: String,
}

/// What is counted where it happens, and the registry that also collects the rest.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    scrapes: Family<PoolLabel, Histogram, fn() -> Histogram>,
    scrape_errors: Family<PoolReason, Counter>,
    ejections: Family<PoolLabel, Counter>,
    discovery_up: Family<PoolLabel, Gauge>,
    reloads: Family<Outcome, Counter>,
    malformed: Family<Kind, Counter>,
    leader: Family<Lease, Gauge>,
}

impl Metrics {
    /// The registry of one control plane that publishes `view`.
    #[must_use]
    pub fn new(view: watch::Receiver<Arc<View>>) -> Arc<Self> {
        let mut registry = Registry::with_prefix("kvasir");
        let metrics = Self {
            scrapes: Family::new_with_constructor(scrape_buckets),
            scrape_errors: Family::default(),
            ejections: Family::default(),
            discovery_up: Family::default(),
            reloads: Family::default(),
            malformed: Family::default(),
            leader: Family::default(),
            registry: Mutex::default(),
        };
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of this control plane", build);
        registry.register("scrape_duration_seconds", "Time of one metrics scrape", metrics.scrapes.clone());
        registry.register("scrape_errors", "Scrapes that failed; the last values stay", metrics.scrape_errors.clone());
        registry.register("endpoint_ejections", "Endpoints that became unhealthy", metrics.ejections.clone());
        registry.register(
            "discovery_up",
            "1 when the endpoint list in force is the newest, 0 when that was refused",
            metrics.discovery_up.clone(),
        );
        registry.register("config_reloads", "Configuration changes by outcome", metrics.reloads.clone());
        let malformed = metrics.malformed.clone();
        registry.register("kubernetes_malformed_objects", "Objects of the cluster that made no sense", malformed);
        registry.register("leader", "1 on the replica that holds the Lease", metrics.leader.clone());
        registry.register_collector(Box::new(collect::ViewCollector::new(view)));
        registry.register_collector(Box::new(collect::ProcessCollector));
        *metrics.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
        Arc::new(metrics)
    }

    /// Adds metrics of another part; their names get the prefix `kvasir_`.
    pub fn collect(&self, collector: Box<dyn Collector>) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register_collector(collector);
    }

    /// The whole exposition, as `METRICS_CONTENT_TYPE`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
            text.clear();
            // Writing into a String cannot fail.
            let _written = writeln!(text, "# EOF");
        }
        text
    }

    /// One scrape took this long, whatever came of it.
    pub fn scraped(&self, pool: &str, took: Duration) {
        self.scrapes.get_or_create_owned(&PoolLabel { pool: pool.to_owned() }).observe(took.as_secs_f64());
    }

    /// One scrape gave nothing; `reason` from a closed set.
    pub fn scrape_failed(&self, pool: &str, reason: &'static str) {
        self.scrape_errors.get_or_create_owned(&PoolReason { pool: pool.to_owned(), reason }).inc();
    }

    /// An endpoint became unhealthy.
    pub fn ejected(&self, pool: &str) {
        self.ejections.get_or_create_owned(&PoolLabel { pool: pool.to_owned() }).inc();
    }

    /// Is the newest endpoint list in force?
    pub fn discovery_up(&self, pool: &str, up: bool) {
        self.discovery_up.get_or_create_owned(&PoolLabel { pool: pool.to_owned() }).set(i64::from(up));
    }

    /// A changed configuration was taken up or refused.
    pub fn reloaded(&self, accepted: bool) {
        let outcome = if accepted { "applied" } else { "refused" };
        self.reloads.get_or_create_owned(&Outcome { outcome }).inc();
    }

    /// An object of the cluster made no sense; `kind` as the API calls it.
    pub fn malformed_object(&self, kind: &'static str) {
        self.malformed.get_or_create_owned(&Kind { kind }).inc();
    }

    /// Does this replica hold the Lease?
    pub fn leads(&self, lease: &str, leads: bool) {
        self.leader.get_or_create_owned(&Lease { lease: lease.to_owned() }).set(i64::from(leads));
    }

    /// Drops the series of a pool that is gone.
    pub fn forget(&self, pool: &str) {
        let label = PoolLabel { pool: pool.to_owned() };
        self.scrapes.remove(&label);
        self.ejections.remove(&label);
        self.discovery_up.remove(&label);
        for reason in ["connect", "timeout", "broken", "too_large", "status", "text"] {
            self.scrape_errors.remove(&PoolReason { pool: pool.to_owned(), reason });
        }
    }
}

fn scrape_buckets() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datastore::{EndpointView, PoolView, Readiness};

    fn view() -> View {
        let endpoint = |address: &str, readiness| EndpointView {
            id: shared::identity::EndpointId::of(address),
            address: address.to_owned(),
            labels: std::collections::BTreeMap::new(),
            readiness,
            models: None,
            load: None,
        };
        View {
            pools: vec![PoolView {
                name: "p".to_owned(),
                settings: shared::wire::PoolSettings::default(),
                models: Vec::new(),
                endpoints: vec![
                    endpoint("10.0.0.1:1", Readiness::Ready),
                    endpoint("10.0.0.2:1", Readiness::Unhealthy("refused".to_owned())),
                ],
            }],
        }
    }

    #[test]
    fn the_exposition_names_states_counts_and_the_process() {
        let (_keep, receiver) = watch::channel(Arc::new(view()));
        let metrics = Metrics::new(receiver);
        metrics.scrape_failed("p", "timeout");
        metrics.reloaded(false);
        let text = metrics.text();
        for line in [
            "kvasir_pool_endpoints{pool=\"p\",state=\"ready\"} 1",
            "kvasir_pool_endpoints{pool=\"p\",state=\"draining\"} 0",
            "kvasir_pool_endpoints{pool=\"p\",state=\"unhealthy\"} 1",
            "kvasir_scrape_errors_total{pool=\"p\",reason=\"timeout\"} 1",
            "kvasir_config_reloads_total{outcome=\"refused\"} 1",
            "kvasir_build_info{version=",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        metrics.forget("p");
        assert!(!metrics.text().contains("kvasir_scrape_errors_total{"));
    }
}
