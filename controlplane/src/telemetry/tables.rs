//! Metrics that are read off the publishing task's status when somebody scrapes.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use super::{foresight, truth};
use crate::exact::status::PrefixTotals;
use crate::publish::status::{PoolCounters, PoolStatus, Status};

/// Shows what is published.
#[derive(Debug)]
pub struct TableCollector {
    status: watch::Receiver<Arc<Status>>,
}

impl TableCollector {
    /// Of the task that publishes `status`.
    #[must_use]
    pub const fn new(status: watch::Receiver<Arc<Status>>) -> Self {
        Self { status }
    }
}

type Total = (&'static str, &'static str, fn(&Status) -> u64);

const TOTALS: [Total; 5] = [
    ("table_segments", "Table segments sent to gateways", |s| s.traffic.segments),
    ("table_segment_bytes", "Encoded bytes of those", |s| s.traffic.segment_bytes),
    ("table_live_messages", "Live messages sent to gateways", |s| s.traffic.lives),
    ("table_resnapshots", "Snapshots sent because a gateway fell behind or refused", |s| s.traffic.resnapshots),
    ("table_refused_segments", "Segments that gateways refused", |s| s.traffic.refused),
];

type PoolReading = (&'static str, &'static str, fn(&PoolStatus) -> f64);

const POOL_READINGS: [PoolReading; 9] = [
    ("prefix_exact", "1: prefixes are known from KV events; 0: learned from routes", |p| {
        f64::from(u8::from(p.prefixes.mode == "exact"))
    }),
    ("prefix_doubted", "1: learned because engines contradicted our rendering of prompts", |p| {
        f64::from(u8::from(p.prefixes.doubt.is_some()))
    }),
    ("prefix_engines_followed", "Engines whose KV events are followed", |p| {
        float(p.prefixes.engines.iter().filter(|engine| engine.followed).count())
    }),
    ("prefix_blocks", "Distinct KV blocks that engines told of", |p| float(p.prefixes.blocks)),
    ("prefix_block_bytes", "Memory behind them", |p| float(p.prefixes.bytes)),
    ("arrivals_per_second", "Requests per second over all gateways", |p| p.arrivals_per_second),
    ("residency_chunks", "Distinct prefix chunks that somebody holds", |p| float(p.chunks)),
    ("residency_memberships", "Pairs of endpoint and chunk", |p| float(p.memberships)),
    ("residency_bytes", "Memory behind them", |p| float(p.residency_bytes)),
];

type PoolTotal = (&'static str, &'static str, fn(&PoolCounters) -> u64);

const POOL_TOTALS: [PoolTotal; 9] = [
    ("learned_routes", "Routes that gateways reported and that were learned", |c| c.routes),
    ("orphan_routes", "Routes behind a chunk that is no longer known", |c| c.orphan_routes),
    ("completions", "Responses that gateways saw to their end", |c| c.completions),
    ("prompt_tokens", "Prompt tokens of responses with usage", |c| c.prompt_tokens),
    ("hit_tokens", "Of these, what the engines had cached", |c| c.hit_tokens),
    ("overpredicted_tokens", "Predicted beyond cached tokens", |c| c.overpredicted_tokens),
    ("underpredicted_tokens", "Cached beyond predicted tokens", |c| c.underpredicted_tokens),
    ("clamped_bookings", "Bookings of gateways that scrapes contradicted", |c| c.clamped_bookings),
    ("residency_resets", "Endpoints whose learned residency was dropped: restarted, or became unhealthy", |c| {
        c.residency_resets
    }),
];

type PrefixTotal = (&'static str, &'static str, fn(&PrefixTotals) -> u64);

const PREFIX_TOTALS: [PrefixTotal; 10] = [
    ("kv_event_batches", "Batches of KV events applied", |t| t.batches),
    ("kv_events", "KV events in them", |t| t.events),
    ("kv_event_missing_batches", "Batches found missing, whether or not a replay brought them", |t| t.missing_batches),
    ("kv_event_resets", "Times that all that was known of an engine became void", |t| t.resets),
    ("prefix_doubts", "Times that rendering was given up because engines contradicted it", |t| t.doubts),
    ("prefix_shed_memberships", "Blocks dropped, coldest first, to stay within the memory budget", |t| t.shed),
    ("generated_blocks_canonical", "Generated blocks that re-encoding confirmed", |t| t.canonical),
    ("generated_blocks_unjudged", "Generated blocks that it could not judge", |t| t.unjudged),
    ("generated_blocks_unasked", "Generated blocks not re-encoded because there were too many", |t| t.unasked),
    ("generated_blocks_stopped", "Generated blocks that no prompt will hit: not published from there on", |t| t.alarms),
];

impl Collector for TableCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = Arc::clone(&self.status.borrow());
        let gauges = [
            ("table_version", "Newest version of the published table", status.version),
            ("gateways", "Gateways with an open stream", u64::try_from(status.gateways.len()).unwrap_or(u64::MAX)),
        ];
        for (name, help, value) in gauges {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(family)?;
        }
        for (name, help, read) in TOTALS {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(read(&status)).encode(family)?;
        }
        for (name, help, read) in POOL_READINGS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for pool in &status.pools {
                let labels = [("pool", pool.name.as_str())];
                ConstGauge::new(read(pool)).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, read) in POOL_TOTALS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for pool in &status.pools {
                let labels = [("pool", pool.name.as_str())];
                ConstCounter::new(read(&pool.counters)).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, read) in PREFIX_TOTALS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for pool in &status.pools {
                let labels = [("pool", pool.name.as_str())];
                ConstCounter::new(read(&pool.prefixes.totals)).encode(family.encode_family(&labels)?)?;
            }
        }
        truth::encode(&status.pools, &mut encoder)?;
        foresight::encode(&status.pools, &mut encoder)
    }
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
