//! Everything one VM knows, and the verbs on it: fold tables in, route a prompt, follow its response, report. Requests
//! themselves live in `lifecycle`; this is what they share.
//!
//! Nothing here is per request except what a `Routed` carries away.

mod budget;
mod failover;
pub mod flow;
mod knowledge;
mod outbox;
mod renderers;

use core::time::Duration;
use std::collections::BTreeMap;

pub use failover::Turned;
pub use outbox::{Observation, Outbox};

use crate::api::BodyScanner;
use crate::budget::Meters;
use crate::clock::Timestamp;
use crate::identity::{EndpointId, Slot};
use crate::ledger::{Due, Ledger, Load, Ticket};
use crate::routes::RecentRoutes;
use crate::scheduling::candidate::Candidate;
use crate::scheduling::latency::{Figures, Latency};
use crate::scheduling::{self, Decision, NoCandidate, Request};
use crate::table::codec::{self, Malformed};
use crate::table::live::LivePool;
use crate::table::sync::{Folded, Refused, TableSync};
use crate::table::{Pool, RoutingTable};
use crate::wire;
use knowledge::SlotNumbers;
use renderers::Renderers;

/// What one VM knows.
#[derive(Debug, Default)]
pub struct Brain {
    sync: TableSync,
    live: BTreeMap<String, LiveRows>,
    slots: BTreeMap<String, SlotNumbers>,
    /// Work in flight.
    pub ledger: Ledger,
    /// Prompts sent a moment ago.
    pub routes: RecentRoutes,
    /// What the control plane has not been told yet.
    pub outbox: Outbox,
    /// By the ledger's number of an endpoint: when the last request went there that nobody held anything of.
    cold: BTreeMap<u32, u64>,
    cold_turns: u64,
    /// Who waits.
    flows: flow::Flows,
    /// By pool: what tenants have spent.
    meters: BTreeMap<String, Meters>,
    /// Workers of this process that decide; at least 1.
    pub workers: u32,
    /// The shell cannot let requests wait: flow control is not in force here.
    pub queueless: bool,
    /// Compiled from the table.
    pub(crate) renderers: Renderers,
    heard: Option<Timestamp>,
    /// Body scanners between two requests, with their buffers.
    #[expect(clippy::vec_box, reason = "a scanner is large and moves between here and a request on every request")]
    pub(crate) idle_scanners: Vec<Box<BodyScanner>>,
}

#[derive(Debug, Default)]
struct LiveRows {
    pool: LivePool,
    received: Timestamp,
}

/// A prompt, as far as choosing needs it.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// Its chain keys.
    pub chain: &'a [u64],
    /// Its length in canonical bytes; four a token for token-id prompts.
    pub bytes: u64,
    /// Its length when the client tokenized it.
    pub tokens: Option<u32>,
    /// The chain is that of the rendered prompt, which engines' events tell of.
    pub rendered: bool,
}

/// Where a request goes and what it was booked with.
#[derive(Debug)]
pub struct Routed {
    /// The decision, for the explanation.
    pub decision: Decision,
    /// The endpoints of the steering header, best first; never empty.
    pub choices: Vec<EndpointId>,
    /// `ip:port[,ip:port...]`.
    pub destination: String,
    /// To be released.
    pub ticket: Ticket,
    /// What its time to the first token depends on, at the first choice.
    pub figures: Figures,
    /// What was believed of the prompt, to be held against what the engine says.
    pub belief: Belief,
    /// Tokens that the first choice would have to compute.
    pub uncached_tokens: u64,
    /// Context that was booked on it.
    pub context_tokens: u64,
    /// What was predicted of the first choice.
    pub predicted: Latency,
    /// What flow control charged for it; `None` without flow control.
    pub charged: Option<flow::Charged>,
}

/// What a decision believed of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Belief {
    /// Prompt tokens that the first choice holds, in whatever tier.
    pub cached: u32,
    /// The most that any other candidate holds; `None` when only endpoints of last resort were left.
    pub elsewhere: Option<u32>,
    /// As in `Prompt`.
    pub rendered: bool,
    /// The last key of its chain; 0 for none.
    pub leaf: u64,
}

impl Belief {
    fn of(decision: &Decision, first: &Candidate, prompt: &Prompt<'_>) -> Self {
        let held = |candidate: &Candidate| candidate.supply.matched_tokens + candidate.supply.reload_tokens;
        let others = decision.candidates.iter().filter(|other| other.slot != first.slot).map(held);
        let elsewhere = if decision.last_resort { None } else { Some(others.fold(0.0, f64::max)) };
        let whole = |tokens: f64| u32::try_from(whole_tokens(tokens)).unwrap_or(u32::MAX);
        Self {
            cached: whole(held(first)),
            elsewhere: elsewhere.map(whole),
            rendered: prompt.rendered,
            leaf: prompt.chain.last().copied().unwrap_or(0),
        }
    }
}

impl Routed {
    /// The first choice's first token arrived so long after routing.
    pub(crate) fn first_token(&self, endpoint: EndpointId, ttft: Duration) -> wire::FirstToken {
        let Figures { tokens_ahead, attention, context, overflow, reloaded } = self.figures;
        wire::FirstToken {
            endpoint: endpoint.0,
            ttft_seconds: ttft.as_secs_f64(),
            tokens_ahead: whole_tokens(tokens_ahead),
            attention,
            context_tokens: whole_tokens(context),
            overflow,
            reloaded_tokens: whole_tokens(reloaded),
            predicted_ttft_seconds: self.predicted.ttft,
        }
    }
}

impl Brain {
    /// The table in force.
    #[must_use]
    pub const fn table(&self) -> &RoutingTable {
        self.sync.table()
    }

    /// Was a table ever received?
    #[must_use]
    pub const fn has_table(&self) -> bool {
        self.sync.has_table()
    }

    /// The pool called `name`.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.table().pools.get(name)
    }

    /// The live rows of the pool called `name`.
    #[must_use]
    pub fn live(&self, name: &str) -> Option<&LivePool> {
        self.live.get(name).map(|rows| &rows.pool)
    }

    /// Since when the control plane has been silent; `None` before it first spoke.
    #[must_use]
    pub const fn last_heard(&self) -> Option<Timestamp> {
        self.heard
    }

    /// Folds an encoded `wire::Segment` in.
    ///
    /// # Errors
    /// `Refused`; the table in force is unchanged.
    pub fn fold(&mut self, segment: &[u8], received: Timestamp) -> Result<Folded, Refused> {
        let folded = self.sync.fold(segment)?;
        self.hear(received);
        if let Folded::InForce(_) = folded {
            let table = self.sync.table();
            self.slots.retain(|name, _| table.pools.contains_key(name));
            self.renderers.align(&table.pools);
            for (name, pool) in &table.pools {
                self.slots.entry(name.clone()).or_default().align(pool, &mut self.ledger, received);
            }
        }
        Ok(folded)
    }

    /// Takes a `wire::Live` message, received at `received`.
    ///
    /// # Errors
    /// `Malformed`; what was known stays.
    pub fn set_live(&mut self, live: wire::Live, received: Timestamp) -> Result<(), Malformed> {
        let counted = live.counted.clone();
        let pools = codec::live(live)?;
        self.live = pools.into_iter().map(|(name, pool)| (name, LiveRows { pool, received })).collect();
        self.forget_mirror();
        self.hear_of_budgets(&counted, received);
        self.hear(received);
        Ok(())
    }

    /// The control plane said something at `now`.
    pub fn hear(&mut self, now: Timestamp) {
        self.heard = self.heard.max(Some(now));
    }

    /// Which pool serves `model`: the only one, else the one that names it, else the one with a rule that does, else the
    /// one that takes any name.
    #[must_use]
    pub fn pool_for(&self, model: Option<&str>) -> Option<&str> {
        let pools = &self.table().pools;
        if pools.len() == 1 {
            return pools.keys().next().map(String::as_str);
        }
        let model = model?;
        let named = pools.iter().find(|(_, pool)| pool.models.iter().any(|row| row.name == model));
        let renamed = || pools.iter().find(|(_, pool)| pool.settings.rewrites.names(model));
        let any = || pools.iter().find(|(_, pool)| pool.models.is_empty() || pool.settings.rewrites.takes_any());
        named.or_else(renamed).or_else(any).map(|(name, _)| name.as_str())
    }

    /// Chooses for `prompt` in the pool called `name` and books it. `None` when there is no such pool.
    /// `whole_body`: its first token will not be seen.
    pub fn route(
        &mut self,
        name: &str,
        prompt: &Prompt<'_>,
        request: &Request<'_>,
        whole_body: bool,
        now: Timestamp,
    ) -> Option<Result<Routed, NoCandidate>> {
        let decision = match self.decide(name, prompt, request, now)? {
            Ok(decision) => decision,
            Err(none) => return Some(Err(none)),
        };
        self.book(name, prompt, request, whole_body, (decision, now)).map(Ok)
    }

    /// Books what was decided at `now`.
    fn book(
        &mut self,
        name: &str,
        prompt: &Prompt<'_>,
        request: &Request<'_>,
        whole_body: bool,
        (decision, now): (Decision, Timestamp),
    ) -> Option<Routed> {
        let first = decision.choices().next()?.clone();
        let destination = self.destination(name, decision.choices());
        let choices: Vec<EndpointId> = decision.choices().map(|candidate| candidate.id).collect();
        let uncached = whole_tokens(first.uncached_tokens);
        let context = whole_tokens(request.demand.prompt_tokens + request.demand.output_tokens / 2.0);
        let due = now.after(Duration::try_from_secs_f64(first.terms.own_ttft).unwrap_or(Duration::from_secs(3600)));
        let patience = self.pool(name).and_then(|pool| pool.settings.first_token_timeout);
        let due =
            if whole_body { Some(Due::Prefilled(due)) } else { patience.map(|wait| Due::Stalled(now.after(wait))) };
        let load = Load { uncached_tokens: uncached, context_tokens: context, due };
        let ticket = self.ledger.book(first.id, load, now);
        self.routes.remember(prompt.chain, first.id, now);
        self.remember_cold(name, &decision, first.id);
        self.outbox.routed(name, first.id, self.news(name, first.slot, prompt.chain), prompt.rendered);
        Some(Routed {
            choices,
            destination,
            ticket,
            figures: Figures::of(&request.demand, &first.supply),
            belief: Belief::of(&decision, &first, prompt),
            uncached_tokens: uncached,
            context_tokens: context,
            predicted: first.latency,
            charged: None,
            decision,
        })
    }

    /// Chooses without booking: what `route` would do now.
    #[must_use]
    pub fn decide(
        &self,
        name: &str,
        prompt: &Prompt<'_>,
        request: &Request<'_>,
        now: Timestamp,
    ) -> Option<Result<Decision, NoCandidate>> {
        let pool = self.pool(name)?;
        let unknown = LiveRows::default();
        let rows = self.live.get(name).unwrap_or(&unknown);
        let local = self.locals(name, pool, rows, prompt, now);
        let blind = knowledge::blind_seconds(&rows.pool);
        Some(scheduling::schedule(pool, &rows.pool, &local, request, blind))
    }

    /// Everything the control plane has not been told, with this process's bookings as they stand.
    pub fn report(&mut self, sequence: u64) -> wire::Report {
        let mut report = wire::Report { sequence, ..self.outbox.take() };
        let busy: BTreeMap<EndpointId, wire::Bookings> =
            self.ledger.busy().map(|(id, work)| (id, work.to_wire())).collect();
        for (name, pool) in &self.sync.table().pools {
            let at = report.pools.iter().position(|row| row.name == *name).unwrap_or_else(|| {
                report.pools.push(wire::PoolReport { name: name.clone(), ..wire::PoolReport::default() });
                report.pools.len() - 1
            });
            let Some(row) = report.pools.get_mut(at) else { continue };
            row.bookings = pool
                .endpoints()
                .filter_map(|(_, endpoint)| {
                    let bookings = Some(*busy.get(&endpoint.id)?);
                    Some(wire::EndpointBookings { endpoint: endpoint.id.0, bookings })
                })
                .collect();
        }
        report
    }

    /// A request that nobody holds anything of goes to `id`: some profiles spread these.
    fn remember_cold(&mut self, name: &str, decision: &Decision, id: EndpointId) {
        let profile = self.pool(name).and_then(|pool| pool.settings.profile.as_ref());
        let cold = || decision.candidates.iter().all(|candidate| candidate.matched_tokens() <= 0.0);
        if profile.is_some_and(|profile| profile.remembers_cold()) && cold() {
            self.cold_turns += 1;
            self.cold.insert(self.ledger.number(id), self.cold_turns);
        }
    }

    /// The steering header for `choices` of the pool called `name`.
    pub(crate) fn destination<'a>(&self, name: &str, choices: impl Iterator<Item = &'a Candidate>) -> String {
        let mut list = String::new();
        let Some(pool) = self.pool(name) else { return list };
        for endpoint in choices.filter_map(|choice| pool.endpoints.get(choice.slot.index())?.as_ref()) {
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(&endpoint.address);
        }
        list
    }

    /// The part of `chain` that the control plane does not know `slot` to hold, with the key before it (0: the root).
    fn news<'a>(&self, name: &str, slot: Slot, chain: &'a [u64]) -> (u64, &'a [u64]) {
        let Some(pool) = self.pool(name) else { return (0, chain) };
        let held = pool.residency.held_chunks(chain, slot);
        // The last held chunk goes along even when nothing is new: it renews the whole chain's age.
        let from = held.min(chain.len().saturating_sub(1));
        let base = from.checked_sub(1).and_then(|at| chain.get(at)).copied().unwrap_or(0);
        (base, chain.get(from..).unwrap_or_default())
    }
}

/// Whole tokens of a non-negative estimate, rounded.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates at both ends")]
fn whole_tokens(estimate: f64) -> u64 {
    libm::round(estimate) as u64
}

#[cfg(test)]
mod tests;
