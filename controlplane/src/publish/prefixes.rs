//! Both sources of a pool's residency under one table: what engines told and what routes taught. A chunk may be known
//! from both (an engine that is followed and one that is not hold the same prefix); gateways get one set of holders.

use std::collections::BTreeMap;

use shared::clock::Timestamp;
use shared::wire::ResidencyGroup;

use crate::exact::pool::ExactPool;
use crate::residency::holder::Holder;
use crate::residency::index::ResidencyIndex;

/// See the module.
pub struct Prefixes {
    /// From routes.
    pub learned: ResidencyIndex,
    /// From engines' events, where the configuration wants it.
    pub exact: Option<ExactPool>,
}

/// Holders -> chunks with their tokens.
type Chunks = BTreeMap<Vec<Holder>, Vec<(u64, u32)>>;

impl Prefixes {
    /// Nothing is known. `secret` as in `ResidencyIndex::new`.
    #[must_use]
    pub const fn new(secret: u64) -> Self {
        Self { learned: ResidencyIndex::new(secret), exact: None }
    }

    /// Is there anything to drain?
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.learned.is_dirty() || self.exact.as_ref().is_some_and(ExactPool::is_dirty)
    }

    /// Drops the coldest memberships until at most about `memberships` are left of each side; those that engines told of go
    /// with the next drain that has something to tell.
    pub fn shrink_to(&mut self, memberships: usize, now: Timestamp) {
        if let Some(exact) = &mut self.exact {
            exact.shrink_to(memberships);
        }
        self.learned.shrink_to(memberships, now);
    }

    /// What changed since the last call, as the holders now are.
    pub fn drain(&mut self) -> Vec<ResidencyGroup> {
        let learned = self.learned.drain();
        let Some(exact) = &mut self.exact else { return learned };
        let told = exact.drain();
        self.joined(told, learned)
    }

    /// Everything that is held.
    #[must_use]
    pub fn content(&self) -> Vec<ResidencyGroup> {
        let learned = self.learned.content();
        match &self.exact {
            Some(exact) => self.joined(exact.content(), learned),
            None => learned,
        }
    }

    /// Both lists, each chunk once, with the holders of both sides. Keys that nobody holds come first: one may be in the
    /// list as withdrawn by one side and held by the other.
    fn joined(&self, told: Vec<ResidencyGroup>, learned: Vec<ResidencyGroup>) -> Vec<ResidencyGroup> {
        if self.learned.size().memberships == 0 && learned.is_empty() {
            return told;
        }
        let Some(exact) = &self.exact else { return learned };
        let (mut whole, mut mixed) = (Vec::new(), Chunks::new());
        for group in told {
            self.sort_out(group, |key| self.learned.holders(key), |key| exact.holders(key), &mut whole, &mut mixed);
        }
        for group in learned {
            self.sort_out(group, |key| exact.holders(key), |key| self.learned.holders(key), &mut whole, &mut mixed);
        }
        whole.sort_by_key(|group| !group.holders.is_empty());
        whole.extend(mixed.into_iter().map(|(holders, mut chunks)| {
            chunks.sort_unstable_by_key(|&(key, tokens)| (key, core::cmp::Reverse(tokens)));
            chunks.dedup_by_key(|&mut (key, _)| key);
            ResidencyGroup {
                holders: holders.iter().map(|holder| holder.wire()).collect(),
                keys: chunks.iter().map(|&(key, _)| key).collect(),
                tokens: chunks.iter().map(|&(_, tokens)| tokens).collect(),
            }
        }));
        whole
    }

    /// Chunks of `group` that only its side knows stay in it; the others go to `mixed`.
    fn sort_out(
        &self,
        group: ResidencyGroup,
        others: impl Fn(u64) -> Vec<Holder>,
        own: impl Fn(u64) -> Vec<Holder>,
        whole: &mut Vec<ResidencyGroup>,
        mixed: &mut Chunks,
    ) {
        let mut rest = ResidencyGroup { holders: group.holders, ..ResidencyGroup::default() };
        let mut tokens = group.tokens.iter();
        let counted = !group.tokens.is_empty();
        for &key in &group.keys {
            let count = tokens.next().copied().unwrap_or(0);
            let elsewhere = others(key);
            if elsewhere.is_empty() {
                rest.keys.push(key);
                if counted {
                    rest.tokens.push(count);
                }
                continue;
            }
            let mut holders = own(key);
            holders.extend(elsewhere);
            holders.sort_unstable();
            holders.dedup();
            mixed.entry(holders).or_default().push((key, count));
        }
        if !rest.keys.is_empty() {
            whole.push(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::identity::{EndpointId, Slot};

    use super::*;
    use crate::events::event::{Batch, BlockHash, BlockStored, KvEvent};
    use crate::events::sequence::Coverage;
    use crate::events::subscribe::Update;
    use crate::exact::{ExactModel, ModelState};
    use crate::residency::holder::Tier;
    use crate::vocabulary::table::TokenTable;

    const A: EndpointId = EndpointId(1);

    fn slot(index: u32) -> Slot {
        Slot::new(index).unwrap()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    /// Tokens are single letters; chunks are of 16 bytes.
    fn prefixes() -> Prefixes {
        let letters: Vec<u8> = (0..=255).collect();
        let model = ExactModel {
            name: "m".to_owned(),
            rendering: shared::wire::Rendering::default(),
            tokens: TokenTable::new(letters.chunks(1).map(Some)),
            inquiries: None,
            for_gateways: None,
        };
        let mut exact = ExactPool::new(1, at(0));
        exact.set_model(ModelState::Ready(Arc::new(model)), 16, at(0));
        Prefixes { exact: Some(exact), ..Prefixes::new(1) }
    }

    fn stored(text: &str) -> Update {
        let stored = BlockStored {
            hashes: vec![BlockHash(7)],
            tokens: text.bytes().map(u32::from).collect(),
            block_size: u32::try_from(text.len()).unwrap(),
            ..BlockStored::default()
        };
        let batch = Batch { events: vec![KvEvent::Stored(stored)], ..Batch::default() };
        Update::Batch { batch, received: at(0) }
    }

    fn keys(text: &str) -> Vec<u64> {
        let mut keys = Vec::new();
        shared::prefix::chain(shared::prefix::ChainRoot::new("m", None, None), 16, [text.as_bytes()], &mut keys);
        keys
    }

    /// What a gateway makes of it, by key.
    fn folded(groups: &[ResidencyGroup], into: &mut BTreeMap<u64, Vec<u32>>) {
        for group in groups {
            for &key in &group.keys {
                if group.holders.is_empty() {
                    into.remove(&key);
                } else {
                    into.insert(key, group.holders.clone());
                }
            }
        }
    }

    #[test]
    fn a_chunk_known_from_both_sides_has_the_holders_of_both() {
        let text = "abcdefghijklmnopqrstuvwxyzabcdef";
        let mut prefixes = prefixes();
        let mut table = BTreeMap::new();
        prefixes.learned.route(slot(1), None, &keys(text), at(1)).unwrap();
        folded(&prefixes.drain(), &mut table);
        assert_eq!(table.values().collect::<Vec<_>>(), [&vec![4], &vec![4]]);

        let exact = prefixes.exact.as_mut().unwrap();
        assert!(exact.update(A, slot(0), &Update::Synced(Coverage::Complete), at(1)));
        exact.update(A, slot(0), &stored(text), at(1));
        folded(&prefixes.drain(), &mut table);
        assert_eq!(table.values().collect::<Vec<_>>(), [&vec![0, 4], &vec![0, 4]]);
        let mut whole = BTreeMap::new();
        folded(&prefixes.content(), &mut whole);
        assert_eq!(whole, table);
        assert_eq!(prefixes.learned.holders(keys(text)[0]), [Holder::new(slot(1), Tier::Gpu)]);

        prefixes.learned.clear(slot(1));
        folded(&prefixes.drain(), &mut table);
        assert_eq!(table.values().collect::<Vec<_>>(), [&vec![0], &vec![0]]);
    }

    #[test]
    fn a_model_that_is_loaded_anew_withdraws_what_was_published_and_keeps_what_was_learned() {
        let text = "abcdefghijklmnopqrstuvwxyzabcdef";
        let mut prefixes = prefixes();
        let mut table = BTreeMap::new();
        let exact = prefixes.exact.as_mut().unwrap();
        exact.update(A, slot(0), &stored(text), at(1));
        prefixes.learned.route(slot(1), None, &keys(text)[..1], at(1)).unwrap();
        folded(&prefixes.drain(), &mut table);
        assert_eq!(table.len(), 2);
        let failed = ModelState::Failed("no such file".to_owned());
        prefixes.exact.as_mut().unwrap().set_model(failed, 16, at(2));
        assert!(prefixes.is_dirty());
        folded(&prefixes.drain(), &mut table);
        assert_eq!(table, BTreeMap::from([(keys(text)[0], vec![4])]));
        assert!(!prefixes.is_dirty());
    }

    #[test]
    fn a_pool_whose_share_shrinks_drops_its_coldest_blocks_and_counts_them() {
        let mut prefixes = prefixes();
        let mut table = BTreeMap::new();
        let texts: Vec<String> = ('a'..='z').map(|letter| letter.to_string().repeat(64)).collect();
        for (name, text) in (101..).zip(&texts) {
            let Update::Batch { mut batch, received } = stored(text) else { panic!("a batch") };
            if let KvEvent::Stored(stored) = &mut batch.events[0] {
                stored.hashes = vec![BlockHash(name)];
            }
            prefixes.exact.as_mut().unwrap().update(A, slot(0), &Update::Batch { batch, received }, at(name));
        }
        folded(&prefixes.drain(), &mut table);
        assert_eq!(table.len(), 26 * 4);
        prefixes.shrink_to(13, at(300));
        prefixes.exact.as_mut().unwrap().update(A, slot(0), &stored("the newest block"), at(300));
        folded(&prefixes.drain(), &mut table);
        assert!((4..60).contains(&table.len()), "{}", table.len());
        let held = |text: &str| keys(text).iter().all(|key| table.contains_key(key));
        assert!(held("the newest block") && !held(&texts[0]));
        let status = prefixes.exact.as_ref().unwrap().status([(A, slot(0), "10.0.0.1:8000")].into_iter());
        assert!(status.totals.shed > 10, "{:?}", status.totals);
    }

    #[test]
    fn an_engine_that_stays_away_is_no_longer_believed() {
        let text = "abcdefghijklmnopqrstuvwxyzabcdef";
        let mut prefixes = prefixes();
        let exact = prefixes.exact.as_mut().unwrap();
        exact.update(A, slot(0), &Update::Synced(Coverage::Complete), at(1));
        exact.update(A, slot(0), &stored(text), at(1));
        exact.update(A, slot(0), &Update::Disconnected("reset".to_owned()), at(2));
        exact.tick(|_| Some(slot(0)), at(5));
        assert!(exact.follows(A));
        exact.update(A, slot(0), &Update::Disconnected("refused".to_owned()), at(9));
        exact.tick(|_| Some(slot(0)), at(13));
        assert!(!exact.follows(A));
        assert!(prefixes.content().is_empty());
        let status = prefixes.exact.as_ref().unwrap().status([(A, slot(0), "10.0.0.1:8000")].into_iter());
        assert_eq!((status.engines[0].followed, status.engines[0].note.as_str()), (false, "refused"));
        assert_eq!(status.reason, "KV events of 0 of 1 engines are followed");
    }
}
