//! A request body that is kept back until the choice is made, and its way back in chunks. Bytes are copied only where keys
//! are overwritten, and where small chunks are gathered: each message costs the gateway more than its bytes do.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use shared::api::{NoKeyThere, overwrite_keys};

/// Longest chunk that is given back: gateways hold messages to 64 KiB (llm-d and the reference picker use the same bound).
pub(super) const CHUNK: usize = 62_000;

/// The chunks, as they came.
#[derive(Debug, Default)]
pub(super) struct Held {
    chunks: Vec<Bytes>,
    bytes: usize,
    overwritten: bool,
}

impl Held {
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        self.chunks.push(chunk);
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Was anything of it changed?
    pub(super) const fn is_overwritten(&self) -> bool {
        self.overwritten
    }

    /// Takes `keys` out; chunks keep their lengths.
    pub(super) fn overwrite(&mut self, keys: &[Range<u64>]) -> Result<(), NoKeyThere> {
        let mut whole = self.chunks.concat();
        overwrite_keys(&mut whole, keys)?;
        let mut whole = Bytes::from(whole);
        self.overwritten = true;
        for chunk in &mut self.chunks {
            *chunk = whole.split_to(chunk.len());
        }
        Ok(())
    }

    /// As it came, chunk by chunk.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.bytes = 0;
        std::mem::take(&mut self.chunks)
    }
}

/// `chunks` in as few pieces as may be sent, at least one.
pub(super) fn gathered(chunks: Vec<Bytes>) -> Vec<Bytes> {
    let mut done = Vec::new();
    let mut open = BytesMut::new();
    for piece in chunks.into_iter().flat_map(pieces) {
        if open.len() + piece.len() > CHUNK {
            done.push(open.split().freeze());
        }
        if open.is_empty() && piece.len() > CHUNK / 2 {
            done.push(piece);
        } else {
            open.extend_from_slice(&piece);
        }
    }
    if !open.is_empty() || done.is_empty() {
        done.push(open.freeze());
    }
    done
}

/// `chunk` in pieces that may be sent; an empty one is a piece too.
pub(super) fn pieces(mut chunk: Bytes) -> impl Iterator<Item = Bytes> {
    let mut first = true;
    std::iter::from_fn(move || {
        if chunk.is_empty() && !std::mem::take(&mut first) {
            return None;
        }
        first = false;
        Some(chunk.split_to(chunk.len().min(CHUNK)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_body_comes_back_byte_for_byte_in_pieces_that_fit(lengths in vec(0..150_000usize, 0..6)) {
            let mut held = Held::default();
            let bodies: Vec<Bytes> = lengths.iter().enumerate().map(|(at, &n)| Bytes::from(vec![u8::try_from(at).unwrap(); n])).collect();
            bodies.iter().for_each(|body| held.push(body.clone()));
            prop_assert_eq!(held.bytes(), lengths.iter().sum::<usize>());
            let back = gathered(held.take());
            prop_assert!(!back.is_empty() && back.iter().all(|piece| piece.len() <= CHUNK));
            prop_assert!(back.len() == 1 || back.iter().all(|piece| !piece.is_empty()));
            prop_assert_eq!(back.concat(), bodies.concat());
        }
    }

    #[test]
    fn keys_are_overwritten_across_chunks_and_a_wrong_place_is_refused() {
        let mut held = Held::default();
        held.push(Bytes::from_static(b"{\"se"));
        held.push(Bytes::from_static(b"cret\":1}"));
        held.overwrite(std::slice::from_ref(&(2..8))).unwrap();
        assert!(held.is_overwritten());
        assert_eq!(held.take(), [&b"{\"xx"[..], &b"xxxx\":1}"[..]]);
        held.push(Bytes::from_static(b"{}"));
        assert!(held.overwrite(std::slice::from_ref(&(0..9))).is_err());
    }
}
