//! Bringing together what is known of an endpoint from four sides: this process's bookings, other gateways' (fading as
//! they age), the published residency, and this VM's own recent routes.

use core::time::Duration;
use std::collections::BTreeSet;

use super::{Brain, LiveRows, Prompt};
use crate::circuit::Standing;
use crate::clock::Timestamp;
use crate::identity::{EndpointId, HashedMap, Slot};
use crate::ledger::Ledger;
use crate::routes::{STRIDE, TTL_ALONE, TTL_IN_TOUCH};
use crate::scheduling::cost::Supply;
use crate::scheduling::{Local, supply};
use crate::table::live::{LivePool, Scrape, Work};
use crate::table::residency::Depth;
use crate::table::{Endpoint, EndpointState, Pool};

/// Other gateways' bookings count in full to this age ...
const FRESH: Duration = Duration::from_millis(500);
/// ... and not at all from this one on: old bookings are worse than none.
const FADED: Duration = Duration::from_secs(2);
/// Half the time between two exchanges of bookings, seconds.
const MEAN_AGE_OF_OTHERS: f64 = 0.025;

/// What is known of an endpoint whatever the prompt.
struct Books {
    work: Work,
    /// Its scrape, unless that is too old.
    fresh: Option<Scrape>,
    /// Other gateways leave it alone, as far as that is known.
    failing: bool,
}

/// A pool's slots in the ledger's numbers, and back.
#[derive(Debug, Default)]
pub(super) struct SlotNumbers {
    numbers: Vec<Option<u32>>,
    slots: HashedMap<EndpointId, Slot>,
    /// Those that took requests when last seen, in slot order; `None`: the pool is new.
    ready: Option<Vec<EndpointId>>,
}

impl SlotNumbers {
    /// Follows the pool's endpoints; cheap when they are the same.
    pub(super) fn align(&mut self, pool: &Pool, ledger: &mut Ledger, now: Timestamp) {
        self.admit(pool, ledger, now);
        let same = pool.endpoints.len() == self.numbers.len()
            && pool.endpoints().count() == self.slots.len()
            && pool.endpoints().all(|(slot, endpoint)| self.slots.get(&endpoint.id) == Some(&slot));
        if same {
            return;
        }
        self.numbers = vec![None; pool.endpoints.len()];
        self.slots.clear();
        for (slot, endpoint) in pool.endpoints() {
            self.slots.insert(endpoint.id, slot);
            if let Some(place) = self.numbers.get_mut(slot.index()) {
                *place = Some(ledger.number(endpoint.id));
            }
        }
    }

    pub(super) fn holds(&self, endpoint: EndpointId) -> bool {
        self.slots.contains_key(&endpoint)
    }

    /// Who takes requests now and did not before is new.
    fn admit(&mut self, pool: &Pool, ledger: &mut Ledger, now: Timestamp) {
        let ready = || pool.endpoints().filter(|(_, row)| row.state == EndpointState::Ready).map(|(_, row)| row.id);
        if let Some(before) = &self.ready {
            if ready().eq(before.iter().copied()) {
                return;
            }
            let before: BTreeSet<EndpointId> = before.iter().copied().collect();
            ready().filter(|id| !before.contains(id)).for_each(|id| ledger.admit(id, now));
        }
        self.ready = Some(ready().collect());
    }
}

/// How old, on average, what we know of other gateways' latest bookings is; nothing is hidden from the only gateway.
pub(super) fn blind_seconds(live: &LivePool) -> f64 {
    if live.gateways > 1 { MEAN_AGE_OF_OTHERS } else { 0.0 }
}

/// The weight of bookings that were heard of `age` ago: 1, then falling to 0.
fn weight_at(age: Duration) -> f64 {
    let past = age.saturating_sub(FRESH).as_secs_f64() / (FADED - FRESH).as_secs_f64();
    (1.0 - past).max(0.0)
}

impl Brain {
    /// What is known of each endpoint for this prompt, by slot.
    pub(super) fn locals(
        &self,
        name: &str,
        pool: &Pool,
        rows: &LiveRows,
        prompt: &Prompt<'_>,
        now: Timestamp,
    ) -> Vec<Local> {
        let mut depths = vec![Depth::default(); pool.endpoints.len()];
        pool.residency.match_prefix(prompt.chain, &mut depths);
        self.add_own_routes(name, pool, prompt.chain, &mut depths, now);
        let tokens_per_chunk = f64::from(pool.settings.chunk_bytes) / bytes_per_token(&rows.pool, prompt);
        let silence = now.since(rows.received);
        let numbers = self.slots.get(name).map_or(&[][..], |slots| &slots.numbers);
        (0u16..)
            .zip(&depths)
            .map(|(index, depth)| {
                let number = numbers.get(usize::from(index)).copied().flatten();
                let Books { work, fresh, failing } = self.books_of(number, index, (pool, rows, silence));
                let held =
                    |chunks: u32, tokens: Option<u32>| tokens.map_or(f64::from(chunks) * tokens_per_chunk, f64::from);
                let matched = held(depth.device_chunks, depth.device_tokens);
                Local {
                    work,
                    matched_tokens: matched,
                    reload_tokens: (held(depth.any_chunks, depth.any_tokens) - matched).max(0.0),
                    kv_used: fresh.map_or(0.0, |scrape| scrape.kv_used),
                    circuit: self.circuit(number, failing, now),
                    warming: self.warming(number, pool, now),
                    scraped: fresh,
                    cold_turn: number.and_then(|number| self.cold.get(&number).copied()),
                }
            })
            .collect::<Vec<Local>>()
    }

    /// Tokens of the prompt that the endpoint with the most of them holds, in whatever tier.
    pub(super) fn held_tokens(&self, name: &str, prompt: &Prompt<'_>, now: Timestamp) -> f64 {
        let Some(pool) = self.pool(name) else { return 0.0 };
        let unknown = LiveRows::default();
        let locals = self.locals(name, pool, self.live.get(name).unwrap_or(&unknown), prompt, now);
        locals.iter().map(|local| local.matched_tokens + local.reload_tokens).fold(0.0, f64::max)
    }

    fn books_of(&self, number: Option<u32>, index: u16, (pool, rows, silence): (&Pool, &LiveRows, Duration)) -> Books {
        let row = Slot::new(u32::from(index)).map(|slot| rows.pool.endpoint(slot)).unwrap_or_default();
        let fresh = row.scrape.filter(|scrape| {
            let age = silence.saturating_add(Duration::from_millis(u64::from(scrape.age_ms)));
            age <= Duration::from_millis(u64::from(pool.settings.stale_after_ms))
        });
        let own = number.map(|number| self.ledger.in_process(number)).unwrap_or_default();
        let weight = weight_at(silence);
        let others = if weight < 1.0 { row.others.scaled(weight) } else { row.others };
        Books { work: own.plus(others), fresh, failing: row.failing && weight > 0.0 }
    }

    /// What this worker saw of an endpoint counts for more than what others say.
    fn circuit(&self, number: Option<u32>, failing: bool, now: Timestamp) -> Standing {
        let own = number.map_or(Standing::Closed, |number| self.ledger.standing(number, now));
        if failing && own == Standing::Closed { Standing::Failing } else { own }
    }

    /// Profiles know no slow start.
    fn warming(&self, number: Option<u32>, pool: &Pool, now: Timestamp) -> f64 {
        let window = pool.settings.slow_start.filter(|_| pool.settings.profile.is_none());
        number.zip(window).map_or(1.0, |(number, window)| self.ledger.warming(number, window, now))
    }

    /// What `endpoint` offers by the books alone, whatever it holds of a prompt; `None` when it is not in the table.
    pub(super) fn books(&self, name: &str, endpoint: EndpointId, now: Timestamp) -> Option<Supply> {
        let (pool, slots) = (self.pool(name)?, self.slots.get(name)?);
        let slot = *slots.slots.get(&endpoint)?;
        let unknown = LiveRows::default();
        let rows = self.live.get(name).unwrap_or(&unknown);
        let number = slots.numbers.get(slot.index()).copied().flatten();
        let silence = now.since(rows.received);
        let Books { work, fresh, failing: _ } =
            self.books_of(number, u16::try_from(slot.index()).ok()?, (pool, rows, silence));
        let kv_used = fresh.map_or(0.0, |scrape| scrape.kv_used);
        let local = Local { work, kv_used, scraped: fresh, ..Local::default() };
        Some(supply(&rows.pool, slot, &local))
    }

    /// Each endpoint of the pool called `name`, with everybody's work on it and its last scrape with its age, however old.
    pub(super) fn sights<'a>(
        &'a self,
        name: &str,
        now: Timestamp,
    ) -> impl Iterator<Item = (&'a Endpoint, Work, Option<(Scrape, Duration)>)> + use<'a> {
        let (pool, rows) = (self.pool(name), self.live.get(name));
        let numbers = self.slots.get(name).map_or(&[][..], |slots| &slots.numbers);
        let silence = rows.map_or(Duration::MAX, |rows| now.since(rows.received));
        let weight = weight_at(silence);
        pool.into_iter().flat_map(Pool::endpoints).map(move |(slot, endpoint)| {
            let row = rows.map(|rows| rows.pool.endpoint(slot)).unwrap_or_default();
            let own = numbers.get(slot.index()).copied().flatten();
            let own = own.map(|number| self.ledger.in_process(number)).unwrap_or_default();
            let age = |scrape: Scrape| silence.saturating_add(Duration::from_millis(u64::from(scrape.age_ms)));
            (endpoint, own.plus(row.others.scaled(weight)), row.scrape.map(|scrape| (scrape, age(scrape))))
        })
    }

    /// What this process has on `endpoint`.
    pub(super) fn in_process(&self, name: &str, endpoint: EndpointId) -> Work {
        let slots = self.slots.get(name);
        let number = slots.and_then(|slots| *slots.numbers.get(slots.slots.get(&endpoint)?.index())?);
        number.map(|number| self.ledger.in_process(number)).unwrap_or_default()
    }

    /// How much of what is known of other gateways' work counts at `now`, 0..=1.
    pub(super) fn weight_of_others(&self, name: &str, now: Timestamp) -> f64 {
        self.live.get(name).map_or(1.0, |rows| weight_at(now.since(rows.received)))
    }

    /// C on `endpoint` at `now`, everybody's: what a response's time per token is held against.
    pub(crate) fn context_tokens(&mut self, name: &str, endpoint: EndpointId, now: Timestamp) -> u64 {
        let number = self.ledger.number(endpoint);
        let own = self.ledger.in_process(number).context_tokens;
        let slot = self.slots.get(name).and_then(|slots| slots.slots.get(&endpoint));
        let others = self.live.get(name).zip(slot).map_or(0, |(rows, &slot)| {
            let others = rows.pool.endpoint(slot).others;
            others.scaled(weight_at(now.since(rows.received))).context_tokens
        });
        own.saturating_add(others)
    }

    /// An endpoint that goes on only from checkpoints keeps one where a prompt ended, and perhaps none elsewhere.
    fn add_own_routes(&self, name: &str, pool: &Pool, chain: &[u64], depths: &mut [Depth], now: Timestamp) {
        let Some(slots) = self.slots.get(name) else { return };
        let alone = self.heard.is_none_or(|heard| now.since(heard) > TTL_IN_TOUCH);
        let ttl = if alone { TTL_ALONE } else { TTL_IN_TOUCH };
        let resuming = pool.residency.resuming();
        let resumes = |slot: Slot| resuming.binary_search_by_key(&slot, |holder| holder.slot).is_ok();
        let mut to_an_end = 0;
        self.routes.matches(chain, now, ttl, |endpoint, chunks| {
            let Some(&slot) = slots.slots.get(&endpoint) else { return };
            if resumes(slot) {
                to_an_end = to_an_end.max(chunks);
            } else if let Some(depth) = depths.get_mut(slot.index()) {
                deepen(depth, chunks);
            }
        });
        if to_an_end == 0 {
            return;
        }
        // A mark may be up to a stride before the end.
        let routed = chain.get(..to_an_end + STRIDE).unwrap_or(chain);
        self.routes.ends(routed, now, ttl, |endpoint, chunks| {
            let slot = slots.slots.get(&endpoint).filter(|&&slot| resumes(slot));
            if let Some(depth) = slot.and_then(|slot| depths.get_mut(slot.index())) {
                deepen(depth, chunks);
            }
        });
    }
}

/// The endpoint was sent `chunks` of the prompt.
fn deepen(depth: &mut Depth, chunks: usize) {
    let chunks = u32::try_from(chunks).unwrap_or(u32::MAX);
    if depth.device_chunks < chunks {
        let any_chunks = depth.any_chunks.max(chunks);
        let any_tokens = depth.any_tokens.filter(|_| any_chunks > chunks);
        *depth = Depth { device_chunks: chunks, device_tokens: None, any_chunks, any_tokens };
    }
}

/// Token ids are hashed as four bytes each; text has the pool's fitted ratio.
pub(super) fn bytes_per_token(live: &LivePool, prompt: &Prompt<'_>) -> f64 {
    if prompt.tokens.is_some() { 4.0 } else { live.rates.bytes_per_token.max(0.25) }
}
