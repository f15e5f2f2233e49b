//! `model.vocab`, in both spellings: BPE's object of ids, Unigram's list of pieces with scores.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// See the module. Ids may have gaps, and are not yet checked.
pub(super) enum Pieces {
    /// `{"piece": id}`
    ById(Vec<(u64, String)>),
    /// `[["piece", score]]`
    InOrder(Vec<String>),
}

impl Pieces {
    /// With their ids.
    pub(super) fn into_iter(self) -> Box<dyn Iterator<Item = (u64, String)>> {
        match self {
            Self::ById(pieces) => Box::new(pieces.into_iter()),
            Self::InOrder(pieces) => Box::new((0..).zip(pieces)),
        }
    }
}

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Pieces;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of token ids, or a list of [piece, score]")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pieces, A::Error> {
                let mut pieces = Vec::new();
                while let Some((piece, id)) = map.next_entry()? {
                    pieces.push((id, piece));
                }
                Ok(Pieces::ById(pieces))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Pieces, A::Error> {
                let mut pieces = Vec::new();
                while let Some((piece, _score)) = seq.next_element::<(String, IgnoredAny)>()? {
                    pieces.push(piece);
                }
                Ok(Pieces::InOrder(pieces))
            }
        }
        deserializer.deserialize_any(Either)
    }
}
