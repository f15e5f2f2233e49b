//! What this VM sent where a moment ago: it counts as held before the engine or the control plane has said so. While the
//! control plane is silent it is all the newer knowledge there is, so it then counts for longer.

use core::time::Duration;

use crate::clock::Timestamp;
use crate::identity::EndpointId;

/// Every how many chunks a route is remembered: 512 bytes are about 128 tokens, and the routing study finds no
/// difference between 16 and 512.
pub const STRIDE: usize = 4;
/// Marks that one chunk may have before the oldest gives way: a popular prefix goes to several endpoints.
const WAYS: usize = 4;
/// Sets of `WAYS` marks; a power of two. With 24 bytes a mark this is 1.5 MiB, taken with the first route.
const SETS: usize = 16_384;

/// How long a route counts: the routing study's 2 s while tables come in, which carry it from then on.
pub const TTL_IN_TOUCH: Duration = Duration::from_secs(2);
/// How long a route counts while the control plane is silent.
pub const TTL_ALONE: Duration = Duration::from_secs(600);

/// Recent routes by chunk key: a set-associative cache, so that remembering never allocates or pauses.
#[derive(Debug, Default)]
pub struct RecentRoutes {
    sets: Vec<[Mark; WAYS]>,
}

/// Key 0 is a vacancy; no chunk has it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    key: u64,
    endpoint: EndpointId,
    at: Timestamp,
}

/// What the end of a chain is marked as, beside its key: the key of no chunk, as likely as any collision.
const fn end_of(key: u64) -> u64 {
    key.rotate_left(32) ^ 0x656E_642D_6F66_2D61
}

const VACANT: Mark = Mark { key: 0, endpoint: EndpointId(0), at: Timestamp::ZERO };

/// Depths at which a chain of `length` chunks is marked: every fourth, and its end.
fn marked_depths(length: usize) -> impl Iterator<Item = usize> {
    let end = (!length.is_multiple_of(STRIDE)).then_some(length);
    (1..=length / STRIDE).map(|n| n * STRIDE).chain(end)
}

#[expect(clippy::cast_possible_truncation, reason = "masked: only the low bits are wanted")]
const fn set_of(key: u64) -> usize {
    key as usize & (SETS - 1)
}

impl RecentRoutes {
    /// `endpoint` was sent the prompt with this chain.
    pub fn remember(&mut self, chain: &[u64], endpoint: EndpointId, now: Timestamp) {
        if self.sets.is_empty() {
            self.sets = vec![[VACANT; WAYS]; SETS];
        }
        let end = chain.last().map(|&key| end_of(key));
        let marked = marked_depths(chain.len()).filter_map(|depth| chain.get(depth - 1)).copied();
        for key in marked.chain(end) {
            let Some(set) = self.sets.get_mut(set_of(key)) else { continue };
            // Its own mark is renewed, else the oldest replaced; a vacancy is older than all.
            let place = set.iter_mut().min_by_key(|mark| (mark.key != key || mark.endpoint != endpoint, mark.at));
            if let Some(place) = place {
                *place = Mark { key, endpoint, at: now };
            }
        }
    }

    /// Where in `chain` a whole chain ended that an endpoint was sent within `ttl`: calls `found(endpoint, chunks)`, growing.
    /// Looks at every chunk as far as `chain` goes.
    pub fn ends(&self, chain: &[u64], now: Timestamp, ttl: Duration, mut found: impl FnMut(EndpointId, usize)) {
        for (depth, key) in (1..).zip(chain.iter().map(|&key| end_of(key))) {
            let Some(set) = self.sets.get(set_of(key)) else { return };
            for mark in set.iter().filter(|mark| mark.key == key && now.since(mark.at) < ttl) {
                found(mark.endpoint, depth);
            }
        }
    }

    /// How many chunks of `chain` each endpoint was sent within `ttl`: calls `found(endpoint, chunks)`, growing.
    pub fn matches(&self, chain: &[u64], now: Timestamp, ttl: Duration, mut found: impl FnMut(EndpointId, usize)) {
        for depth in marked_depths(chain.len()) {
            let Some(&key) = chain.get(depth - 1) else { return };
            let Some(set) = self.sets.get(set_of(key)) else { return };
            let mut any = false;
            for mark in set.iter().filter(|mark| mark.key == key && key != 0) {
                any = true;
                if now.since(mark.at) < ttl {
                    found(mark.endpoint, depth);
                }
            }
            if !any {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RecentRoutes, SETS, TTL_IN_TOUCH, WAYS};
    use crate::clock::Timestamp;
    use crate::identity::EndpointId;

    fn found(routes: &RecentRoutes, chain: &[u64], now: Timestamp) -> Vec<(u64, usize)> {
        let mut deepest = std::collections::BTreeMap::new();
        routes.matches(chain, now, TTL_IN_TOUCH, |id, depth| {
            deepest.insert(id.0, depth);
        });
        deepest.into_iter().collect()
    }

    #[test]
    fn the_shared_prefix_of_two_chains_is_found_to_the_stride() {
        let mut routes = RecentRoutes::default();
        let now = Timestamp::from_secs_f64(1.0);
        let chain: Vec<u64> = (1..=10).collect();
        assert_eq!(found(&routes, &chain, now), []);
        routes.remember(&chain, EndpointId(7), now);
        assert_eq!(found(&routes, &chain, now), [(7, 10)]);
        let fork: Vec<u64> = (1..=6).chain(100..110).collect();
        assert_eq!(found(&routes, &fork, now), [(7, 4)]);
        assert_eq!(found(&routes, &chain, Timestamp::from_secs_f64(3.0)), []);
    }

    #[test]
    fn only_the_end_of_a_chain_is_an_end() {
        let mut routes = RecentRoutes::default();
        let now = Timestamp::from_secs_f64(1.0);
        let chain: Vec<u64> = (1..=10).collect();
        let ends = |routes: &RecentRoutes, chain: &[u64], now| {
            let mut all = Vec::new();
            routes.ends(chain, now, TTL_IN_TOUCH, |id, depth| all.push((id.0, depth)));
            all
        };
        assert_eq!(ends(&routes, &chain, now), []);
        routes.remember(&chain[..6], EndpointId(7), now);
        routes.remember(&chain[..9], EndpointId(8), now);
        assert_eq!(ends(&routes, &chain, now), [(7, 6), (8, 9)]);
        let fork: Vec<u64> = (1..=5).chain(100..110).collect();
        assert_eq!(ends(&routes, &fork, now), []);
        assert_eq!(ends(&routes, &chain, Timestamp::from_secs_f64(3.0)), []);
    }

    #[test]
    fn several_endpoints_are_remembered_and_the_oldest_gives_way() {
        let mut routes = RecentRoutes::default();
        let chain: Vec<u64> = (1..=4).collect();
        for (endpoint, seconds) in [(1, 1.0), (2, 1.1), (1, 1.2), (3, 1.3), (4, 1.4), (5, 1.5)] {
            routes.remember(&chain, EndpointId(endpoint), Timestamp::from_secs_f64(seconds));
        }
        assert_eq!(found(&routes, &chain, Timestamp::from_secs_f64(1.5)), [(1, 4), (3, 4), (4, 4), (5, 4)]);
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stays() {
        let mut routes = RecentRoutes::default();
        let count = u64::try_from(SETS * WAYS * 2).unwrap();
        for key in 1..=count {
            routes.remember(&[key], EndpointId(1), Timestamp::from_nanos(key));
        }
        assert_eq!(routes.sets.len(), SETS);
        assert_eq!(found(&routes, &[count], Timestamp::from_nanos(count)), [(1, 1)]);
        assert_eq!(found(&routes, &[1], Timestamp::from_nanos(count)), []);
    }
}
