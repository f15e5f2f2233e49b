//! Bytes off the wire -> typed changes. Every check on untrusted bytes is here: what comes out can be applied without
//! failing, so a refused update has changed nothing.

mod budget;
mod flow;
mod profile;
mod rewrite;

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

pub use budget::budgets;
use prost::Message;

use super::holders::Holder;
use super::live::{Adapters, Details, LiveEndpoint, LivePool, Rates, Scrape, Work};
use super::rendering::{Frontend, Rendering};
use super::vocabulary::Piece;
use super::{Endpoint, EndpointState, Model, PoolSettings, TableVersion};
use crate::identity::{EndpointId, Slot};
use crate::scheduling::latency::{Figures, FirstTokenModel};
use crate::text_form::{LeadingSpace, Normalizer, Spaces, TextForm};
use crate::wire;

/// Why bytes were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not the message it should be.
    #[error("undecodable message: {0}")]
    Encoding(String),
    /// A field holds what it must not.
    #[error("{field}: {rule}")]
    Field {
        /// Path of the field.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

const fn field(field: &'static str, rule: &'static str) -> Malformed {
    Malformed::Field { field, rule }
}

/// A checked `wire::Segment`.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// The version after it (delta) or of the whole snapshot.
    pub version: TableVersion,
    /// Where it stands in a snapshot; `None` for a delta.
    pub part: Option<Part>,
    /// What changes.
    pub changes: Vec<PoolChange>,
}

/// Position in a snapshot: `number` of `total`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// 1..=total.
    pub number: u32,
    /// At least 1.
    pub total: u32,
}

/// A checked `wire::PoolChange`.
#[derive(Clone, Debug, PartialEq)]
pub enum PoolChange {
    /// The pool is gone.
    Removed {
        /// Its name.
        name: String,
    },
    /// The pool is new or different.
    Changed(Box<PoolRows>),
}

/// New rows of one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolRows {
    /// The pool's name.
    pub name: String,
    /// `None`: unchanged.
    pub settings: Option<PoolSettings>,
    /// `None`: unchanged.
    pub models: Option<Vec<Model>>,
    /// Applied before `endpoints`.
    pub removed: Vec<Slot>,
    /// Added or replaced.
    pub endpoints: Vec<(Slot, Endpoint)>,
    /// Applied in order.
    pub residency: Vec<Group>,
    /// Models; applied before `renderings`.
    pub removed_renderings: Vec<String>,
    /// Added or replaced, by model.
    pub renderings: Vec<(String, Rendering)>,
    /// By model; applied in order, after `renderings`.
    pub vocabularies: Vec<(String, Piece)>,
}

/// Chunks with the same holders.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Ascending, without repeats; empty: nobody.
    pub holders: Vec<Holder>,
    /// Never 0.
    pub keys: Vec<u64>,
    /// Parallel to `keys`, or empty.
    pub tokens: Vec<u32>,
}

/// Decodes and checks one segment.
///
/// # Errors
/// `Malformed`, naming the first field that breaks a rule.
pub fn segment(bytes: &[u8]) -> Result<Segment, Malformed> {
    let raw = wire::Segment::decode(bytes).map_err(|error| Malformed::Encoding(error.to_string()))?;
    if raw.epoch == 0 {
        return Err(field("epoch", "must not be 0"));
    }
    let part = match (raw.part, raw.parts) {
        (0, 0) => None,
        (number, total) if (1..=total).contains(&number) => Some(Part { number, total }),
        _ => return Err(field("part", "must be 1..=parts, or both 0")),
    };
    Ok(Segment {
        version: TableVersion { epoch: raw.epoch, version: raw.version },
        part,
        changes: raw.pools.into_iter().map(pool_change).collect::<Result<_, _>>()?,
    })
}

fn pool_change(raw: wire::PoolChange) -> Result<PoolChange, Malformed> {
    if raw.removed {
        return Ok(PoolChange::Removed { name: raw.name });
    }
    Ok(PoolChange::Changed(Box::new(PoolRows {
        name: raw.name,
        settings: raw.settings.map(settings).transpose()?,
        models: raw.models.map(|list| list.models.into_iter().map(model).collect::<Result<_, _>>()).transpose()?,
        removed: raw.removed_slots.into_iter().map(slot).collect::<Result<_, _>>()?,
        endpoints: raw.endpoints.into_iter().map(endpoint).collect::<Result<_, _>>()?,
        residency: raw.residency.into_iter().map(group).collect::<Result<_, _>>()?,
        removed_renderings: raw.removed_renderings,
        renderings: raw.renderings.into_iter().map(rendering).collect::<Result<_, _>>()?,
        vocabularies: raw.vocabularies.into_iter().map(vocabulary_piece).collect::<Result<_, _>>()?,
    })))
}

fn vocabulary_piece(mut raw: wire::VocabularyPiece) -> Result<(String, Piece), Malformed> {
    let model = core::mem::take(&mut raw.model);
    let piece = Piece::from_wire(raw).ok_or(field("vocabularies", "must have counts that agree, within the limits"))?;
    Ok((model, piece))
}

fn slot(raw: u32) -> Result<Slot, Malformed> {
    Slot::new(raw).ok_or(field("slot", "must be below 1024"))
}

fn settings(raw: wire::PoolSettings) -> Result<PoolSettings, Malformed> {
    if !(16..=65_536).contains(&raw.chunk_bytes) {
        return Err(field("settings.chunk_bytes", "must be 16..=65536"));
    }
    if !(1..=8).contains(&raw.choices) {
        return Err(field("settings.choices", "must be 1..=8"));
    }
    Ok(PoolSettings {
        chunk_bytes: raw.chunk_bytes,
        slo_ttft: positive(raw.slo_ttft_seconds, "settings.slo_ttft_seconds")?,
        slo_tpot: positive(raw.slo_tpot_seconds, "settings.slo_tpot_seconds")?,
        choices: raw.choices,
        explain: raw.explain,
        max_body_bytes: raw.max_body_bytes,
        session_header: Some(raw.session_header.to_ascii_lowercase()).filter(|name| !name.is_empty()),
        stale_after_ms: raw.stale_after_ms,
        profile: raw.profile.map(profile::profile).transpose()?.map(Arc::new),
        flow: raw.flow.map(flow::flow).transpose()?.map(Arc::new),
        budgets: budgets(raw.budgets)?,
        admission: raw.admission.map(flow::admission).transpose()?,
        objectives: raw.objectives.into_iter().map(|objective| (objective.name, objective.priority)).collect(),
        rewrites: Arc::new(rewrite::rewrites(raw.rewrites)?),
        first_token_timeout: duration(raw.first_token_timeout_seconds, "settings.first_token_timeout_seconds")?,
        slow_start: duration(raw.slow_start_seconds, "settings.slow_start_seconds")?,
    })
}

fn model(raw: wire::Model) -> Result<Model, Malformed> {
    if raw.name.is_empty() {
        return Err(field("models.name", "must not be empty"));
    }
    Ok(Model { name: raw.name, base: Some(raw.base).filter(|base| !base.is_empty()) })
}

fn endpoint(raw: wire::Endpoint) -> Result<(Slot, Endpoint), Malformed> {
    if raw.address.parse::<SocketAddr>().is_err() {
        return Err(field("endpoints.address", "must be ip:port"));
    }
    let state = match wire::EndpointState::try_from(raw.state) {
        Ok(wire::EndpointState::Ready) => EndpointState::Ready,
        Ok(wire::EndpointState::Draining) => EndpointState::Draining,
        Ok(wire::EndpointState::Unhealthy) => EndpointState::Unhealthy,
        Err(_) => return Err(field("endpoints.state", "is not a known state")),
    };
    let id = EndpointId::of(&raw.address);
    Ok((slot(raw.slot)?, Endpoint { id, address: raw.address, state, models: raw.models, labels: raw.labels }))
}

fn group(raw: wire::ResidencyGroup) -> Result<Group, Malformed> {
    if !raw.tokens.is_empty() && raw.tokens.len() != raw.keys.len() {
        return Err(field("residency.tokens", "must be empty or as many as keys"));
    }
    if raw.keys.contains(&0) {
        return Err(field("residency.keys", "must not be 0"));
    }
    let holders: Vec<Holder> = raw
        .holders
        .into_iter()
        .map(Holder::from_wire)
        .collect::<Option<_>>()
        .ok_or(field("residency.holders", "must be slot * 4 + tier"))?;
    if !holders.is_sorted_by(|a, b| a < b) {
        return Err(field("residency.holders", "must ascend"));
    }
    Ok(Group { holders, keys: raw.keys, tokens: raw.tokens })
}

/// Checks one rendering; with its model.
///
/// # Errors
/// `Malformed`, naming the first field that breaks a rule.
pub fn rendering(raw: wire::Rendering) -> Result<(String, Rendering), Malformed> {
    if raw.model.is_empty() {
        return Err(field("renderings.model", "must not be empty"));
    }
    let frontend = match wire::Frontend::try_from(raw.frontend) {
        Ok(wire::Frontend::Python) => Frontend::Python,
        Ok(wire::Frontend::Rust) => Frontend::Rust,
        Err(_) => return Err(field("renderings.frontend", "is not a known frontend")),
    };
    let normalizer = match wire::Normalization::try_from(raw.normalization) {
        Ok(wire::Normalization::None) => Normalizer::None,
        Ok(wire::Normalization::Nfc) => Normalizer::Nfc,
        Ok(wire::Normalization::Nfkc) => Normalizer::Nfkc,
        Err(_) => return Err(field("renderings.normalization", "is not a known form")),
    };
    let spaces = match wire::Spaces::try_from(raw.spaces) {
        Ok(wire::Spaces::Plain) => Spaces::Plain,
        Ok(wire::Spaces::Absent) => Spaces::SentencePiece(LeadingSpace::Absent),
        Ok(wire::Spaces::First) => Spaces::SentencePiece(LeadingSpace::First),
        Ok(wire::Spaces::EveryStretch) => Spaces::SentencePiece(LeadingSpace::EveryStretch),
        Err(_) => return Err(field("renderings.spaces", "is not a known form")),
    };
    let rendering = Rendering {
        template: raw.template,
        special_tokens: raw.special_tokens,
        default_kwargs: raw.default_kwargs,
        frontend,
        form: TextForm { normalizer, spaces, bos: raw.bos },
    };
    Ok((raw.model, rendering))
}

/// Checks a live message; pools by name.
///
/// # Errors
/// `Malformed`, naming the first field that breaks a rule.
pub fn live(raw: wire::Live) -> Result<Vec<(String, LivePool)>, Malformed> {
    raw.pools.into_iter().map(live_pool).collect()
}

fn live_pool(raw: wire::LivePool) -> Result<(String, LivePool), Malformed> {
    let rates = raw.rates.as_ref().map(rates).transpose()?.unwrap_or_default();
    let (mut endpoints, mut details) = (Vec::new(), Vec::new());
    for row in raw.endpoints {
        let index = slot(row.slot)?.index();
        put(&mut endpoints, index, live_endpoint(&row)?);
        if let Some(known) = row.scrape.and_then(scraped_details) {
            put(&mut details, index, known);
        }
    }
    let arrivals_per_second = not_negative(raw.arrivals_per_second, "arrivals_per_second")?;
    let spent = budget::levels(raw.spent)?;
    Ok((raw.name, LivePool { rates, gateways: raw.gateways, arrivals_per_second, endpoints, details, spent }))
}

fn put<T: Clone + Default>(rows: &mut Vec<T>, index: usize, row: T) {
    if rows.len() <= index {
        rows.resize(index + 1, T::default());
    }
    if let Some(place) = rows.get_mut(index) {
        *place = row;
    }
}

fn scraped_details(raw: wire::Scrape) -> Option<Details> {
    let adapters = raw.adapters.map(|raw| Adapters {
        running: raw.running,
        waiting: raw.waiting,
        in_use: raw.in_use,
        most: Some(raw.most).filter(|&most| most > 0),
    });
    let details = Details { adapters, attributes: raw.attributes };
    (details != Details::default()).then_some(details)
}

fn live_endpoint(raw: &wire::LiveEndpoint) -> Result<LiveEndpoint, Malformed> {
    Ok(LiveEndpoint {
        scrape: raw.scrape.as_ref().map(scrape).transpose()?,
        slowness: positive(raw.slowness, "endpoints.slowness")?.clamp(0.25, 4.0),
        others: raw.others.as_ref().map(Work::from_wire).unwrap_or_default(),
        failing: raw.failing,
    })
}

fn scrape(raw: &wire::Scrape) -> Result<Scrape, Malformed> {
    Ok(Scrape {
        age_ms: raw.age_ms,
        running: raw.running,
        waiting: raw.waiting,
        kv_used: not_negative(raw.kv_used, "scrape.kv_used")?.min(1.0),
        kv_capacity: Some(raw.kv_capacity_tokens).filter(|&tokens| tokens > 0),
    })
}

fn rates(raw: &wire::Rates) -> Result<Rates, Malformed> {
    Ok(Rates {
        x: positive(raw.x, "rates.x")?,
        t0: not_negative(raw.t0, "rates.t0")?,
        k: positive(raw.k, "rates.k")?,
        s0: not_negative(raw.s0, "rates.s0")?,
        y: not_negative(raw.y, "rates.y")?,
        z: not_negative(raw.z, "rates.z")?,
        output_tokens: positive(raw.output_tokens, "rates.output_tokens")?,
        bytes_per_token: positive(raw.bytes_per_token, "rates.bytes_per_token")?,
        tpot_margin: Some(not_negative(raw.tpot_margin, "rates.tpot_margin")?).filter(|&margin| margin > 0.0),
        first_token: raw.first_token.as_ref().map(first_token).transpose()?,
    })
}

fn first_token(raw: &wire::FirstTokenModel) -> Result<FirstTokenModel, Malformed> {
    Ok(FirstTokenModel {
        base: not_negative(raw.base, "rates.first_token.base")?,
        per: Figures {
            tokens_ahead: not_negative(raw.tokens_ahead, "rates.first_token.tokens_ahead")?,
            attention: not_negative(raw.attention, "rates.first_token.attention")?,
            context: not_negative(raw.context, "rates.first_token.context")?,
            overflow: not_negative(raw.overflow, "rates.first_token.overflow")?,
            reloaded: not_negative(raw.reloaded, "rates.first_token.reloaded")?,
        },
    })
}

/// `None` for 0.
fn duration(seconds: f64, name: &'static str) -> Result<Option<Duration>, Malformed> {
    let seconds = not_negative(seconds, name)?;
    let wait = Duration::try_from_secs_f64(seconds).map_err(|_| field(name, "must be a time that can be counted"))?;
    Ok(Some(wait).filter(|wait| !wait.is_zero()))
}

fn positive(value: f64, name: &'static str) -> Result<f64, Malformed> {
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(field(name, "must be a number above 0")) }
}

fn not_negative(value: f64, name: &'static str) -> Result<f64, Malformed> {
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(field(name, "must be a number, 0 or more")) }
}
