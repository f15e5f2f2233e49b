//! Endpoints that left the list stay visible as draining for a grace period, pure. With no grace they are gone at once.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::clock::Timestamp;

use crate::datastore::Discovered;

/// What was listed last, and what left and until when it is shown.
#[derive(Debug, Default)]
pub struct Retiring {
    listed: BTreeMap<String, Discovered>,
    leaving: BTreeMap<String, (Discovered, Timestamp)>,
}

impl Retiring {
    /// Takes in a new whole list.
    pub fn list(&mut self, list: Vec<Discovered>, now: Timestamp, grace: Duration) {
        let fresh: BTreeMap<String, Discovered> = list.into_iter().map(|e| (e.address.clone(), e)).collect();
        let before = std::mem::replace(&mut self.listed, fresh);
        for (address, endpoint) in before {
            if !self.listed.contains_key(&address) && !grace.is_zero() {
                self.leaving.insert(address, (Discovered { draining: true, ..endpoint }, now.after(grace)));
            }
        }
        let listed = &self.listed;
        self.leaving.retain(|address, _| !listed.contains_key(address));
    }

    /// What is to be shown now; forgets what has left for good.
    pub fn shown(&mut self, now: Timestamp) -> Vec<Discovered> {
        self.leaving.retain(|_, (_, until)| *until > now);
        self.listed.values().chain(self.leaving.values().map(|(endpoint, _)| endpoint)).cloned().collect()
    }

    /// When `shown` changes next without a new list.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.leaving.values().map(|(_, until)| *until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str) -> Discovered {
        Discovered { address: address.to_owned(), labels: BTreeMap::new(), draining: false, metrics: None }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn what_left_drains_for_the_grace_period() {
        let mut retiring = Retiring::default();
        retiring.list(vec![endpoint("a"), endpoint("b")], at(0), Duration::from_secs(5));
        retiring.list(vec![endpoint("a")], at(1), Duration::from_secs(5));
        let shown = retiring.shown(at(2));
        assert_eq!(
            shown.iter().map(|e| (e.address.as_str(), e.draining)).collect::<Vec<_>>(),
            [("a", false), ("b", true)]
        );
        assert_eq!(retiring.next(), Some(at(6)));
        assert_eq!(retiring.shown(at(6)).len(), 1);
        assert_eq!(retiring.next(), None);
    }

    #[test]
    fn what_comes_back_is_no_longer_leaving() {
        let mut retiring = Retiring::default();
        retiring.list(vec![endpoint("a")], at(0), Duration::from_secs(5));
        retiring.list(vec![], at(1), Duration::from_secs(5));
        retiring.list(vec![endpoint("a")], at(2), Duration::from_secs(5));
        assert_eq!(retiring.shown(at(3)), [endpoint("a")]);
    }

    #[test]
    fn without_grace_it_is_gone_at_once() {
        let mut retiring = Retiring::default();
        retiring.list(vec![endpoint("a")], at(0), Duration::ZERO);
        retiring.list(vec![], at(1), Duration::ZERO);
        assert_eq!(retiring.shown(at(1)), []);
    }
}
