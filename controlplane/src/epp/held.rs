//! A request body that is kept back until the choice is made, and its way back in chunks. Bytes are copied only where a
//! body is edited, and where small chunks are gathered: each message costs the gateway more than its bytes do.

use bytes::{Bytes, BytesMut};
use shared::api::{Edit, NoStringThere, edited};

/// Longest chunk that is given back: gateways hold messages to 64 KiB (llm-d and the reference picker use the same bound).
pub(super) const CHUNK: usize = 62_000;

/// The chunks, as they came.
#[derive(Debug, Default)]
pub(super) struct Held {
    chunks: Vec<Bytes>,
    bytes: usize,
    edited: bool,
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
    pub(super) const fn is_edited(&self) -> bool {
        self.edited
    }

    /// Makes these edits; chunks keep their lengths, except that the last ones take what is left.
    pub(super) fn edit(&mut self, edits: &[Edit]) -> Result<(), NoStringThere> {
        let mut whole = Bytes::from(edited(&self.chunks.concat(), edits)?);
        self.edited = true;
        for chunk in &mut self.chunks {
            *chunk = whole.split_to(chunk.len().min(whole.len()));
        }
        if let Some(last) = self.chunks.last_mut().filter(|_| !whole.is_empty()) {
            *last = [&last[..], &whole].concat().into();
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
    fn edits_are_made_across_chunks_and_a_wrong_place_is_refused() {
        for (edit, first, second) in [
            (Edit::Disarm(2..8), "{\"xx", "xxxx\":1}"),
            (Edit::replace(2..8, "much longer"), "{\"mu", "ch longer\":1}"),
            (Edit::replace(2..8, ""), "{\"\":", "1}"),
        ] {
            let mut held = Held::default();
            held.push(Bytes::from_static(b"{\"se"));
            held.push(Bytes::from_static(b"cret\":1}"));
            held.edit(&[edit]).unwrap();
            assert!(held.is_edited());
            assert_eq!(held.take(), [first, second]);
            held.push(Bytes::from_static(b"{}"));
            assert!(held.edit(&[Edit::Disarm(0..9)]).is_err());
        }
    }
}
