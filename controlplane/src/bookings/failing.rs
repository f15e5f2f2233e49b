//! Endpoints that some gateway leaves alone because its requests fail there; the other gateways are told. Whoever is served
//! there ends it, and so does time: a gateway that cannot reach a healthy endpoint must not keep it from the others.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::clock::Timestamp;
use shared::identity::EndpointId;

/// An endpoint counts as failing for so long after the first word of it, twice as long after each further one: always longer
/// than the gateway that told of it leaves it alone, since that one tries it next.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(40);

/// Of one pool.
#[derive(Clone, Debug, Default)]
pub struct Failing {
    endpoints: BTreeMap<EndpointId, Failure>,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    until: Timestamp,
    /// Words of it, in a row.
    told: u32,
}

impl Failing {
    /// A gateway leaves it alone. True when that is news.
    pub fn failed(&mut self, endpoint: EndpointId, now: Timestamp) -> bool {
        let told = self.endpoints.get(&endpoint).map_or(0, |before| before.told);
        let memory = SHORTEST.saturating_mul(1 << told.min(5)).min(LONGEST);
        let failure = Failure { until: now.after(memory), told: told.saturating_add(1) };
        self.endpoints.insert(endpoint, failure).is_none()
    }

    /// It served somebody, or is gone. True when that is news.
    pub fn served(&mut self, endpoint: EndpointId) -> bool {
        self.endpoints.remove(&endpoint).is_some()
    }

    /// Forgets what is old. True when something was.
    pub fn tick(&mut self, now: Timestamp) -> bool {
        let before = self.endpoints.len();
        self.endpoints.retain(|_, failure| now < failure.until);
        self.endpoints.len() < before
    }

    /// When `tick` has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.endpoints.values().map(|failure| failure.until).min()
    }

    /// Does it fail, as far as is known?
    #[must_use]
    pub fn contains(&self, endpoint: EndpointId) -> bool {
        self.endpoints.contains_key(&endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn it_lasts_until_somebody_is_served_or_for_a_time_that_grows_with_each_word() {
        let (id, mut failing) = (EndpointId(1), Failing::default());
        assert!(failing.failed(id, at(0)) && !failing.failed(id, at(1000)) && failing.contains(id));
        assert_eq!(failing.next_due(), Some(at(5000)));
        assert!(failing.served(id) && !failing.served(id) && !failing.contains(id));
        failing.failed(id, at(5000));
        assert!(!failing.tick(at(6999)) && failing.contains(id));
        assert!(failing.tick(at(7000)) && !failing.contains(id));
        for _ in 0..9 {
            failing.failed(id, at(8000));
        }
        assert_eq!(failing.next_due(), Some(at(48_000)));
    }
}
