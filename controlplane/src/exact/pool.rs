//! One pool's exact residency, pure: news in, changes of the table out. Whether our rendering is believed is `trust`'s part.

mod trust;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::clock::Timestamp;
use shared::identity::{EndpointId, Slot};
use shared::wire::{Rendering, ResidencyGroup};

use super::doubt::Doubt;
use super::judge::Judged;
use super::oracle::Oracle;
use super::status::{DoubtStatus, EngineStatus, PrefixStatus, PrefixTotals};
use super::token_ids::VocabularyRows;
use super::{ExactModel, ModelState};
use crate::events::sequence::Coverage;
use crate::events::subscribe::Update;
use crate::publish::board::RESIDENCY_BUDGET;
use crate::residency::exact::{ExactCounters, ExactResidency, Scope};
use crate::residency::holder::Holder;

/// Memory that a block of one endpoint may take, with all that belongs to it: the bar of the index.
const MEMBERSHIP_BYTES: usize = 64;
/// What an engine held when its stream broke is believed for this long.
const GRACE: Duration = Duration::from_secs(10);

/// See the module.
pub struct ExactPool {
    model: ModelState,
    residency: Option<ExactResidency>,
    streams: BTreeMap<EndpointId, Stream>,
    /// Published keys of a residency that is no more, or that is withheld.
    retired: Vec<u64>,
    /// The residency was withheld: all of it is due.
    restored: bool,
    oracle: Oracle,
    doubt: Doubt,
    /// Tokens in a block, the most that any engine told; 0: none did.
    block_tokens: u32,
    /// Since when the mode is what it is.
    since: Timestamp,
    secret: u64,
    /// Memory that the pool's blocks may take.
    budget_bytes: usize,
    totals: PrefixTotals,
}

/// One engine's events.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stream {
    /// What it holds is known, perhaps only since the middle of its life.
    Followed(Coverage),
    /// It was, until the connection broke.
    Broken(Timestamp, String),
    /// It is not.
    Unfollowed(String),
}

impl ExactPool {
    /// Nothing is known yet. `secret` as in `Scope`.
    #[must_use]
    pub fn new(secret: u64, now: Timestamp) -> Self {
        Self {
            model: ModelState::Loading { from: String::new() },
            residency: None,
            streams: BTreeMap::new(),
            retired: Vec::new(),
            restored: false,
            oracle: Oracle::default(),
            doubt: Doubt::default(),
            block_tokens: 0,
            since: now,
            secret,
            budget_bytes: RESIDENCY_BUDGET * MEMBERSHIP_BYTES,
            totals: PrefixTotals::default(),
        }
    }

    /// The model is now this; what engines told before is void.
    pub fn set_model(&mut self, model: ModelState, chunk_bytes: u32, now: Timestamp) {
        let was = self.is_exact();
        self.withdraw();
        self.residency = None;
        self.oracle.clear();
        self.doubt.reset();
        (self.restored, self.block_tokens) = (false, 0);
        self.streams.clear();
        self.model = match model {
            ModelState::Ready(model) => match u16::try_from(chunk_bytes) {
                Ok(chunk_bytes) => {
                    let scope = Scope {
                        model: model.name.clone(),
                        chunk_bytes,
                        budget_bytes: self.budget_bytes,
                        secret: self.secret,
                    };
                    let mut residency = ExactResidency::new(scope, model.tokens.clone());
                    if let Some(inquiries) = &model.inquiries {
                        residency.set_verdict(Box::new(inquiries.clone()));
                    }
                    self.residency = Some(residency);
                    ModelState::Ready(model)
                }
                Err(_) => ModelState::Failed(format!("chunkBytes must be below 65536, got {chunk_bytes}")),
            },
            state @ (ModelState::Loading { .. } | ModelState::Failed(_)) => state,
        };
        if was != self.is_exact() {
            self.since = now;
        }
    }

    /// Everything published is withdrawn with the next drain.
    fn withdraw(&mut self) {
        if let Some(residency) = &self.residency {
            self.retired.extend(residency.content().into_iter().flat_map(|group| group.keys));
        }
    }

    /// The pool's share of the memory is now that of so many memberships; what is too much goes with the next drain.
    pub const fn shrink_to(&mut self, memberships: usize) {
        self.budget_bytes = memberships.saturating_mul(MEMBERSHIP_BYTES);
        if let Some(residency) = &mut self.residency {
            residency.set_budget(self.budget_bytes);
        }
    }

    fn ready(&self) -> Option<&Arc<ExactModel>> {
        match &self.model {
            ModelState::Ready(model) => Some(model),
            ModelState::Loading { .. } | ModelState::Failed(_) => None,
        }
    }

    /// Are prompts rendered and looked up by what engines told?
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.trusted().is_some()
    }

    /// The model, while it is ready and our rendering of its prompts is believed.
    fn trusted(&self) -> Option<&Arc<ExactModel>> {
        self.ready().filter(|_| self.doubt.doubted().is_none())
    }

    /// For the table.
    #[must_use]
    pub fn rendering(&self) -> Option<&Rendering> {
        self.trusted().map(|model| &model.rendering)
    }

    /// For the table, where gateways get it.
    #[must_use]
    pub fn vocabulary(&self) -> Option<&VocabularyRows> {
        self.ready()?.for_gateways.as_ref()
    }

    /// Is what this engine holds known from its events?
    #[must_use]
    pub fn follows(&self, endpoint: EndpointId) -> bool {
        matches!(self.streams.get(&endpoint), Some(Stream::Followed(_) | Stream::Broken(..)))
    }

    /// An engine said something. True when it is followed from now on: what was learned of it is void.
    pub fn update(&mut self, endpoint: EndpointId, slot: Slot, update: &Update, now: Timestamp) -> bool {
        let Some(residency) = &mut self.residency else { return false };
        let before = self.streams.get(&endpoint);
        let fresh = !matches!(before, Some(Stream::Followed(_) | Stream::Broken(..)));
        match update {
            Update::Connected => false,
            &Update::Synced(coverage) => {
                if residency.refusal(slot).is_some() {
                    return false;
                }
                self.streams.insert(endpoint, Stream::Followed(coverage));
                fresh
            }
            Update::Batch { batch, .. } => {
                self.totals.batches += 1;
                self.totals.events += u64::try_from(batch.events.len()).unwrap_or(0);
                self.block_tokens = self.block_tokens.max(trust::block_tokens(batch));
                let refused = batch.events.iter().find_map(|event| residency.apply(slot, event, now).err());
                if let Some(refused) = refused {
                    self.oracle.forget(endpoint);
                    self.streams.insert(endpoint, Stream::Unfollowed(refused.to_string()));
                }
                false
            }
            Update::Gap { missing, detected_after } => {
                self.oracle.forget(endpoint);
                self.totals.missing_batches += missing;
                let micros = u64::try_from(detected_after.as_micros()).unwrap_or(u64::MAX);
                self.totals.slowest_detection_us = self.totals.slowest_detection_us.max(micros);
                false
            }
            Update::Reset(_) => {
                self.totals.resets += 1;
                self.oracle.forget(endpoint);
                residency.reset(slot);
                false
            }
            Update::Disconnected(why) => {
                self.oracle.forget(endpoint);
                let state = if fresh {
                    Stream::Unfollowed(why.clone())
                } else if let Some(Stream::Broken(since, _)) = before {
                    Stream::Broken(*since, why.clone())
                } else {
                    Stream::Broken(now, why.clone())
                };
                self.streams.insert(endpoint, state);
                false
            }
        }
    }

    /// Blocks were re-encoded: chains that no prompt will hit are not published any more.
    pub fn judged(&mut self, judged: &Judged) {
        let Some(residency) = &mut self.residency else { return };
        let condemned = judged.condemned.iter().filter(|&&block| residency.condemn(block)).count();
        self.totals.alarms += u64::try_from(condemned).unwrap_or(0);
        self.totals.canonical += judged.canonical;
        self.totals.unjudged += judged.unknown;
        self.totals.unasked += judged.dropped;
    }

    /// An engine's events cannot be followed.
    pub fn unfollowed(&mut self, endpoint: EndpointId, slot: Slot, why: String) {
        if let Some(residency) = &mut self.residency {
            residency.reset(slot);
        }
        self.oracle.forget(endpoint);
        self.streams.insert(endpoint, Stream::Unfollowed(why));
    }

    /// An endpoint left the pool.
    pub fn gone(&mut self, endpoint: EndpointId, slot: Slot) {
        if let Some(residency) = &mut self.residency {
            residency.reset(slot);
        }
        self.oracle.forget(endpoint);
        self.streams.remove(&endpoint);
    }

    /// Gives up on engines whose streams have been broken for long, and on a rendering that engines contradict. True when
    /// the mode changed.
    pub fn tick(&mut self, slots: impl Fn(EndpointId) -> Option<Slot>, now: Timestamp) -> bool {
        let over = |stream: &Stream| matches!(stream, Stream::Broken(since, _) if now.since(*since) > GRACE);
        let late: Vec<EndpointId> =
            self.streams.iter().filter(|(_, stream)| over(stream)).map(|(&endpoint, _)| endpoint).collect();
        for endpoint in late {
            let Some(Stream::Broken(_, why)) = self.streams.get(&endpoint).cloned() else { continue };
            match slots(endpoint) {
                Some(slot) => self.unfollowed(endpoint, slot, why),
                None => drop(self.streams.remove(&endpoint)),
            }
        }
        self.judge(slots, now)
    }

    /// Is there anything to drain?
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.retired.is_empty() || self.restored || self.residency.as_ref().is_some_and(ExactResidency::is_dirty)
    }

    /// What changed since the last call, as the holders now are. Withdrawn keys come first.
    pub fn drain(&mut self) -> Vec<ResidencyGroup> {
        let mut groups = Vec::new();
        if !self.retired.is_empty() {
            let keys = core::mem::take(&mut self.retired);
            groups.push(ResidencyGroup { holders: Vec::new(), keys, tokens: Vec::new() });
        }
        // What is withheld is drained all the same: it follows the engines, to be right when it is believed again.
        let changes = self.residency.as_mut().map(ExactResidency::drain).unwrap_or_default();
        if core::mem::take(&mut self.restored) {
            groups.extend(self.content());
        } else if self.is_exact() {
            groups.extend(changes);
        }
        self.totals.shed = self.residency.as_ref().map_or(self.totals.shed, |residency| residency.counters().shed);
        groups
    }

    /// The residency, unless it is withheld.
    fn published(&self) -> Option<&ExactResidency> {
        self.residency.as_ref().filter(|_| self.is_exact())
    }

    /// Everything that is held.
    #[must_use]
    pub fn content(&self) -> Vec<ResidencyGroup> {
        self.published().map(ExactResidency::content).unwrap_or_default()
    }

    /// Who holds `key`, ascending.
    #[must_use]
    pub fn holders(&self, key: u64) -> Vec<Holder> {
        self.published().map(|residency| residency.holders(key)).unwrap_or_default()
    }

    /// For people; `engines` in the order of their slots.
    pub fn status<'a>(&self, engines: impl Iterator<Item = (EndpointId, Slot, &'a str)>) -> PrefixStatus {
        let size = self.residency.as_ref().map(ExactResidency::size).unwrap_or_default();
        let counters = self.residency.as_ref().map(ExactResidency::counters).unwrap_or_default();
        let engines: Vec<EngineStatus> = engines
            .map(|(endpoint, slot, address)| EngineStatus {
                address: address.to_owned(),
                followed: self.follows(endpoint),
                note: self.note(endpoint),
                hybrid: self.residency.as_ref().is_some_and(|residency| residency.is_hybrid(slot)),
                blocks: self.residency.as_ref().map_or(0, |residency| residency.held_by(slot)),
            })
            .collect();
        let (mode, reason) = match (&self.model, self.doubt.doubted()) {
            (ModelState::Loading { from }, _) => ("learned", format!("tokenizer and template are loading from {from}")),
            (ModelState::Failed(why), _) => ("learned", why.clone()),
            (ModelState::Ready(_), Some(doubted)) => ("learned", doubted.to_string()),
            (ModelState::Ready(_), None) => {
                let followed = engines.iter().filter(|engine| engine.followed).count();
                let hybrid = match engines.iter().filter(|engine| engine.hybrid).count() {
                    0 => String::new(),
                    hybrid => format!(", {hybrid} of them as hybrid"),
                };
                ("exact", format!("KV events of {followed} of {} engines are followed{hybrid}", engines.len()))
            }
        };
        PrefixStatus {
            mode,
            reason,
            since: self.since.as_nanos() / 1_000_000_000,
            model: self.ready().map(|model| model.name.clone()),
            engines,
            blocks: size.blocks,
            memberships: size.memberships,
            bytes: size.bytes,
            doubt: self.doubt.doubted().map(DoubtStatus::of),
            totals: self.totals(counters),
            ..PrefixStatus::default()
        }
    }

    fn totals(&self, counters: ExactCounters) -> PrefixTotals {
        let tally = self.doubt.tally();
        PrefixTotals {
            shed: counters.shed,
            orphans: counters.orphans,
            confirmed_prompts: tally.confirmed,
            unconfirmed_prompts: tally.unconfirmed,
            skipped_prompts: self.oracle.skipped(),
            doubts: tally.doubts,
            ..self.totals
        }
    }

    fn note(&self, endpoint: EndpointId) -> String {
        match self.streams.get(&endpoint) {
            Some(Stream::Followed(Coverage::Complete)) => String::new(),
            Some(Stream::Followed(Coverage::Partial)) => {
                "followed since the middle of its life: older blocks are not known".to_owned()
            }
            Some(Stream::Broken(_, why) | Stream::Unfollowed(why)) => why.clone(),
            None => "not connected yet".to_owned(),
        }
    }
}
