//! A control plane without sockets: the real `Board` and `TableLog`, fed with reports and scrapes as bytes and samples. It
//! publishes as the real task does; streams are replaced by a version number per gateway.

use std::collections::BTreeMap;

use controlplane::bookings::ledger::GatewayId;
use controlplane::datastore::{EndpointView, LoadSample, PoolView, Readiness, View};
use controlplane::publish::board::{Board, RESIDENCY_BUDGET};
use controlplane::publish::log::{LOG_BYTES, Next, TableLog};
use controlplane::publish::status::Status;
use prost::Message;
use shared::clock::Timestamp;
use shared::identity::EndpointId;
use shared::table::TableVersion;
use shared::wire;

use crate::gateway::Told;
use crate::prompt::MODEL;

/// The only pool.
pub const POOL: &str = "pool";
/// Spreads keys inside the index; a constant keeps runs repeatable.
const SECRET: u64 = 0x6c61_6221;

/// See the module.
pub struct Plane {
    board: Board,
    log: TableLog,
    view: View,
    seats: BTreeMap<usize, Seat>,
    opened: u64,
    news: bool,
}

struct Seat {
    id: GatewayId,
    version: Option<u64>,
}

impl Plane {
    /// Knows the addresses of all pods and when requests wait, and nothing else.
    #[must_use]
    pub fn new(epoch: u64, addresses: &[String], flow: Option<wire::FlowControl>) -> Self {
        let endpoint = |address: &String| EndpointView {
            id: EndpointId::of(address),
            address: address.clone(),
            labels: BTreeMap::new(),
            readiness: Readiness::Ready,
            models: Some(vec![MODEL.to_owned()]),
            load: None,
        };
        let mut endpoints: Vec<EndpointView> = addresses.iter().map(endpoint).collect();
        endpoints.sort_by(|a, b| a.address.cmp(&b.address));
        let models = vec![wire::Model { name: MODEL.to_owned(), base: String::new() }];
        let pool = PoolView { name: POOL.to_owned(), settings: settings(flow), models, endpoints };
        let (board, log) = (Board::new(epoch, SECRET, RESIDENCY_BUDGET), TableLog::new(epoch, LOG_BYTES));
        let mut plane =
            Self { board, log, view: View { pools: vec![pool] }, seats: BTreeMap::new(), opened: 0, news: true };
        plane.board.observe(&plane.view);
        plane
    }

    /// A gateway opens a stream; it has `have` already.
    pub fn open(&mut self, gateway: usize, have: TableVersion, now: Timestamp) {
        self.opened += 1;
        let id = GatewayId(self.opened);
        self.board.open(id, format!("gateway-{gateway}"), Vec::new(), now);
        self.seats.insert(gateway, Seat { id, version: self.log.resume(have.epoch, have.version) });
        self.news = true;
    }

    /// The stream of a gateway broke.
    pub fn close(&mut self, gateway: usize, now: Timestamp) {
        if let Some(seat) = self.seats.remove(&gateway) {
            self.board.close(seat.id, now);
            self.news = true;
        }
    }

    /// A gateway refused what it was sent.
    pub fn refused(&mut self, gateway: usize) {
        if let Some(seat) = self.seats.get_mut(&gateway) {
            seat.version = None;
            self.news = true;
        }
    }

    /// An encoded `wire::Report`. Malformed ones and those of closed streams are ignored.
    pub fn report(&mut self, gateway: usize, report: &[u8], now: Timestamp) {
        if let (Some(seat), Ok(report)) = (self.seats.get(&gateway), wire::Report::decode(report)) {
            self.board.report(seat.id, &report, now);
            self.news = true;
        }
    }

    /// An engine's figures arrived.
    pub fn scraped(&mut self, address: &str, sample: LoadSample) {
        let endpoints = self.view.pools.iter_mut().flat_map(|pool| &mut pool.endpoints);
        if let Some(endpoint) = endpoints.into_iter().find(|endpoint| endpoint.address == address) {
            endpoint.load = Some(sample);
        }
        self.board.observe(&self.view);
        self.news = true;
    }

    /// Publishes if there is anything new or due: what goes to which gateway.
    pub fn publish(&mut self, now: Timestamp) -> Vec<(usize, Told)> {
        if !self.news && self.board.next_due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.news = false;
        for delta in self.board.take_deltas(now) {
            self.log.append(delta);
        }
        let mut told = Vec::new();
        for (&gateway, seat) in &mut self.seats {
            if seat.version.is_none() && self.log.needs_snapshot() {
                self.log.set_snapshot(self.board.snapshot());
            }
            while let Next::Segments(segments, reached) = self.log.next(seat.version) {
                seat.version = Some(reached);
                told.push((gateway, Told::Table(segments.iter().map(|segment| segment.encode_to_vec()).collect())));
            }
        }
        let gateways: BTreeMap<GatewayId, usize> =
            self.seats.iter().map(|(&gateway, seat)| (seat.id, gateway)).collect();
        for (id, live) in self.board.take_lives(now) {
            if let Some(&gateway) = gateways.get(&id) {
                told.push((gateway, Told::Live(live.encode_to_vec())));
            }
        }
        told
    }

    /// What it knows, for people.
    #[must_use]
    pub fn status(&mut self, now: Timestamp) -> Status {
        self.board.status(now)
    }
}

/// The product's defaults.
fn settings(flow: Option<wire::FlowControl>) -> wire::PoolSettings {
    wire::PoolSettings {
        chunk_bytes: 128,
        slo_ttft_seconds: crate::outcome::SLO_TTFT,
        slo_tpot_seconds: crate::outcome::SLO_TPOT,
        choices: 3,
        explain: false,
        max_body_bytes: 32 << 20,
        session_header: String::new(),
        stale_after_ms: 2000,
        profile: None,
        flow,
        admission: None,
        objectives: crate::callers::objectives(),
        budgets: Vec::new(),
        rewrites: Vec::new(),
        ..wire::PoolSettings::default()
    }
}
