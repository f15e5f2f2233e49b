//! `Update` → state → `View`, pure. The state knows more than the view shows: discovery's word (draining) and the
//! probes' word (health) are kept apart, so that an endpoint that stops draining is as healthy as it was.
//! An endpoint that was never probed counts as unhealthy: nobody is sent to a pod that has not answered once.

use std::collections::{BTreeMap, BTreeSet};

use shared::identity::EndpointId;
use shared::wire::{Model, PoolSettings};

use super::{Discovered, EndpointView, Finding, LoadSample, PoolSpec, PoolView, Readiness, Update, View};

/// Why an endpoint that was never probed gets no requests.
pub const NOT_PROBED: &str = "not probed yet";

/// Everything the single writer keeps.
#[derive(Clone, Debug, Default)]
pub struct State {
    pools: BTreeMap<String, PoolState>,
}

#[derive(Clone, Debug)]
struct PoolState {
    spec: PoolSpec,
    /// Of the cluster.
    objectives: BTreeMap<String, i32>,
    /// What follows from both.
    settings: PoolSettings,
    /// Has discovery spoken?
    discovered: bool,
    endpoints: BTreeMap<EndpointId, EndpointState>,
}

#[derive(Clone, Debug)]
struct EndpointState {
    discovered: Discovered,
    health: Health,
    models: Option<Vec<Model>>,
    load: Option<LoadSample>,
}

#[derive(Clone, Debug, PartialEq)]
enum Health {
    Unknown,
    Healthy,
    Unhealthy(String),
}

/// How far discovery and probing have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every pool's first endpoint list is in.
    pub discovered: bool,
    /// And every endpoint of it was probed at least once.
    pub probed: bool,
}

impl State {
    /// Takes in one update.
    pub fn apply(&mut self, update: Update) {
        match update {
            Update::Pools(specs) => self.set_pools(specs),
            Update::Endpoints { pool, endpoints } => {
                if let Some(pool) = self.pools.get_mut(&pool) {
                    pool.set_endpoints(endpoints);
                }
            }
            Update::Objectives { pool, priorities } => {
                if let Some(pool) = self.pools.get_mut(&pool) {
                    pool.objectives = priorities;
                    pool.settle();
                }
            }
            Update::Probe { pool, endpoint, finding } => {
                if let Some(endpoint) = self.pools.get_mut(&pool).and_then(|pool| pool.endpoints.get_mut(&endpoint)) {
                    endpoint.learn(finding);
                }
            }
        }
    }

    /// The snapshot that readers get.
    #[must_use]
    pub fn view(&self) -> View {
        View { pools: self.pools.values().map(PoolState::view).collect() }
    }

    /// How far the first round has come; true for good only while no pool or endpoint is added.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let discovered = self.pools.values().all(|pool| pool.discovered);
        let mut endpoints = self.pools.values().flat_map(|pool| pool.endpoints.values());
        Progress { discovered, probed: discovered && endpoints.all(|endpoint| endpoint.health != Health::Unknown) }
    }

    fn set_pools(&mut self, specs: Vec<PoolSpec>) {
        let names: BTreeSet<String> = specs.iter().map(|spec| spec.name.clone()).collect();
        self.pools.retain(|name, _| names.contains(name));
        for spec in specs {
            match self.pools.get_mut(&spec.name) {
                Some(pool) => {
                    pool.spec = spec;
                    pool.settle();
                }
                None => {
                    self.pools.insert(spec.name.clone(), PoolState::new(spec));
                }
            }
        }
    }
}

impl PoolState {
    fn new(spec: PoolSpec) -> Self {
        let objectives = BTreeMap::new();
        let settings = spec.bands.follow(&spec.settings, &objectives);
        Self { spec, objectives, settings, discovered: false, endpoints: BTreeMap::new() }
    }

    fn settle(&mut self) {
        self.settings = self.spec.bands.follow(&self.spec.settings, &self.objectives);
    }

    fn set_endpoints(&mut self, listed: Vec<Discovered>) {
        self.discovered = true;
        let mut before = std::mem::take(&mut self.endpoints);
        for discovered in listed {
            let id = EndpointId::of(&discovered.address);
            let endpoint = match before.remove(&id) {
                Some(known) => EndpointState { discovered, ..known },
                None => EndpointState { discovered, health: Health::Unknown, models: None, load: None },
            };
            self.endpoints.insert(id, endpoint);
        }
    }

    fn view(&self) -> PoolView {
        let mut endpoints: Vec<EndpointView> = self.endpoints.iter().map(|(&id, endpoint)| endpoint.view(id)).collect();
        endpoints.sort_by(|a, b| a.address.cmp(&b.address));
        let models = self.spec.models.clone().unwrap_or_else(|| self.learned_models());
        PoolView { name: self.spec.name.clone(), settings: self.settings.clone(), models, endpoints }
    }

    /// The union of what the endpoints serve; empty (any name) as soon as one that takes requests does not say.
    fn learned_models(&self) -> Vec<Model> {
        let ready: Vec<&EndpointState> =
            self.endpoints.values().filter(|e| e.readiness() == Readiness::Ready).collect();
        if ready.iter().any(|endpoint| endpoint.models.is_none()) {
            return Vec::new();
        }
        let voters: Vec<&EndpointState> = if ready.is_empty() { self.endpoints.values().collect() } else { ready };
        let mut union: BTreeMap<&str, &Model> = BTreeMap::new();
        for model in voters.iter().filter_map(|endpoint| endpoint.models.as_ref()).flatten() {
            union.entry(&model.name).or_insert(model);
        }
        union.into_values().cloned().collect()
    }
}

impl EndpointState {
    fn learn(&mut self, finding: Finding) {
        match finding {
            Finding::Load(sample) => self.load = Some(sample),
            Finding::Models(models) => self.models = Some(models),
            Finding::Healthy => self.health = Health::Healthy,
            Finding::Unhealthy(reason) => self.health = Health::Unhealthy(reason),
        }
    }

    fn readiness(&self) -> Readiness {
        match &self.health {
            _ if self.discovered.draining => Readiness::Draining,
            Health::Healthy => Readiness::Ready,
            Health::Unknown => Readiness::Unhealthy(NOT_PROBED.to_owned()),
            Health::Unhealthy(reason) => Readiness::Unhealthy(reason.clone()),
        }
    }

    fn view(&self, id: EndpointId) -> EndpointView {
        EndpointView {
            id,
            address: self.discovered.address.clone(),
            labels: self.discovered.labels.clone(),
            readiness: self.readiness(),
            models: self.models.as_ref().map(|models| models.iter().map(|model| model.name.clone()).collect()),
            load: self.load.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
