//! The rows of the table from the view: what is published, without load and residency.

use std::collections::BTreeMap;

use shared::wire::{Endpoint, EndpointState, Model, PoolSettings, Rendering};

use super::slots::{SlotBook, number};
use crate::datastore::{EndpointView, PoolView, Readiness};
use crate::exact::token_ids::VocabularyRows;

/// One pool's rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolRows {
    /// As configured.
    pub settings: PoolSettings,
    /// Names that requests may use.
    pub models: Vec<Model>,
    /// By slot.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// By base model: those with exact residency.
    pub renderings: BTreeMap<String, Rendering>,
    /// By base model: only of those with a rendering, which takes them with it.
    pub vocabularies: BTreeMap<String, VocabularyRows>,
}

/// All pools' rows, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableRows {
    /// By name.
    pub pools: BTreeMap<String, PoolRows>,
}

/// The rows of `pool`; endpoints without a slot are left out.
#[must_use]
pub fn pool_rows(pool: &PoolView, slots: &SlotBook) -> PoolRows {
    let rows = pool.endpoints.iter().filter_map(|endpoint| {
        let slot = number(slots.slot(endpoint.id)?);
        Some((slot, endpoint_row(endpoint, slot, &pool.models)))
    });
    PoolRows {
        settings: pool.settings.clone(),
        models: pool.models.clone(),
        endpoints: rows.collect(),
        renderings: BTreeMap::new(),
        vocabularies: BTreeMap::new(),
    }
}

/// An endpoint that serves none of the pool's names gets no requests: an empty list on the wire would say "everything".
fn endpoint_row(endpoint: &EndpointView, slot: u32, models: &[Model]) -> Endpoint {
    let served: Vec<u32> = match &endpoint.models {
        None => Vec::new(),
        Some(names) => {
            (0u32..).zip(models).filter(|(_, model)| names.contains(&model.name)).map(|(index, _)| index).collect()
        }
    };
    let serves_nothing = served.is_empty() && endpoint.models.is_some() && !models.is_empty();
    let state = match &endpoint.readiness {
        Readiness::Ready if serves_nothing => EndpointState::Unhealthy,
        Readiness::Ready => EndpointState::Ready,
        Readiness::Draining => EndpointState::Draining,
        Readiness::Unhealthy(_) => EndpointState::Unhealthy,
    };
    Endpoint {
        slot,
        address: endpoint.address.clone(),
        state: state.into(),
        models: served,
        labels: endpoint.labels.clone(),
    }
}
