//! A pool as people see it: for `/metrics` and the API.

use shared::clock::Timestamp;

use super::PoolState;
use crate::bookings::ledger::GatewayId;
use crate::datastore::{EndpointView, Readiness};
use crate::exact::status::PrefixStatus;
use crate::publish::slots::number;
use crate::publish::status::{EndpointStatus, PoolCounters, PoolStatus, RatesStatus};

impl PoolState {
    /// For people.
    #[must_use]
    pub fn status(&mut self, now: Timestamp) -> PoolStatus {
        let rates = self.rates.wire();
        let size = self.prefixes.learned.size();
        let mut endpoints: Vec<_> = self.view.endpoints.iter().filter_map(|e| self.endpoint_status(e)).collect();
        endpoints.sort_by_key(|endpoint| endpoint.slot);
        PoolStatus {
            name: self.view.name.clone(),
            endpoints,
            unplaced: self.unplaced,
            gateways: self.ledger.gateways(),
            arrivals_per_second: self.arrivals.per_second(now),
            chunks: size.chunks,
            memberships: size.memberships,
            residency_bytes: size.bytes,
            rates: RatesStatus {
                x: rates.x,
                t0: rates.t0,
                k: rates.k,
                s0: rates.s0,
                output_tokens: rates.output_tokens,
                bytes_per_token: rates.bytes_per_token,
            },
            latency: self.foresight.status(),
            prefixes: self.prefix_status(),
            counters: PoolCounters { clamped_bookings: self.ledger.clamped(), ..self.counters },
        }
    }

    /// How prefixes are known.
    #[must_use]
    pub fn prefix_status(&self) -> PrefixStatus {
        let truth = self.truth.status();
        let Some(exact) = &self.prefixes.exact else {
            let reason = "the pool's configuration has no `exact`".to_owned();
            return PrefixStatus { mode: "learned", reason, truth, ..PrefixStatus::default() };
        };
        let engines = self
            .view
            .endpoints
            .iter()
            .filter_map(|endpoint| Some((endpoint.id, self.slots.slot(endpoint.id)?, endpoint.address.as_str())));
        PrefixStatus { truth, ..exact.status(engines) }
    }

    fn endpoint_status(&self, endpoint: &EndpointView) -> Option<EndpointStatus> {
        let slot = self.slots.slot(endpoint.id)?;
        let load = self.ledger.others(GatewayId::NOBODY, endpoint.id);
        Some(EndpointStatus {
            slot: number(slot),
            address: endpoint.address.clone(),
            state: match endpoint.readiness {
                Readiness::Ready => "ready",
                Readiness::Draining => "draining",
                Readiness::Unhealthy(_) => "unhealthy",
            },
            failing: self.failing.contains(endpoint.id),
            slowness: self.rates.slowness(endpoint.id),
            waiting: load.waiting,
            decoding: load.decoding,
            queued_tokens: load.queued_tokens,
            chunks: self.prefixes.learned.held_by(slot),
        })
    }
}
