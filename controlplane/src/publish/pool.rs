//! Everything that is kept for one pool: slots, residency, bookings, rates, arrivals. Reports change it, scrapes change
//! it, and it says what of it is live.

mod shown;

use std::collections::BTreeMap;

use shared::clock::Timestamp;
use shared::identity::EndpointId;
use shared::wire::{Completion, LiveEndpoint, LivePool, PoolReport};

use super::build::{PoolRows, pool_rows};
use super::foresight::Foresight;
use super::prefixes::Prefixes;
use super::restarts::Restarts;
use super::scraped::scraped;
use super::slots::{SlotBook, SlotChanges, number};
use super::spending::Spending;
use super::status::PoolCounters;
use super::truth::{Mode, Truth};
use crate::bookings::arrivals::Arrivals;
use crate::bookings::failing::Failing;
use crate::bookings::ledger::{GatewayId, Ledger, Scraped};
use crate::bookings::load::Load;
use crate::datastore::{EndpointView, LoadSample, PoolView};
use crate::exact::pool::ExactPool;
use crate::exact::witness::Grain;
use crate::exact::{ModelState, News};
use crate::rates::fleet::FleetRates;
use crate::residency::capacity::capacity_chunks;
use crate::scrape::Hint;

/// See the module.
pub struct PoolState {
    view: PoolView,
    pub(super) slots: SlotBook,
    restarts: Restarts,
    pub(super) prefixes: Prefixes,
    pub(super) ledger: Ledger,
    rates: FleetRates,
    arrivals: Arrivals,
    failing: Failing,
    counters: PoolCounters,
    truth: Truth,
    foresight: Foresight,
    spending: Spending,
    unplaced: usize,
    secret: u64,
}

/// A block of engines that do not say.
const USUAL_BLOCK_TOKENS: u32 = 64;

/// What a report did besides changing this pool's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// What should bring a probe of an endpoint forward.
    pub hints: Vec<Hint>,
    /// Did anything change that other gateways must see?
    pub changed: bool,
}

impl PoolState {
    /// A pool without endpoints; `observe` brings them. `secret` spreads keys, see `ResidencyIndex::new`.
    #[must_use]
    pub fn new(view: &PoolView, secret: u64) -> Self {
        Self {
            view: PoolView { endpoints: Vec::new(), ..view.clone() },
            slots: SlotBook::default(),
            restarts: Restarts::default(),
            prefixes: Prefixes::new(secret),
            secret,
            ledger: Ledger::default(),
            rates: FleetRates::default(),
            arrivals: Arrivals::default(),
            failing: Failing::default(),
            counters: PoolCounters::default(),
            truth: Truth::default(),
            foresight: Foresight::default(),
            spending: Spending::new(&view.settings.budgets),
            unplaced: 0,
        }
    }

    /// The pool is now as `view` says. Returns its rows, and the endpoints that found no slot.
    pub fn observe(&mut self, view: &PoolView) -> (PoolRows, SlotChanges) {
        if view.settings.chunk_bytes != self.view.settings.chunk_bytes {
            // Keys of another chunk size never match again.
            let held: Vec<_> = self.view.endpoints.iter().filter_map(|e| self.slots.slot(e.id)).collect();
            held.into_iter().for_each(|slot| self.prefixes.learned.clear(slot));
        }
        let (sound, unsound): (Vec<_>, Vec<_>) = view.endpoints.iter().partition(|e| is_socket_address(&e.address));
        let ids: Vec<EndpointId> = sound.iter().map(|e| e.id).collect();
        let mut changes = self.slots.update(&ids);
        changes.unplaced.extend(unsound.iter().map(|e| e.id));
        for &(id, slot) in &changes.removed {
            self.prefixes.learned.clear(slot);
            if let Some(exact) = &mut self.prefixes.exact {
                exact.gone(id, slot);
            }
            self.restarts.forget(id);
            self.ledger.endpoint_gone(id);
            self.rates.forget(id);
            self.failing.served(id);
        }
        self.unplaced = changes.unplaced.len();
        for endpoint in &view.endpoints {
            let Some(slot) = self.slots.slot(endpoint.id) else { continue };
            if self.restarts.observe(endpoint) {
                self.prefixes.learned.clear(slot);
                self.counters.residency_resets += 1;
            }
            let tokens = endpoint.load.as_ref().and_then(LoadSample::kv_capacity_tokens);
            let chunks = capacity_chunks(tokens, self.rates.bytes_per_token(), view.settings.chunk_bytes);
            self.prefixes.learned.set_capacity(slot, chunks);
            if let Some(load) = &endpoint.load {
                let scraped = Scraped { at: load.at, running: load.running, waiting: load.waiting };
                self.ledger.scrape(endpoint.id, scraped);
            }
        }
        if view.settings.budgets != self.view.settings.budgets {
            self.spending.set_budgets(&view.settings.budgets);
        }
        self.view = view.clone();
        (self.rows(), changes)
    }

    /// As they stand.
    #[must_use]
    pub fn rows(&self) -> PoolRows {
        let exact = self.prefixes.exact.as_ref();
        let rendering = exact.and_then(ExactPool::rendering);
        let vocabulary = rendering.and_then(|row| Some((row.model.clone(), exact?.vocabulary()?.clone())));
        let renderings = rendering.into_iter().map(|row| (row.model.clone(), row.clone()));
        PoolRows {
            renderings: renderings.collect(),
            vocabularies: vocabulary.into_iter().collect(),
            ..pool_rows(&self.view, &self.slots)
        }
    }

    /// Of this pool's exact residency. True when its rows may have changed.
    pub fn take_news(&mut self, news: News, now: Timestamp) -> bool {
        if let News::Unwanted = news {
            if let Some(exact) = &mut self.prefixes.exact {
                exact.set_model(ModelState::Failed("no longer configured".to_owned()), 0, now);
            }
            return true;
        }
        let secret = self.secret;
        let exact = self.prefixes.exact.get_or_insert_with(|| ExactPool::new(secret, now));
        match news {
            News::Unwanted => {}
            News::Model(model) => exact.set_model(model, self.view.settings.chunk_bytes, now),
            News::Update(endpoint, update) => {
                if let Some(slot) = self.slots.slot(endpoint)
                    && exact.update(endpoint, slot, &update, now)
                {
                    self.prefixes.learned.clear(slot);
                }
                return false;
            }
            News::Judged(judged) => {
                exact.judged(&judged);
                return false;
            }
            News::Unfollowed(endpoint, why) => {
                if let Some(slot) = self.slots.slot(endpoint) {
                    exact.unfollowed(endpoint, slot, why);
                }
                return false;
            }
        }
        true
    }

    /// What needs no input but time. True when it changed how prefixes are known, and with that the pool's rows.
    pub fn tick(&mut self, now: Timestamp) -> bool {
        let Some(exact) = &mut self.prefixes.exact else { return false };
        let changed = exact.tick(|endpoint| self.slots.slot(endpoint), now);
        if changed && exact.is_exact() {
            // What was learned of engines meanwhile is under keys that no gateway computes any more.
            let told = self.view.endpoints.iter().filter(|endpoint| exact.follows(endpoint.id));
            for slot in told.filter_map(|endpoint| self.slots.slot(endpoint.id)) {
                self.prefixes.learned.clear(slot);
            }
        }
        changed
    }

    /// What a gateway says about this pool.
    pub fn report(&mut self, gateway: GatewayId, report: &PoolReport, now: Timestamp) -> Reported {
        let mut bookings: BTreeMap<EndpointId, Load> = BTreeMap::new();
        for booked in &report.bookings {
            if let Some(id) = self.known(booked.endpoint) {
                let load = booked.bookings.as_ref().map(Load::from).unwrap_or_default();
                bookings.insert(id, load);
            }
        }
        let idle: Vec<EndpointId> = bookings.keys().copied().filter(|&id| !self.ledger.is_booked(id)).collect();
        let mut changed = self.ledger.report(gateway, &bookings, now);
        let busy = idle.into_iter().filter(|&id| self.ledger.is_booked(id));
        let mut hints: Vec<Hint> = busy.map(|endpoint| Hint::Busy { endpoint }).collect();
        changed |= !(report.routes.is_empty() && report.first_tokens.is_empty() && report.completions.is_empty());
        self.arrivals.observe(u32::try_from(report.routes.len()).unwrap_or(u32::MAX), now);
        for route in &report.routes {
            let Some(slot) = self.known(route.endpoint).and_then(|id| self.slots.slot(id)) else { continue };
            let told = self.prefixes.exact.as_mut().filter(|exact| exact.follows(EndpointId(route.endpoint)));
            if let Some(exact) = told.filter(|_| route.rendered) {
                exact.routed(route);
                continue;
            }
            let base = Some(route.base).filter(|&key| key != 0);
            // Gateways refuse tables with a key 0: one faulty report must not spoil the table for all.
            let sound = !route.keys.contains(&0);
            match sound.then(|| self.prefixes.learned.route(slot, base, &route.keys, now)) {
                Some(Ok(())) => self.counters.routes += 1,
                Some(Err(_)) => self.counters.orphan_routes += 1,
                None => self.counters.malformed_routes += 1,
            }
        }
        for sample in &report.first_tokens {
            if let Some(id) = self.known(sample.endpoint) {
                self.foresight.first_token(sample);
                self.rates.first_token(sample);
                self.failing.served(id);
            }
        }
        self.spending.report(&report.spent, now);
        changed |= !report.spent.is_empty();
        for completion in &report.completions {
            self.complete(completion, now);
        }
        for failure in report.failures.iter().filter(|failure| failure.count > 0) {
            if let Some(endpoint) = self.known(failure.endpoint) {
                changed |= self.failing.failed(endpoint, now);
                hints.push(Hint::Failed { endpoint, count: failure.count });
            }
        }
        Reported { hints, changed }
    }

    fn known(&mut self, endpoint: u64) -> Option<EndpointId> {
        let id = EndpointId(endpoint);
        if self.slots.slot(id).is_some() {
            return Some(id);
        }
        self.counters.unknown_endpoints += 1;
        None
    }

    fn complete(&mut self, completion: &Completion, now: Timestamp) {
        let Some(id) = self.known(completion.endpoint) else { return };
        if (1..500).contains(&completion.status) {
            self.failing.served(id);
        }
        self.hold_against(completion, now);
        self.foresight.completion(completion);
        self.rates.completion(completion);
        self.counters.completions += 1;
        let (prompt, predicted) = (completion.prompt_tokens, completion.predicted_cached_tokens);
        if prompt == 0 {
            return;
        }
        let cached = if completion.has_cached_tokens { completion.cached_tokens } else { predicted }.min(prompt);
        let output =
            if completion.output_tokens > 0 { f64::from(completion.output_tokens) } else { self.rates.output_tokens() };
        self.ledger.request_size(f64::from(prompt - cached), f64::from(prompt) + output / 2.0);
        self.counters.prompt_tokens += u64::from(prompt);
        if completion.has_cached_tokens {
            self.counters.hit_tokens += u64::from(cached);
            self.counters.predictions += 1;
            self.counters.overpredicted_tokens += u64::from(predicted.saturating_sub(cached));
            self.counters.underpredicted_tokens += u64::from(cached.saturating_sub(predicted));
        }
    }

    /// Compares with what was believed of the request.
    fn hold_against(&mut self, completion: &Completion, now: Timestamp) {
        let block_tokens = self.block_tokens();
        let grain = Grain { block_tokens, chunk_bytes: self.view.settings.chunk_bytes };
        let mut mode = Mode::Learned;
        if let Some(exact) = &mut self.prefixes.exact {
            exact.completed(completion, grain, now);
            if completion.rendered && exact.is_exact() && exact.follows(EndpointId(completion.endpoint)) {
                mode = Mode::Exact;
            }
        }
        self.truth.observe(completion, mode, block_tokens);
    }

    /// Tokens in a block, the most that any engine says.
    fn block_tokens(&self) -> u32 {
        let loads = self.view.endpoints.iter().filter_map(|endpoint| endpoint.load.as_ref()?.block_tokens);
        loads.max().filter(|&tokens| tokens > 0).unwrap_or(USUAL_BLOCK_TOKENS)
    }

    /// What `gateway` gets to know, without the age of scrapes (`set_ages` fills it in).
    #[must_use]
    pub fn live(&mut self, gateway: GatewayId, now: Timestamp) -> LivePool {
        let arrivals_per_second = self.arrivals.per_second(now);
        let rows = self.view.endpoints.iter().filter_map(|endpoint| {
            let slot = number(self.slots.slot(endpoint.id)?);
            let scrape = endpoint.load.as_ref().map(|load| scraped(load, &self.view));
            let others = Some(self.ledger.others(gateway, endpoint.id).wire());
            let failing = self.failing.contains(endpoint.id);
            Some(LiveEndpoint { slot, scrape, slowness: self.rates.slowness(endpoint.id), others, failing })
        });
        let mut endpoints: Vec<LiveEndpoint> = rows.collect();
        endpoints.sort_by_key(|endpoint| endpoint.slot);
        LivePool {
            name: self.view.name.clone(),
            rates: Some(self.rates.wire()),
            gateways: u32::try_from(self.ledger.gateways()).unwrap_or(u32::MAX).max(1),
            arrivals_per_second,
            endpoints,
            spent: self.spending.told(now),
        }
    }

    /// Fills in how old the scrapes in `live` are.
    pub fn set_ages(&self, live: &mut LivePool, now: Timestamp) {
        let ages: BTreeMap<u32, u32> = self.view.endpoints.iter().filter_map(|e| self.age(e, now)).collect();
        for endpoint in &mut live.endpoints {
            if let (Some(scrape), Some(&age)) = (&mut endpoint.scrape, ages.get(&endpoint.slot)) {
                scrape.age_ms = age;
            }
        }
    }

    fn age(&self, endpoint: &EndpointView, now: Timestamp) -> Option<(u32, u32)> {
        let age = now.since(endpoint.load.as_ref()?.at).as_millis();
        Some((number(self.slots.slot(endpoint.id)?), u32::try_from(age).unwrap_or(u32::MAX)))
    }

    /// Follows time in what is live. True when that changed.
    pub fn tick_live(&mut self, now: Timestamp) -> bool {
        let forgotten = self.failing.tick(now);
        self.ledger.tick(now) || forgotten
    }

    /// When `tick_live` has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.ledger.next_due().into_iter().chain(self.failing.next_due()).min()
    }
}

/// Gateways refuse tables with any other address.
fn is_socket_address(address: &str) -> bool {
    address.parse::<std::net::SocketAddr>().is_ok()
}
