//! What this VM sent where a moment ago: it counts as held before the engine or the control plane has said so. While the
//! control plane is silent it is all the newer knowledge there is, so it then counts for longer.

use core::time::Duration;
use std::collections::{HashMap, VecDeque};

use crate::clock::Timestamp;
use crate::identity::EndpointId;

/// Every how many chunks a route is remembered: 512 bytes are about 128 tokens, and the routing study finds no
/// difference between 16 and 512.
const STRIDE: usize = 4;
/// Endpoints remembered for one chunk.
const HOLDERS: usize = 2;
/// Marks remembered in all, oldest out first: about 4 MB.
const CAPACITY: usize = 65_536;

/// How long a route counts: the routing study's 2 s while tables come in, which carry it from then on.
pub const TTL_IN_TOUCH: Duration = Duration::from_secs(2);
/// How long a route counts while the control plane is silent.
pub const TTL_ALONE: Duration = Duration::from_secs(600);

/// Recent routes by chunk key.
#[derive(Debug, Default)]
pub struct RecentRoutes {
    marks: HashMap<u64, [Option<Mark>; HOLDERS]>,
    order: VecDeque<(u64, Timestamp)>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    endpoint: EndpointId,
    at: Timestamp,
}

/// Depths at which a chain of `length` chunks is marked: every fourth, and its end.
fn marked_depths(length: usize) -> impl Iterator<Item = usize> {
    let end = (length % STRIDE != 0).then_some(length);
    (1..=length / STRIDE).map(|n| n * STRIDE).chain(end)
}

impl RecentRoutes {
    /// `endpoint` was sent the prompt with this chain.
    pub fn remember(&mut self, chain: &[u64], endpoint: EndpointId, now: Timestamp) {
        for &key in marked_depths(chain.len()).filter_map(|depth| chain.get(depth - 1)) {
            let marks = self.marks.entry(key).or_default();
            // Its own mark is renewed, else a vacancy taken, else the older of the two replaced.
            let place = marks.iter_mut().min_by_key(|mark| {
                let own = mark.is_some_and(|mark| mark.endpoint == endpoint);
                (!own, mark.map(|mark| mark.at))
            });
            if let Some(place) = place {
                *place = Some(Mark { endpoint, at: now });
            }
            self.order.push_back((key, now));
        }
        self.forget_beyond_capacity();
    }

    /// How many chunks of `chain` each endpoint was sent within `ttl`: calls `found(endpoint, chunks)`, growing.
    pub fn matches(&self, chain: &[u64], now: Timestamp, ttl: Duration, mut found: impl FnMut(EndpointId, usize)) {
        for depth in marked_depths(chain.len()) {
            let Some(marks) = chain.get(depth - 1).and_then(|key| self.marks.get(key)) else { return };
            for mark in marks.iter().flatten().filter(|mark| now.since(mark.at) < ttl) {
                found(mark.endpoint, depth);
            }
        }
    }

    fn forget_beyond_capacity(&mut self) {
        while self.order.len() > CAPACITY {
            let Some((key, at)) = self.order.pop_front() else { return };
            let Some(marks) = self.marks.get_mut(&key) else { continue };
            for mark in marks.iter_mut() {
                mark.take_if(|mark| mark.at <= at);
            }
            if marks.iter().all(Option::is_none) {
                self.marks.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CAPACITY, RecentRoutes, TTL_IN_TOUCH};
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
        routes.remember(&chain, EndpointId(7), now);
        assert_eq!(found(&routes, &chain, now), [(7, 10)]);
        let fork: Vec<u64> = (1..=6).chain(100..110).collect();
        assert_eq!(found(&routes, &fork, now), [(7, 4)]);
        assert_eq!(found(&routes, &chain, Timestamp::from_secs_f64(3.0)), []);
    }

    #[test]
    fn two_endpoints_are_remembered_and_the_older_gives_way() {
        let mut routes = RecentRoutes::default();
        let chain: Vec<u64> = (1..=4).collect();
        for (endpoint, seconds) in [(1, 1.0), (2, 1.1), (1, 1.2), (3, 1.3)] {
            routes.remember(&chain, EndpointId(endpoint), Timestamp::from_secs_f64(seconds));
        }
        assert_eq!(found(&routes, &chain, Timestamp::from_secs_f64(1.3)), [(1, 4), (3, 4)]);
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stays() {
        let mut routes = RecentRoutes::default();
        let count = u64::try_from(CAPACITY).unwrap() + 1000;
        for key in 1..=count {
            routes.remember(&[key], EndpointId(1), Timestamp::from_nanos(key));
        }
        assert_eq!((routes.marks.len(), routes.order.len()), (CAPACITY, CAPACITY));
        assert_eq!(found(&routes, &[count], Timestamp::from_nanos(count)), [(1, 1)]);
    }
}
