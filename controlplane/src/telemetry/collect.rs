//! Metrics that are read off the view and off the process when somebody scrapes.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use super::fetch;
use crate::clock;
use crate::datastore::{EndpointView, PoolView, Readiness, View};

#[derive(Debug)]
pub(super) struct ViewCollector {
    view: watch::Receiver<Arc<View>>,
}

impl ViewCollector {
    pub(super) const fn new(view: watch::Receiver<Arc<View>>) -> Self {
        Self { view }
    }
}

/// Name, help, and how it is read off one endpoint.
type Reading = (&'static str, &'static str, fn(&EndpointView) -> Option<f64>);

const READINGS: [Reading; 4] = [
    ("endpoint_running_requests", "Requests in the running batch, last scrape", |e| {
        Some(e.load.as_ref()?.running.into())
    }),
    ("endpoint_waiting_requests", "Requests that wait for admission, last scrape", |e| {
        Some(e.load.as_ref()?.waiting.into())
    }),
    ("endpoint_kv_used_ratio", "KV blocks in use, last scrape", |e| Some(e.load.as_ref()?.kv_used)),
    ("endpoint_sample_age_seconds", "Age of the last good scrape", |e| {
        Some(clock::now().since(e.load.as_ref()?.at).as_secs_f64())
    }),
];

impl Collector for ViewCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let view = Arc::clone(&self.view.borrow());
        let mut family = encoder.encode_descriptor("pool_endpoints", "Endpoints by state", None, MetricType::Gauge)?;
        for pool in &view.pools {
            for (state, number) in states(pool) {
                let labels = [("pool", pool.name.as_str()), ("state", state)];
                ConstGauge::new(number).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, read) in READINGS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for pool in &view.pools {
                for endpoint in &pool.endpoints {
                    let Some(value) = read(endpoint) else { continue };
                    let labels = [("pool", pool.name.as_str()), ("endpoint", endpoint.address.as_str())];
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

fn states(pool: &PoolView) -> [(&'static str, u32); 3] {
    let [mut ready, mut draining, mut unhealthy] = [0_u32; 3];
    for endpoint in &pool.endpoints {
        match endpoint.readiness {
            Readiness::Ready => ready += 1,
            Readiness::Draining => draining += 1,
            Readiness::Unhealthy(_) => unhealthy += 1,
        }
    }
    [("ready", ready), ("draining", draining), ("unhealthy", unhealthy)]
}

#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(process) = fetch::process() else { return Ok(()) };
        let cpu = ConstCounter::new(process.cpu_seconds);
        let family =
            encoder.encode_descriptor("process_cpu_seconds", "CPU time of this process", None, MetricType::Counter)?;
        cpu.encode(family)?;
        let memory = ConstGauge::new(process.resident_bytes);
        let family = encoder.encode_descriptor(
            "process_resident_memory_bytes",
            "Resident memory of this process",
            None,
            MetricType::Gauge,
        )?;
        memory.encode(family)
    }
}
