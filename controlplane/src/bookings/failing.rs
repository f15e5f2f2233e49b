//! Endpoints that some gateway leaves alone because its requests fail there; the other gateways are told. Whoever is served
//! there ends it, and so does time: a gateway that cannot reach a healthy endpoint must not keep it from the others.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::clock::Timestamp;
use shared::identity::EndpointId;

/// So long after the last word of failure an endpoint counts as failing: gateways that were told of it do not try it, so
/// their silence means nothing, and the one that knows tries it sooner until it has failed for long.
const MEMORY: Duration = Duration::from_secs(10);

/// Of one pool.
#[derive(Clone, Debug, Default)]
pub struct Failing {
    since: BTreeMap<EndpointId, Timestamp>,
}

impl Failing {
    /// A gateway leaves it alone. True when that is news.
    pub fn failed(&mut self, endpoint: EndpointId, now: Timestamp) -> bool {
        self.since.insert(endpoint, now).is_none()
    }

    /// It served somebody, or is gone. True when that is news.
    pub fn served(&mut self, endpoint: EndpointId) -> bool {
        self.since.remove(&endpoint).is_some()
    }

    /// Forgets what is old. True when something was.
    pub fn tick(&mut self, now: Timestamp) -> bool {
        let before = self.since.len();
        self.since.retain(|_, since| now.since(*since) < MEMORY);
        self.since.len() < before
    }

    /// When `tick` has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.since.values().min().map(|since| since.after(MEMORY))
    }

    /// Does it fail, as far as is known?
    #[must_use]
    pub fn contains(&self, endpoint: EndpointId) -> bool {
        self.since.contains_key(&endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn it_lasts_until_somebody_is_served_or_ten_seconds() {
        let (id, mut failing) = (EndpointId(1), Failing::default());
        assert!(failing.failed(id, at(0)) && !failing.failed(id, at(4000)) && failing.contains(id));
        assert!(failing.served(id) && !failing.served(id) && !failing.contains(id));
        failing.failed(id, at(5000));
        assert_eq!(failing.next_due(), Some(at(15_000)));
        assert!(!failing.tick(at(14_999)) && failing.contains(id));
        assert!(failing.tick(at(15_000)) && !failing.contains(id));
    }
}
