//! What came to `listen.events` and was nobody's: read off the gate when somebody scrapes.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use crate::events::serve::Gate;

/// See the module.
#[derive(Debug)]
pub struct DoorCollector(pub Gate);

impl Collector for DoorCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Messages to listen.events whose topic names no endpoint, or several";
        let family = encoder.encode_descriptor("kv_event_unknown_messages", help, None, MetricType::Counter)?;
        ConstCounter::new(self.0.unknown()).encode(family)
    }
}
