//! One pool's bookings by endpoint and gateway, fused with scrapes.
//!
//! A scrape is judged `REPORT_LAG` after it arrived, when the reports of the moments before it are in. Until then the
//! verdict on the scrape before it stands.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::clock::Timestamp;
use shared::identity::EndpointId;

use super::history::History;
use super::load::Load;
use crate::rates::average::Average;

/// A gateway that is silent for this long has no bookings any more; living ones report at least every second.
pub const SILENCE: Duration = Duration::from_secs(2);
/// Reports are at most this old when they arrive.
pub const REPORT_LAG: Duration = Duration::from_millis(20);
/// What a scrape shows may be this old: the engine's own update and the answer's way.
const SCRAPE_LAG: Duration = Duration::from_millis(150);
/// Surplus of a scrape that was followed by no other is forgotten.
const SURPLUS_LIFE: Duration = Duration::from_secs(5);
/// Requests that may be between a gateway and the engine's queue (tokenization, the API server) without being a leak.
const IN_TRANSIT: u64 = 3;
/// Scrapes in a row that must contradict a gateway's bookings before they are clamped.
const LEAK_SCRAPES: u8 = 3;

/// Number of a gateway, given by the caller; not used again for another one while this one has bookings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(pub u64);

impl GatewayId {
    /// A gateway that never books anything: to it, all work is others'.
    pub const NOBODY: Self = Self(u64::MAX);
}

/// What an engine says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scraped {
    /// When the answer arrived.
    pub at: Timestamp,
    /// Requests in the running batch.
    pub running: u32,
    /// Requests that wait for admission.
    pub waiting: u32,
}

impl Scraped {
    const fn in_flight(&self) -> u64 {
        self.running as u64 + self.waiting as u64
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Contribution {
    load: Load,
    /// Scrapes in a row that showed less in flight than this gateway alone booked.
    contradicted: u8,
    /// What is counted in place of `load.in_flight()` once that happened too often.
    clamp: Option<u64>,
}

impl Contribution {
    fn counted(&self) -> Load {
        self.clamp.map_or(self.load, |most| self.load.clamped(most))
    }
}

#[derive(Clone, Debug, Default)]
struct Account {
    by_gateway: BTreeMap<GatewayId, Contribution>,
    history: History,
    pending: Option<Scraped>,
    judged: Timestamp,
    surplus: Load,
}

impl Account {
    fn booked(&self) -> Load {
        self.by_gateway.values().fold(Load::default(), |sum, c| sum.plus(c.load))
    }

    fn record(&mut self, now: Timestamp) {
        let booked = self.booked();
        self.history.record(now, booked, SCRAPE_LAG + REPORT_LAG);
    }
}

/// The last report of a gateway: when it came, and where it has bookings.
#[derive(Clone, Debug)]
struct Presence {
    at: Timestamp,
    endpoints: Vec<EndpointId>,
}

/// Bookings of one pool.
#[derive(Clone, Debug)]
pub struct Ledger {
    accounts: BTreeMap<EndpointId, Account>,
    heard: BTreeMap<GatewayId, Presence>,
    uncached_tokens: Average,
    context_tokens: Average,
    clamped: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            accounts: BTreeMap::new(),
            heard: BTreeMap::new(),
            uncached_tokens: Average::new(500.0, 0.02, 16.0, 1_000_000.0),
            context_tokens: Average::new(1_000.0, 0.02, 16.0, 1_000_000.0),
            clamped: 0,
        }
    }
}

impl Ledger {
    /// A gateway's bookings as they stand: an endpoint that is not among them has none. True when they changed.
    pub fn report(&mut self, gateway: GatewayId, bookings: &BTreeMap<EndpointId, Load>, now: Timestamp) -> bool {
        let booked = Presence { at: now, endpoints: bookings.keys().copied().collect() };
        let before = self.heard.insert(gateway, booked);
        let mut changed = before.is_none();
        let before = before.map(|p| p.endpoints).unwrap_or_default();
        for (&endpoint, &load) in bookings {
            let account = self.accounts.entry(endpoint).or_default();
            let contribution = account.by_gateway.entry(gateway).or_default();
            if contribution.load != load {
                contribution.load = load;
                account.record(now);
                changed = true;
            }
        }
        for endpoint in before.iter().filter(|&e| !bookings.contains_key(e)) {
            self.withdraw(gateway, *endpoint, now);
            changed = true;
        }
        changed
    }

    /// The gateway's stream ended.
    pub fn gateway_gone(&mut self, gateway: GatewayId, now: Timestamp) {
        for endpoint in self.heard.remove(&gateway).map(|p| p.endpoints).unwrap_or_default() {
            self.withdraw(gateway, endpoint, now);
        }
    }

    fn withdraw(&mut self, gateway: GatewayId, endpoint: EndpointId, now: Timestamp) {
        if let Some(account) = self.accounts.get_mut(&endpoint)
            && account.by_gateway.remove(&gateway).is_some()
        {
            account.record(now);
        }
    }

    /// The endpoint left the pool.
    pub fn endpoint_gone(&mut self, endpoint: EndpointId) {
        self.accounts.remove(&endpoint);
    }

    /// A request's size became known: what an unknown one probably has.
    pub fn request_size(&mut self, uncached_tokens: f64, context_tokens: f64) {
        self.uncached_tokens.observe(uncached_tokens);
        self.context_tokens.observe(context_tokens);
    }

    /// A scrape arrived; it counts from `tick` at `scraped.at + REPORT_LAG` on.
    pub fn scrape(&mut self, endpoint: EndpointId, scraped: Scraped) {
        let account = self.accounts.entry(endpoint).or_default();
        if scraped.at > account.judged {
            account.pending = Some(scraped);
        }
    }

    /// Judges due scrapes and forgets the silent. True when what `others` answers may have changed.
    pub fn tick(&mut self, now: Timestamp) -> bool {
        let silent: Vec<GatewayId> =
            self.heard.iter().filter(|&(_, p)| now.since(p.at) > SILENCE).map(|(&id, _)| id).collect();
        for &gateway in &silent {
            self.gateway_gone(gateway, now);
        }
        let mut changed = !silent.is_empty();
        let (uncached, context) = (whole(self.uncached_tokens.get()), whole(self.context_tokens.get()));
        for account in self.accounts.values_mut() {
            let before = account.surplus;
            if let Some(scraped) = account.pending.take_if(|s| now >= s.at.after(REPORT_LAG)) {
                account.judged = scraped.at;
                account.surplus = surplus(&account.history, scraped, uncached, context);
                let least = account.history.trough(before_scrape(scraped), scraped.at.after(REPORT_LAG));
                let clamps = contradict(&mut account.by_gateway, least, scraped);
                self.clamped = self.clamped.saturating_add(clamps);
                changed |= clamps > 0;
            } else if now.since(account.judged) > SURPLUS_LIFE {
                account.surplus = Load::default();
            }
            changed |= account.surplus != before;
        }
        changed
    }

    /// When `tick` has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.accounts.values().filter_map(|a| a.pending).map(|s| s.at.after(REPORT_LAG)).min()
    }

    /// Work on the endpoint that is not `gateway`'s own: other gateways' bookings and unknown clients' requests.
    #[must_use]
    pub fn others(&self, gateway: GatewayId, endpoint: EndpointId) -> Load {
        let Some(account) = self.accounts.get(&endpoint) else { return Load::default() };
        let others = account.by_gateway.iter().filter(|&(&id, _)| id != gateway);
        others.fold(account.surplus, |sum, (_, c)| sum.plus(c.counted()))
    }

    /// Has any gateway work on the endpoint?
    #[must_use]
    pub fn is_booked(&self, endpoint: EndpointId) -> bool {
        self.accounts.get(&endpoint).is_some_and(|account| account.booked().in_flight() > 0)
    }

    /// Gateways that report now.
    #[must_use]
    pub fn gateways(&self) -> usize {
        self.heard.len()
    }

    /// How often a gateway's bookings were clamped because scrapes contradicted them.
    #[must_use]
    pub const fn clamped(&self) -> u64 {
        self.clamped
    }
}

fn surplus(history: &History, scraped: Scraped, uncached: u64, context: u64) -> Load {
    let (waiting, in_flight) = history.peak(before_scrape(scraped), scraped.at.after(REPORT_LAG));
    let decoding = u64::from(scraped.running).saturating_sub(in_flight);
    let queued = u64::from(scraped.waiting).saturating_sub(waiting);
    Load {
        waiting: queued,
        decoding,
        queued_tokens: queued.saturating_mul(uncached),
        context_tokens: queued.saturating_add(decoding).saturating_mul(context),
    }
}

/// Since when the scraped figures may have been true.
fn before_scrape(scraped: Scraped) -> Timestamp {
    let lag = u64::try_from(SCRAPE_LAG.as_nanos()).unwrap_or(u64::MAX);
    Timestamp::from_nanos(scraped.at.as_nanos().saturating_sub(lag))
}

/// Bookings that the engine should show and does not: a leak, or a gateway that died with its requests. `least` is the
/// least that everybody had booked around the scrape, so what is on its way to the engine's queue is not held against
/// anybody.
fn contradict(by_gateway: &mut BTreeMap<GatewayId, Contribution>, least: u64, scraped: Scraped) -> u64 {
    let shown = scraped.in_flight();
    let believable = least <= shown.saturating_add(IN_TRANSIT).saturating_add(shown / 8);
    let mut clamps = 0;
    for contribution in by_gateway.values_mut() {
        if believable || contribution.load.in_flight() <= shown {
            contribution.contradicted = 0;
            contribution.clamp = None;
            continue;
        }
        contribution.contradicted = contribution.contradicted.saturating_add(1);
        if contribution.contradicted >= LEAK_SCRAPES {
            clamps += u64::from(contribution.clamp.is_none());
            contribution.clamp = Some(shown);
        }
    }
    clamps
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded means; the cast saturates")]
const fn whole(mean: f64) -> u64 {
    mean as u64
}

#[cfg(test)]
mod tests;
