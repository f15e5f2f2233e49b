//! Does an engine render prompts as we do? Every rendered prompt that an engine answered is a sample: the engine must have
//! announced blocks that cover the keys which the gateway computed. Keys are compared, no text is needed.
//!
//! Samples wait twice: for their completion, then for the engine's events, which may come later than the answer.

use std::collections::VecDeque;
use std::time::Duration;

use shared::clock::Timestamp;
use shared::identity::EndpointId;
use shared::wire::{Completion, Route};

use super::witness::{Extent, Grain};

/// Routes that wait for their completion, and their keys together (1 MiB).
const OPEN: usize = 256;
const OPEN_KEYS: usize = 1 << 17;
/// Completions that wait for events.
const PENDING: usize = 64;
/// Events that have not come by then will not come.
const PATIENCE: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug, Default)]
pub struct Oracle {
    open: VecDeque<Open>,
    open_keys: usize,
    pending: VecDeque<Pending>,
    skipped: u64,
}

/// What a gateway sent where.
#[derive(Debug)]
struct Open {
    endpoint: EndpointId,
    from_root: bool,
    keys: Vec<u64>,
}

/// What an engine has computed.
#[derive(Debug)]
struct Pending {
    endpoint: EndpointId,
    /// Where the first key's chunk begins in the prompt.
    from_byte: u64,
    chunk_bytes: u64,
    /// Up to the witness.
    keys: Vec<u64>,
    until: Timestamp,
}

/// What came of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The engine announced the prompt as we rendered it.
    Confirmed,
    /// It did not.
    Unconfirmed {
        /// Up to this byte it did, to the chunk.
        from_byte: u64,
    },
}

impl Oracle {
    /// A rendered prompt was sent to an engine that is followed from its beginning.
    pub fn routed(&mut self, route: &Route) {
        self.open_keys += route.keys.len();
        self.open.push_back(Open {
            endpoint: EndpointId(route.endpoint),
            from_root: route.base == 0,
            keys: route.keys.clone(),
        });
        while self.open.len() > OPEN || self.open_keys > OPEN_KEYS {
            let Some(oldest) = self.open.pop_front() else { return };
            self.open_keys -= oldest.keys.len();
            self.skipped += 1;
        }
    }

    /// An engine answered in full.
    pub fn completed(&mut self, completion: &Completion, grain: Grain, now: Timestamp) {
        let endpoint = EndpointId(completion.endpoint);
        let is_it = |open: &Open| open.endpoint == endpoint && open.keys.last() == Some(&completion.leaf);
        let Some(at) = self.open.iter().position(is_it) else { return };
        let Some(open) = self.open.remove(at) else { return };
        self.open_keys -= open.keys.len();
        match sample(open, completion, grain, now.after(PATIENCE)) {
            Some(sample) => self.pending.push_back(sample),
            None => self.skipped += 1,
        }
        if self.pending.len() > PENDING {
            self.pending.pop_front();
            self.skipped += 1;
        }
    }

    /// Looks at what waits; `held`: does the endpoint hold the chunk now?
    pub fn judge(&mut self, held: impl Fn(EndpointId, u64) -> bool, now: Timestamp) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        self.pending.retain(|sample| {
            if sample.keys.last().is_some_and(|&witness| held(sample.endpoint, witness)) {
                outcomes.push(Outcome::Confirmed);
                return false;
            }
            let over = now >= sample.until;
            if over {
                let chunks = sample.keys.iter().take_while(|&&key| held(sample.endpoint, key)).count();
                let bytes = u64::try_from(chunks).unwrap_or(u64::MAX).saturating_mul(sample.chunk_bytes);
                outcomes.push(Outcome::Unconfirmed { from_byte: sample.from_byte.saturating_add(bytes) });
            }
            !over
        });
        outcomes
    }

    /// Events of `endpoint` are missing: its samples would be judged wrongly.
    pub fn forget(&mut self, endpoint: EndpointId) {
        let before = self.open.len() + self.pending.len();
        self.open.retain(|sample| sample.endpoint != endpoint);
        self.pending.retain(|sample| sample.endpoint != endpoint);
        self.open_keys = self.open.iter().map(|sample| sample.keys.len()).sum();
        self.skipped += u64::try_from(before - self.open.len() - self.pending.len()).unwrap_or(0);
    }

    /// Nothing waits any more; the count stays.
    pub fn clear(&mut self) {
        *self = Self { skipped: self.skipped, ..Self::default() };
    }

    /// Samples that could not be judged, ever.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// `None` when the witness is not among the keys: the prompt is short, or its beginning was known before.
fn sample(open: Open, completion: &Completion, grain: Grain, until: Timestamp) -> Option<Pending> {
    let Open { endpoint, from_root, mut keys } = open;
    if completion.status != 200 {
        return None;
    }
    let extent = Extent { bytes: completion.prompt_bytes, tokens: completion.prompt_tokens };
    let before = extent.chunks(grain).checked_sub(u64::try_from(keys.len()).ok()?)?;
    if from_root != (before == 0) {
        return None;
    }
    let witness = usize::try_from(extent.covered_chunks(grain).checked_sub(before)?).ok().filter(|&at| at > 0)?;
    keys.truncate(witness);
    let chunk_bytes = u64::from(grain.chunk_bytes);
    Some(Pending { endpoint, from_byte: before.saturating_mul(chunk_bytes), chunk_bytes, keys, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: EndpointId = EndpointId(7);
    const GRAIN: Grain = Grain { block_tokens: 16, chunk_bytes: 64 };

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(milliseconds * 1_000_000)
    }

    /// A prompt of 20 chunks in 320 tokens: chunks 1 to 18 lie in its first 19 blocks.
    fn route(keys: core::ops::RangeInclusive<u64>) -> Route {
        Route { endpoint: A.0, base: keys.start() - 1, keys: keys.collect(), rendered: true }
    }

    fn completion() -> Completion {
        Completion {
            endpoint: A.0,
            status: 200,
            prompt_bytes: 20 * 64,
            prompt_tokens: 320,
            rendered: true,
            leaf: 20,
            ..Completion::default()
        }
    }

    fn sampled(keys: core::ops::RangeInclusive<u64>) -> Oracle {
        let mut oracle = Oracle::default();
        oracle.routed(&route(keys));
        oracle.completed(&completion(), GRAIN, at(0));
        oracle
    }

    #[test]
    fn a_prompt_is_confirmed_as_soon_as_its_witness_is_held() {
        let mut oracle = sampled(1..=20);
        assert_eq!(oracle.judge(|_, key| key <= 17, at(10)), []);
        assert_eq!(oracle.judge(|_, key| key <= 18, at(20)), [Outcome::Confirmed]);
        assert_eq!(oracle.judge(|_, _| false, at(9000)), [], "once");
    }

    #[test]
    fn what_never_comes_is_unconfirmed_from_where_it_stops() {
        assert_eq!(sampled(1..=20).judge(|_, key| key <= 5, at(2999)), []);
        let stops_at_five = Outcome::Unconfirmed { from_byte: 5 * 64 };
        assert_eq!(sampled(1..=20).judge(|_, key| key <= 5, at(3000)), [stops_at_five]);
        let news_alone = Outcome::Unconfirmed { from_byte: 12 * 64 };
        assert_eq!(sampled(11..=20).judge(|_, key| key <= 12, at(3000)), [news_alone]);
    }

    #[test]
    fn only_full_answers_to_prompts_with_enough_news_are_samples() {
        let none = |mut oracle: Oracle| {
            assert_eq!(oracle.judge(|_, _| false, at(9000)), []);
            assert_eq!(oracle.skipped(), 1);
        };
        none(sampled(19..=20));
        for change in [
            |c: &mut Completion| c.status = 0,
            |c: &mut Completion| c.prompt_tokens = 31,
            |c: &mut Completion| c.prompt_bytes = 40 * 64,
        ] {
            let mut oracle = Oracle::default();
            oracle.routed(&route(1..=20));
            let mut other = completion();
            change(&mut other);
            oracle.completed(&other, GRAIN, at(0));
            none(oracle);
        }
    }

    #[test]
    fn an_answer_from_elsewhere_or_to_another_prompt_is_no_sample() {
        let mut oracle = Oracle::default();
        oracle.routed(&route(1..=20));
        oracle.completed(&Completion { endpoint: 8, ..completion() }, GRAIN, at(0));
        oracle.completed(&Completion { leaf: 21, ..completion() }, GRAIN, at(0));
        assert_eq!(oracle.judge(|_, _| false, at(9000)), []);
        oracle.completed(&completion(), GRAIN, at(0));
        assert_eq!(oracle.judge(|_, _| true, at(0)), [Outcome::Confirmed]);
    }

    #[test]
    fn an_engine_whose_events_were_lost_is_not_judged() {
        let mut oracle = sampled(1..=20);
        oracle.routed(&route(1..=20));
        oracle.forget(A);
        oracle.completed(&completion(), GRAIN, at(1));
        assert_eq!(oracle.judge(|_, _| false, at(9000)), []);
        assert_eq!((oracle.skipped(), oracle.open_keys), (2, 0));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut oracle = Oracle::default();
        for _ in 0..1000 {
            oracle.routed(&route(1..=20));
        }
        assert_eq!((oracle.open.len(), oracle.open_keys), (OPEN, OPEN * 20));
        for _ in 0..1000 {
            oracle.completed(&completion(), GRAIN, at(0));
        }
        assert_eq!((oracle.open.len(), oracle.pending.len(), oracle.open_keys), (0, PENDING, 0));
        oracle.routed(&Route { keys: vec![1; OPEN_KEYS + 1], ..route(1..=1) });
        assert_eq!(oracle.open_keys, 0);
    }
}
