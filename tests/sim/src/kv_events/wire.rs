//! How each vLLM version writes a batch: `[ts, [event…], rank]`, where an event is an array up to 0.23 and a map from 0.24 on, and
//! fields are added over time.
//!
//! The table was read from real packages; a version between two of them is written like the older one.

use std::str::FromStr;

use super::msgpack::Writer;
use super::{BlockRemoved, BlockStored, ExtraKey, KvEvent};
use crate::engine::Digest;

/// How block hashes appear (`VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES`, by default integers).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HashForm {
    /// The low 64 bits.
    #[default]
    Int,
    /// The whole digest.
    Bytes,
}

/// What a replay reply to a DEALER consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayFraming {
    /// Empty, sequence number, payload.
    WithoutTopic,
    /// Empty, topic, sequence number, payload.
    WithTopic,
}

/// A vLLM version, as far as its events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WireVersion(u32, u32, u32);

/// Why a text is not a version whose events are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not three numbers.
    #[error("`{0}` is not a version like 0.33.0")]
    Malformed(String),
    /// Older than the first version read.
    #[error("{0}: events are known from 0.9.0 on")]
    TooOld(String),
}

const MEDIUM: WireVersion = WireVersion(0, 10, 2);
const LORA_NAME: WireVersion = WireVersion(0, 15, 0);
const EXTRA_KEYS: WireVersion = WireVersion(0, 17, 0);
const GROUPS: WireVersion = WireVersion(0, 22, 0);
const MAPS: WireVersion = WireVersion(0, 24, 0);
const LOCALITY: WireVersion = WireVersion(0, 26, 0);
const OWNERSHIP: WireVersion = WireVersion(0, 30, 0);
const LOOKAHEAD: WireVersion = WireVersion(0, 33, 0);

impl Default for WireVersion {
    fn default() -> Self {
        LOOKAHEAD
    }
}

impl std::fmt::Display for WireVersion {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl FromStr for WireVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let numbers: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
        let version = match numbers.as_deref() {
            Some(&[major, minor]) => Self(major, minor, 0),
            Some(&[major, minor, patch]) => Self(major, minor, patch),
            _ => return Err(VersionError::Malformed(text.to_owned())),
        };
        if version < Self(0, 9, 0) { Err(VersionError::TooOld(text.to_owned())) } else { Ok(version) }
    }
}

impl WireVersion {
    /// How this version answers a replay request.
    #[must_use]
    pub fn replay_framing(self) -> ReplayFraming {
        if self >= LOCALITY { ReplayFraming::WithTopic } else { ReplayFraming::WithoutTopic }
    }

    /// Do its events say which cache group they are of?
    #[must_use]
    pub fn tells_groups(self) -> bool {
        self >= GROUPS
    }

    /// The payload of one batch. `timestamp`: seconds since 1970.
    #[must_use]
    pub fn encode(self, form: HashForm, timestamp: f64, rank: u32, events: &[KvEvent]) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.array(3);
        writer.float(timestamp);
        writer.array(events.len());
        for event in events {
            let (tag, fields) = match event {
                KvEvent::Stored(stored) => ("BlockStored", self.stored_fields(stored)),
                KvEvent::Removed(removed) => ("BlockRemoved", self.removed_fields(removed)),
                KvEvent::AllCleared => ("AllBlocksCleared", Vec::new()),
            };
            self.write_event(&mut writer, form, tag, &fields);
        }
        writer.unsigned(rank.into());
        writer.finish()
    }

    fn write_event(self, writer: &mut Writer, form: HashForm, tag: &str, fields: &[Field<'_>]) {
        if self < MAPS {
            writer.array(1 + fields.len());
            writer.text(tag);
            fields.iter().for_each(|field| field.value.write(writer, form));
            return;
        }
        let written = || fields.iter().filter(|field| field.presence == Presence::Always || !field.value.is_nil());
        writer.map(1 + written().count(), 1 + fields.len());
        writer.text("type");
        writer.text(tag);
        for field in written() {
            writer.text(field.name);
            field.value.write(writer, form);
        }
    }

    fn stored_fields(self, event: &BlockStored) -> Vec<Field<'_>> {
        use Presence::{Always, IfSet};
        let always = Self(0, 0, 0);
        self.known([
            (always, "block_hashes", Always, Value::Hashes(&event.block_hashes)),
            (always, "parent_block_hash", Always, event.parent_block_hash.as_ref().map_or(Value::Nil, Value::Hash)),
            (always, "token_ids", Always, Value::Tokens(&event.token_ids)),
            (always, "block_size", Always, Value::Int(event.block_size.into())),
            (always, "lora_id", Always, int(event.lora_id)),
            (MEDIUM, "medium", Always, text(event.medium.as_deref())),
            (LORA_NAME, "lora_name", Always, text(event.lora_name.as_deref())),
            (EXTRA_KEYS, "extra_keys", IfSet, event.extra_keys.as_deref().map_or(Value::Nil, Value::ExtraKeys)),
            (GROUPS, "group_idx", IfSet, int(event.group_idx)),
            (GROUPS, "kv_cache_spec_kind", IfSet, text(event.kv_cache_spec_kind.as_deref())),
            (GROUPS, "kv_cache_spec_sliding_window", IfSet, int(event.kv_cache_spec_sliding_window)),
            (LOCALITY, "locality", IfSet, text(event.locality.as_deref())),
            (OWNERSHIP, "ownership", IfSet, text(event.ownership.as_deref())),
            (OWNERSHIP, "session_id", IfSet, text(event.session_id.as_deref())),
            (
                LOOKAHEAD,
                "lookahead_token_ids",
                IfSet,
                event.lookahead_token_ids.as_deref().map_or(Value::Nil, Value::TokenLists),
            ),
        ])
    }

    fn removed_fields(self, event: &BlockRemoved) -> Vec<Field<'_>> {
        use Presence::{Always, IfSet};
        self.known([
            (Self(0, 0, 0), "block_hashes", Always, Value::Hashes(&event.block_hashes)),
            (MEDIUM, "medium", Always, text(event.medium.as_deref())),
            (GROUPS, "group_idx", IfSet, int(event.group_idx)),
            (LOCALITY, "locality", IfSet, text(event.locality.as_deref())),
            (OWNERSHIP, "ownership", IfSet, text(event.ownership.as_deref())),
        ])
    }

    fn known<'a, const N: usize>(self, all: [(Self, &'static str, Presence, Value<'a>); N]) -> Vec<Field<'a>> {
        let known = all.into_iter().filter(|(since, ..)| *since <= self);
        known.map(|(_, name, presence, value)| Field { name, presence, value }).collect()
    }
}

/// Whether the map form writes a field that is nil.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Always,
    IfSet,
}

struct Field<'a> {
    name: &'static str,
    presence: Presence,
    value: Value<'a>,
}

enum Value<'a> {
    Nil,
    Int(i64),
    Text(&'a str),
    Hash(&'a Digest),
    Hashes(&'a [Digest]),
    Tokens(&'a [u32]),
    TokenLists(&'a [Vec<u32>]),
    ExtraKeys(&'a [Option<Vec<ExtraKey>>]),
}

fn int<'a>(value: Option<i64>) -> Value<'a> {
    value.map_or(Value::Nil, Value::Int)
}

fn text(value: Option<&str>) -> Value<'_> {
    value.map_or(Value::Nil, Value::Text)
}

impl Value<'_> {
    fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    fn write(&self, writer: &mut Writer, form: HashForm) {
        match self {
            Self::Nil => writer.nil(),
            Self::Int(value) => writer.signed(*value),
            Self::Text(text) => writer.text(text),
            Self::Hash(digest) => hash(writer, form, digest),
            Self::Hashes(digests) => {
                writer.array(digests.len());
                digests.iter().for_each(|digest| hash(writer, form, digest));
            }
            Self::Tokens(ids) => tokens(writer, ids),
            Self::TokenLists(lists) => {
                writer.array(lists.len());
                lists.iter().for_each(|ids| tokens(writer, ids));
            }
            Self::ExtraKeys(blocks) => {
                writer.array(blocks.len());
                blocks.iter().for_each(|keys| extra_keys(writer, keys.as_deref()));
            }
        }
    }
}

fn hash(writer: &mut Writer, form: HashForm, digest: &Digest) {
    match form {
        HashForm::Int => writer.unsigned(digest.low64()),
        HashForm::Bytes => writer.binary(digest.as_bytes()),
    }
}

fn tokens(writer: &mut Writer, ids: &[u32]) {
    writer.array(ids.len());
    ids.iter().for_each(|&id| writer.unsigned(id.into()));
}

fn extra_keys(writer: &mut Writer, keys: Option<&[ExtraKey]>) {
    let Some(keys) = keys else { return writer.nil() };
    writer.array(keys.len());
    for key in keys {
        match key {
            ExtraKey::Text(text) => writer.text(text),
            ExtraKey::Item { identifier, offset } => {
                writer.array(2);
                writer.text(identifier);
                writer.signed(*offset);
            }
        }
    }
}
