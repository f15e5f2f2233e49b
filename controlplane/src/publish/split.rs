//! Cuts changes into segments of at most 64 KiB. A segment is applied whole, so each piece must make sense after the ones
//! before it: a pool's settings and models come first, with what is removed; then renderings, endpoints, residency, and last the
//! vocabularies, which the fewest requests wait for.

use prost::Message;
use shared::wire::{PoolChange, ResidencyGroup};

/// Most bytes of one encoded segment: what gateways append to their shared memory at once.
pub const SEGMENT_BYTES: usize = 64 * 1024;
/// Epoch, version, part numbers and the frames around them, generously.
const HEADER_BYTES: usize = 128;
/// Tag and length of a nested message.
const FRAME_BYTES: usize = 8;
/// Keys in one piece: with tokens about 26 KB, so pieces fill segments well.
const PIECE_KEYS: usize = 2048;

#[derive(Default)]
struct Packer {
    segments: Vec<Vec<PoolChange>>,
    bytes: usize,
}

impl Packer {
    /// Opens a segment for a piece of `bytes` if the last one has no room for it.
    fn reserve(&mut self, bytes: usize) {
        let full = self.bytes + bytes > SEGMENT_BYTES - HEADER_BYTES;
        if self.segments.is_empty() || (full && self.bytes > 0) {
            self.segments.push(Vec::new());
            self.bytes = 0;
        }
        self.bytes += bytes;
    }

    /// Takes a change as it is.
    fn place(&mut self, change: PoolChange) {
        self.reserve(change.encoded_len() + FRAME_BYTES);
        if let Some(segment) = self.segments.last_mut() {
            segment.push(change);
        }
    }

    /// Where the next piece of `name`, of `bytes`, belongs.
    fn room(&mut self, name: &str, bytes: usize) -> Option<&mut PoolChange> {
        self.reserve(bytes + FRAME_BYTES);
        let segment = self.segments.last_mut()?;
        if segment.last().is_none_or(|change| change.name != name) {
            segment.push(PoolChange { name: name.to_owned(), ..PoolChange::default() });
            self.bytes += name.len() + 2 * FRAME_BYTES;
        }
        segment.last_mut()
    }
}

/// The changes of each segment, in order; at most one change per pool goes in. Only a model list that is larger than a
/// segment by itself makes a larger one.
#[must_use]
pub fn split(changes: Vec<PoolChange>) -> Vec<Vec<PoolChange>> {
    let mut packer = Packer::default();
    for mut change in changes {
        let endpoints = std::mem::take(&mut change.endpoints);
        let residency = std::mem::take(&mut change.residency);
        let renderings = std::mem::take(&mut change.renderings);
        let vocabularies = std::mem::take(&mut change.vocabularies);
        let name = change.name.clone();
        if change != (PoolChange { name: name.clone(), ..PoolChange::default() }) {
            packer.place(change);
        }
        for rendering in renderings {
            if let Some(room) = packer.room(&name, rendering.encoded_len()) {
                room.renderings.push(rendering);
            }
        }
        for endpoint in endpoints {
            if let Some(room) = packer.room(&name, endpoint.encoded_len()) {
                room.endpoints.push(endpoint);
            }
        }
        for group in residency.into_iter().flat_map(pieces) {
            if let Some(room) = packer.room(&name, group.encoded_len()) {
                room.residency.push(group);
            }
        }
        for piece in vocabularies {
            if let Some(room) = packer.room(&name, piece.encoded_len()) {
                room.vocabularies.push(piece);
            }
        }
    }
    packer.segments
}

fn pieces(group: ResidencyGroup) -> Vec<ResidencyGroup> {
    if group.keys.len() <= PIECE_KEYS {
        return vec![group];
    }
    let mut tokens = group.tokens.chunks(PIECE_KEYS);
    let keys = group.keys.chunks(PIECE_KEYS);
    keys.map(|keys| ResidencyGroup {
        holders: group.holders.clone(),
        keys: keys.to_vec(),
        tokens: tokens.next().map(<[u32]>::to_vec).unwrap_or_default(),
    })
    .collect()
}
