//! The fields of one event, gathered from either spelling (by position, by name) and then judged by the event's name.
//! A position can mean two things: SGLang put a map of metadata where vLLM has the adapter's name.

use super::Unfit;
use super::read::{Reader, Sign, Value};
use crate::events::event::{BlockHash, BlockRemoved, BlockStored, CacheKind, ExtraKey, KvEvent, Medium};

/// Which event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Stored,
    Removed,
    Cleared,
}

/// Which field; what is not listed is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Hashes,
    Parent,
    Tokens,
    BlockSize,
    LoraId,
    Medium,
    LoraName,
    ExtraKeys,
    Group,
    Kind,
    Window,
    Metadata,
    Component,
}

/// `BlockStored` by position, after the tag; vLLM appended fields in this order from 0.9 to 0.23.
const STORED: [Field; 11] = [
    Field::Hashes,
    Field::Parent,
    Field::Tokens,
    Field::BlockSize,
    Field::LoraId,
    Field::Medium,
    Field::LoraName,
    Field::ExtraKeys,
    Field::Group,
    Field::Kind,
    Field::Window,
];

/// `BlockRemoved` by position, after the tag.
const REMOVED: [Field; 3] = [Field::Hashes, Field::Medium, Field::Group];

/// Everything that any event may say.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    tag: Option<Tag>,
    hashes: Option<Vec<BlockHash>>,
    parent: Option<BlockHash>,
    tokens: Vec<u32>,
    block_size: u32,
    lora_id: Option<u64>,
    lora_name: Option<&'a str>,
    medium: Medium,
    extra_keys: Vec<Vec<ExtraKey>>,
    group: Option<u32>,
    kind: Option<&'a [u8]>,
    window: Option<u32>,
    salt: Option<&'a str>,
    component: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// Reads one event and leaves the reader behind it; after an error the reader stands anywhere.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Unfit> {
        let value = reader.value()?;
        if let Value::Map(length) = value {
            return Self::by_name(reader, length);
        }
        let length = array(value)?.and_then(|length| length.checked_sub(1)).ok_or(Unfit::Event)?;
        Self::by_position(reader, length)
    }

    fn by_position(reader: &mut Reader<'a>, length: usize) -> Result<Self, Unfit> {
        let tag = tag(reader)?;
        let mut fields = Self { tag: Some(tag), ..Self::default() };
        let known: &[Field] = match tag {
            Tag::Stored => &STORED,
            Tag::Removed => &REMOVED,
            Tag::Cleared => &[],
        };
        for position in 0..length {
            let map = matches!(reader.peek(), Some(0x80..=0x8f | 0xde | 0xdf));
            match known.get(position) {
                _ if map => fields.take(Field::Metadata, reader)?,
                Some(field) => fields.take(*field, reader)?,
                None => reader.skip(1)?,
            }
        }
        Ok(fields)
    }

    fn by_name(reader: &mut Reader<'a>, length: usize) -> Result<Self, Unfit> {
        let mut fields = Self::default();
        for _ in 0..length {
            let Value::Text(key) = reader.value()? else { return Err(Unfit::Event) };
            let field = match key {
                b"type" => {
                    fields.tag = Some(tag(reader)?);
                    continue;
                }
                b"block_hashes" => Field::Hashes,
                b"parent_block_hash" => Field::Parent,
                b"token_ids" => Field::Tokens,
                b"block_size" => Field::BlockSize,
                b"lora_id" => Field::LoraId,
                b"medium" => Field::Medium,
                b"lora_name" => Field::LoraName,
                b"extra_keys" => Field::ExtraKeys,
                b"group_idx" => Field::Group,
                b"kv_cache_spec_kind" => Field::Kind,
                b"kv_cache_spec_sliding_window" => Field::Window,
                b"metadata" => Field::Metadata,
                b"component_type" => Field::Component,
                _ => {
                    reader.skip(1)?;
                    continue;
                }
            };
            fields.take(field, reader)?;
        }
        Ok(fields)
    }

    fn take(&mut self, field: Field, reader: &mut Reader<'a>) -> Result<(), Unfit> {
        match field {
            Field::Hashes => self.hashes = Some(hashes(reader)?),
            Field::Parent => self.parent = hash(reader.value()?)?,
            Field::Tokens => self.tokens = tokens(reader)?,
            Field::BlockSize => self.block_size = number(reader.value()?)?.unwrap_or(0),
            Field::LoraId => self.lora_id = wide(reader.value()?)?,
            Field::Medium => self.medium = text(reader.value()?)?.map_or(Medium::Gpu, medium),
            Field::LoraName => self.lora_name = utf8(text(reader.value()?)?)?,
            Field::ExtraKeys => self.extra_keys = extra_keys(reader)?,
            Field::Group => self.group = number(reader.value()?)?,
            Field::Kind => self.kind = text(reader.value()?)?,
            Field::Window => self.window = number(reader.value()?)?,
            Field::Metadata => self.salt = salt(reader)?,
            Field::Component => self.component = text(reader.value()?)?,
        }
        Ok(())
    }

    /// The event, if the fields it cannot do without are there.
    pub(super) fn into_event(self) -> Result<KvEvent, Unfit> {
        match self.tag {
            Some(Tag::Stored) => self.into_stored().map(KvEvent::Stored),
            Some(Tag::Removed) => {
                let (group, medium) = (self.group(), self.medium);
                let hashes = self.hashes.ok_or(Unfit::Event)?;
                Ok(KvEvent::Removed(BlockRemoved { hashes, medium, group }))
            }
            Some(Tag::Cleared) => Ok(KvEvent::Cleared),
            None => Err(Unfit::Event),
        }
    }

    fn into_stored(mut self) -> Result<BlockStored, Unfit> {
        let (group, kind) = (self.group(), self.kind());
        let hashes = self.hashes.take().ok_or(Unfit::Event)?;
        if let (Some(salt), true, true) = (self.salt, self.parent.is_none(), self.extra_keys.is_empty()) {
            self.extra_keys = vec![Vec::new(); hashes.len()];
            if let Some(first) = self.extra_keys.first_mut() {
                first.push(ExtraKey::Text(salt.to_owned()));
            }
        }
        if !self.extra_keys.is_empty() && self.extra_keys.len() != hashes.len() {
            return Err(Unfit::Event);
        }
        // Versions without names still tell adapters apart; such blocks must not count as the base model's.
        let lora_name = match (self.lora_name, self.lora_id) {
            (Some(name), _) => Some(name.to_owned()),
            (None, Some(id)) => Some(format!("lora_id:{id}")),
            (None, None) => None,
        };
        Ok(BlockStored {
            hashes,
            parent: self.parent,
            tokens: self.tokens,
            block_size: self.block_size,
            lora_name,
            medium: self.medium,
            extra_keys: self.extra_keys,
            group,
            kind,
        })
    }

    /// SGLang names components where vLLM numbers groups.
    fn group(&self) -> u32 {
        self.group.unwrap_or(match self.component {
            None | Some(b"full") => 0,
            Some(b"swa") => 1,
            Some(b"mamba") => 2,
            Some(_) => 3,
        })
    }

    fn kind(&self) -> CacheKind {
        match (self.kind.or(self.component), self.window) {
            (None | Some(b"full" | b"full_attention" | b"mla_attention" | b"sink_full_attention"), _) => {
                CacheKind::Full
            }
            (Some(b"sliding_window" | b"sliding_window_mla" | b"swa"), Some(window)) => {
                CacheKind::SlidingWindow { window }
            }
            (Some(b"chunked_local_attention"), Some(chunk)) => CacheKind::ChunkedLocal { chunk },
            (Some(b"mamba"), _) => CacheKind::Recurrent,
            (Some(_), _) => CacheKind::Other,
        }
    }
}

fn tag(reader: &mut Reader<'_>) -> Result<Tag, Unfit> {
    match text(reader.value()?)? {
        Some(b"BlockStored") => Ok(Tag::Stored),
        Some(b"BlockRemoved") => Ok(Tag::Removed),
        Some(b"AllBlocksCleared") => Ok(Tag::Cleared),
        Some(_) | None => Err(Unfit::Event),
    }
}

/// vLLM writes `GPU`, `CPU`, `STORAGE` (and `cpu`), SGLang `GPU`, `CPU_PINNED` (earlier `CPU_TIER1`), `DISK`, `EXTERNAL`.
fn medium(name: &[u8]) -> Medium {
    const HOST: [&[u8]; 3] = [b"cpu", b"cpu_pinned", b"cpu_tier1"];
    if name.eq_ignore_ascii_case(b"gpu") {
        Medium::Gpu
    } else if HOST.iter().any(|host| name.eq_ignore_ascii_case(host)) {
        Medium::Cpu
    } else {
        Medium::Storage
    }
}

fn hashes(reader: &mut Reader<'_>) -> Result<Vec<BlockHash>, Unfit> {
    let length = array(reader.value()?)?.ok_or(Unfit::Event)?;
    let mut hashes = Vec::with_capacity(length);
    for _ in 0..length {
        hashes.push(hash(reader.value()?)?.ok_or(Unfit::Event)?);
    }
    Ok(hashes)
}

fn hash(value: Value<'_>) -> Result<Option<BlockHash>, Unfit> {
    if let Value::Int(hash, _) = value {
        return Ok(Some(BlockHash(hash)));
    }
    if let Value::Bytes(digest) = value {
        let low = digest.last_chunk::<8>().ok_or(Unfit::Event)?;
        return Ok(Some(BlockHash(u64::from_be_bytes(*low))));
    }
    nil(value)
}

fn tokens(reader: &mut Reader<'_>) -> Result<Vec<u32>, Unfit> {
    let length = array(reader.value()?)?.ok_or(Unfit::Event)?;
    let mut tokens = Vec::with_capacity(length);
    for _ in 0..length {
        let token = match reader.token() {
            Some(token) => token,
            None => rare_token(reader)?,
        };
        tokens.push(token);
    }
    Ok(tokens)
}

/// SGLang with draft models pairs each token with the one after it.
fn rare_token(reader: &mut Reader<'_>) -> Result<u32, Unfit> {
    let value = reader.value()?;
    let Value::Array(length) = value else { return number(value)?.ok_or(Unfit::Event) };
    let others = length.checked_sub(1).ok_or(Unfit::Event)?;
    let token = number(reader.value()?)?.ok_or(Unfit::Event)?;
    reader.skip(others)?;
    Ok(token)
}

fn number(value: Value<'_>) -> Result<Option<u32>, Unfit> {
    wide(value)?.map(|number| u32::try_from(number).map_err(|_| Unfit::Event)).transpose()
}

fn wide(value: Value<'_>) -> Result<Option<u64>, Unfit> {
    if let Value::Int(number, Sign::Positive) = value { Ok(Some(number)) } else { nil(value) }
}

fn text(value: Value<'_>) -> Result<Option<&[u8]>, Unfit> {
    if let Value::Text(text) = value { Ok(Some(text)) } else { nil(value) }
}

fn array(value: Value<'_>) -> Result<Option<usize>, Unfit> {
    if let Value::Array(length) = value { Ok(Some(length)) } else { nil(value) }
}

/// What every field may be instead of its own kind.
fn nil<T>(value: Value<'_>) -> Result<Option<T>, Unfit> {
    if value == Value::Nil { Ok(None) } else { Err(Unfit::Event) }
}

fn utf8(text: Option<&[u8]>) -> Result<Option<&str>, Unfit> {
    text.map(core::str::from_utf8).transpose().map_err(|_| Unfit::Event)
}

/// `{"cache_salt": …}` of SGLang; anything else in it is passed over.
fn salt<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a str>, Unfit> {
    let value = reader.value()?;
    let Value::Map(length) = value else { return nil(value) };
    let mut salt = None;
    for _ in 0..length {
        if reader.value()? == Value::Text(b"cache_salt") {
            salt = utf8(text(reader.value()?)?)?;
        } else {
            reader.skip(1)?;
        }
    }
    Ok(salt)
}

/// Empty when no block has any.
fn extra_keys(reader: &mut Reader<'_>) -> Result<Vec<Vec<ExtraKey>>, Unfit> {
    let Some(length) = array(reader.value()?)? else { return Ok(Vec::new()) };
    let mut blocks = Vec::new();
    for index in 0..length {
        let keys = block_keys(reader)?;
        if !keys.is_empty() && blocks.is_empty() {
            blocks = Vec::with_capacity(length);
            blocks.resize_with(index, Vec::new);
        }
        if !keys.is_empty() || !blocks.is_empty() {
            blocks.push(keys);
        }
    }
    Ok(blocks)
}

fn block_keys(reader: &mut Reader<'_>) -> Result<Vec<ExtraKey>, Unfit> {
    let Some(length) = array(reader.value()?)? else { return Ok(Vec::new()) };
    let mut keys = Vec::new();
    for _ in 0..length {
        keys.push(extra_key(reader)?);
    }
    Ok(keys)
}

fn extra_key(reader: &mut Reader<'_>) -> Result<ExtraKey, Unfit> {
    let start = *reader;
    let value = reader.value()?;
    if let Value::Text(text) = value {
        return Ok(ExtraKey::Text(core::str::from_utf8(text).map_err(|_| Unfit::Event)?.to_owned()));
    }
    if let Value::Array(length) = value {
        return multimodal(reader, length);
    }
    *reader = start;
    reader.skip(1)?;
    Ok(ExtraKey::Opaque)
}

/// `[identifier, offset]`; the offset is negative when the item began in an earlier block.
fn multimodal(reader: &mut Reader<'_>, length: usize) -> Result<ExtraKey, Unfit> {
    let start = *reader;
    reader.skip(length)?;
    let mut inside = start;
    let (Some(_), Ok(Value::Text(name)), Ok(Value::Int(offset, _))) =
        (length.checked_sub(2), inside.value(), inside.value())
    else {
        return Ok(ExtraKey::Opaque);
    };
    let Ok(name) = core::str::from_utf8(name) else { return Ok(ExtraKey::Opaque) };
    Ok(ExtraKey::Multimodal(name.to_owned(), offset.cast_signed()))
}
