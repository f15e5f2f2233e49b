//! The pool's side of oracle and doubt: which requests are samples, and what follows from their outcomes.
//!
//! Only engines whose events are known without a gap since they started are judged: with any other, what is missing may be
//! our ignorance.

use shared::clock::Timestamp;
use shared::identity::{EndpointId, Slot};
use shared::wire::{Completion, Route};

use super::{ExactPool, Stream};
use crate::events::event::{Batch, KvEvent};
use crate::events::sequence::Coverage;
use crate::exact::witness::Grain;

impl ExactPool {
    /// Is all that this engine holds known, and rendered prompts to it are looked up in that?
    fn is_sampled(&self, endpoint: u64) -> bool {
        let stream = self.streams.get(&EndpointId(endpoint));
        self.is_exact() && stream == Some(&Stream::Followed(Coverage::Complete))
    }

    /// A gateway sent a rendered prompt.
    pub fn routed(&mut self, route: &Route) {
        if self.is_sampled(route.endpoint) {
            self.oracle.routed(route);
        }
    }

    /// An engine answered; `grain` as the engine's scrapes and the pool's settings have it.
    pub fn completed(&mut self, completion: &Completion, grain: Grain, now: Timestamp) {
        if completion.rendered && self.is_sampled(completion.endpoint) {
            let block_tokens = if self.block_tokens > 0 { self.block_tokens } else { grain.block_tokens };
            self.oracle.completed(completion, Grain { block_tokens, ..grain }, now);
        }
    }

    /// Judges the samples that wait, gives up a rendering that engines contradict, and takes it up again when it is time.
    /// True when the mode changed.
    pub(super) fn judge(&mut self, slots: impl Fn(EndpointId) -> Option<Slot>, now: Timestamp) -> bool {
        let Some(residency) = &self.residency else { return false };
        let was = self.is_exact();
        let held = |endpoint, key| {
            let slot: Option<Slot> = slots(endpoint);
            slot.is_some_and(|slot| residency.holders(key).iter().any(|holder| holder.slot_index() == slot.index()))
        };
        for outcome in self.oracle.judge(held, now) {
            self.doubt.observe(outcome, now);
        }
        self.doubt.tick(now);
        if was == self.is_exact() {
            return false;
        }
        self.since = now;
        self.oracle.clear();
        self.restored = !was;
        if was {
            self.withdraw();
        }
        true
    }
}

/// Tokens in the blocks that a batch tells of, the most; 0 when it does not say.
pub(super) fn block_tokens(batch: &Batch) -> u32 {
    let sizes = batch.events.iter().map(|event| match event {
        KvEvent::Stored(stored) => stored.block_size,
        KvEvent::Removed(_) | KvEvent::Cleared => 0,
    });
    sizes.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::events::event::{BlockHash, BlockStored};
    use crate::events::sequence::ResetReason;
    use crate::events::subscribe::Update;
    use crate::exact::{ExactModel, ModelState};
    use crate::vocabulary::table::TokenTable;

    const A: EndpointId = EndpointId(7);
    const GRAIN: Grain = Grain { block_tokens: 16, chunk_bytes: 16 };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn slot() -> Slot {
        Slot::new(3).unwrap()
    }

    fn model() -> ModelState {
        let letters: Vec<u8> = (0..=255).collect();
        ModelState::Ready(Arc::new(ExactModel {
            name: "m".to_owned(),
            rendering: shared::wire::Rendering::default(),
            tokens: TokenTable::new(letters.chunks(1).map(Some)),
            inquiries: None,
            for_gateways: None,
        }))
    }

    /// Follows one engine. Tokens are single letters; chunks and blocks are of 16.
    fn pool(coverage: Coverage) -> ExactPool {
        let mut pool = ExactPool::new(1, at(0));
        pool.set_model(model(), 16, at(0));
        pool.update(A, slot(), &Update::Synced(coverage), at(0));
        pool
    }

    fn tick(pool: &mut ExactPool, now: Timestamp) -> bool {
        pool.tick(|_| Some(slot()), now)
    }

    /// A prompt of 20 blocks.
    fn prompt(number: u32) -> String {
        format!("{number:04}").repeat(80)
    }

    fn keys(text: &str, salt: Option<&str>) -> Vec<u64> {
        let mut keys = Vec::new();
        shared::prefix::chain(shared::prefix::ChainRoot::new("m", None, salt), 16, [text.as_bytes()], &mut keys);
        keys
    }

    /// A gateway sends the prompt and the engine answers.
    fn ask(pool: &mut ExactPool, keys: Vec<u64>, now: Timestamp) {
        let leaf = keys[keys.len() - 1];
        pool.routed(&Route { endpoint: A.0, base: 0, keys, rendered: true });
        let answered = Completion {
            endpoint: A.0,
            status: 200,
            prompt_bytes: 320,
            prompt_tokens: 320,
            rendered: true,
            leaf,
            ..Completion::default()
        };
        pool.completed(&answered, GRAIN, now);
    }

    /// The engine announces `text`, of the tenant `salt`.
    fn announce(pool: &mut ExactPool, number: u64, text: &str, salt: Option<&str>, now: Timestamp) {
        let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
        let blocks = u64::try_from(tokens.len() / 16).unwrap();
        let mut extra_keys = vec![Vec::new(); tokens.len() / 16];
        if let Some(salt) = salt {
            extra_keys[0].push(crate::events::event::ExtraKey::Text(salt.to_owned()));
        }
        let stored = BlockStored {
            hashes: (0..blocks).map(|block| BlockHash(number * 100 + block + 1)).collect(),
            tokens,
            block_size: 16,
            extra_keys: if salt.is_some() { extra_keys } else { Vec::new() },
            ..BlockStored::default()
        };
        let batch = Batch { events: vec![KvEvent::Stored(stored)], ..Batch::default() };
        pool.update(A, slot(), &Update::Batch { batch, received: now }, now);
    }

    fn contradicted(pool: &mut ExactPool, from: u64) {
        for number in 0..16 {
            ask(pool, keys(&prompt(number), None), at(from));
        }
        assert!(!tick(pool, at(from + 2)));
        assert!(tick(pool, at(from + 3)));
    }

    #[test]
    fn an_engine_that_never_announces_what_we_render_makes_the_pool_learn_and_say_why() {
        let mut pool = pool(Coverage::Complete);
        announce(&mut pool, 1, &prompt(77), None, at(0));
        assert_eq!(pool.drain().iter().map(|group| group.keys.len()).sum::<usize>(), 20);
        contradicted(&mut pool, 1);
        assert!(!pool.is_exact() && pool.rendering().is_none() && pool.follows(A));
        let status = pool.status([(A, slot(), "10.0.0.1:8000")].into_iter());
        assert_eq!((status.mode, status.since), ("learned", 4));
        assert!(
            status.reason.contains("16 of the last 16") && status.reason.contains("byte 0 on"),
            "{}",
            status.reason
        );
        assert!(status.reason.contains("kvasir render --compare"), "{}", status.reason);
        let withdrawn = pool.drain();
        assert_eq!((withdrawn[0].holders.len(), withdrawn[0].keys.len()), (0, 20));
        assert!(pool.content().is_empty() && pool.holders(keys(&prompt(77), None)[0]).is_empty());
    }

    #[test]
    fn after_a_while_it_is_exact_again_with_what_the_engine_told_meanwhile() {
        let mut pool = pool(Coverage::Complete);
        contradicted(&mut pool, 1);
        pool.drain();
        announce(&mut pool, 1, &prompt(77), None, at(100));
        assert!(pool.drain().is_empty());
        assert!(!tick(&mut pool, at(603)));
        assert!(tick(&mut pool, at(604)));
        assert!(pool.is_exact() && pool.is_dirty());
        assert_eq!(pool.drain().iter().map(|group| group.keys.len()).sum::<usize>(), 20);
        assert!(!pool.is_dirty());
    }

    #[test]
    fn a_model_that_is_loaded_anew_is_believed_at_once() {
        let mut pool = pool(Coverage::Complete);
        contradicted(&mut pool, 1);
        pool.set_model(model(), 16, at(9));
        assert!(pool.is_exact());
    }

    #[test]
    fn prompts_that_are_announced_are_confirmed_salted_ones_too() {
        let mut pool = pool(Coverage::Complete);
        for number in 0..40 {
            let salt = (number % 2 == 0).then_some("tenant");
            ask(&mut pool, keys(&prompt(number), salt), at(1));
            announce(&mut pool, u64::from(number), &prompt(number), salt, at(2));
        }
        pool.drain();
        assert!(!tick(&mut pool, at(2)));
        assert!(!tick(&mut pool, at(60)));
        let totals = pool.status([].into_iter()).totals;
        assert_eq!((totals.confirmed_prompts, totals.unconfirmed_prompts), (40, 0));
    }

    #[test]
    fn engines_of_which_something_is_not_known_are_not_judged() {
        let lost = Update::Gap { missing: 2, detected_after: Duration::ZERO };
        let broken = Update::Disconnected("reset".to_owned());
        for news in [lost, Update::Reset(ResetReason::Restarted), broken] {
            let mut pool = pool(Coverage::Complete);
            for number in 0..16 {
                ask(&mut pool, keys(&prompt(number), None), at(1));
            }
            pool.update(A, slot(), &news, at(2));
            assert!(!tick(&mut pool, at(9)), "{news:?}");
            assert_eq!(pool.status([].into_iter()).totals.unconfirmed_prompts, 0, "{news:?}");
        }
        let mut pool = pool(Coverage::Partial);
        for number in 0..16 {
            ask(&mut pool, keys(&prompt(number), None), at(1));
        }
        assert!(!tick(&mut pool, at(9)));
    }
}
