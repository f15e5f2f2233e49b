//! What left a list stays visible, as leaving, for a grace period, pure. With no grace it is gone at once.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::clock::Timestamp;

/// What was listed last, and what left and until when it is shown, by name.
#[derive(Debug)]
pub struct Retiring<T> {
    listed: BTreeMap<String, T>,
    leaving: BTreeMap<String, (T, Timestamp)>,
}

impl<T> Default for Retiring<T> {
    fn default() -> Self {
        Self { listed: BTreeMap::new(), leaving: BTreeMap::new() }
    }
}

impl<T: Clone> Retiring<T> {
    /// Takes in a new whole list; `leave` makes of what left what is shown of it.
    pub fn list(&mut self, fresh: BTreeMap<String, T>, until: Option<Timestamp>, leave: impl Fn(T) -> T) {
        let before = std::mem::replace(&mut self.listed, fresh);
        if let Some(until) = until {
            let left = before.into_iter().filter(|(name, _)| !self.listed.contains_key(name));
            self.leaving.extend(left.map(|(name, one)| (name, (leave(one), until))));
        }
        let listed = &self.listed;
        self.leaving.retain(|name, _| !listed.contains_key(name));
    }

    /// What is to be shown now; forgets what has left for good.
    pub fn shown(&mut self, now: Timestamp) -> Vec<T> {
        self.leaving.retain(|_, (_, until)| *until > now);
        self.listed.values().chain(self.leaving.values().map(|(one, _)| one)).cloned().collect()
    }

    /// When `shown` changes next without a new list.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.leaving.values().map(|(_, until)| *until).min()
    }
}

/// Until when what leaves now is shown; `None`: it is not.
#[must_use]
pub fn until(now: Timestamp, grace: Duration) -> Option<Timestamp> {
    (!grace.is_zero()).then(|| now.after(grace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_secs(seconds))
    }

    fn list(retiring: &mut Retiring<String>, names: &[&str], now: u64, grace: u64) {
        let fresh = names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect();
        retiring.list(fresh, until(at(now), Duration::from_secs(grace)), |name| format!("{name}, leaving"));
    }

    #[test]
    fn what_left_leaves_for_the_grace_period() {
        let mut retiring = Retiring::default();
        list(&mut retiring, &["a", "b"], 0, 5);
        list(&mut retiring, &["a"], 1, 5);
        assert_eq!(retiring.shown(at(2)), ["a", "b, leaving"]);
        assert_eq!(retiring.next(), Some(at(6)));
        assert_eq!(retiring.shown(at(6)), ["a"]);
        assert_eq!(retiring.next(), None);
    }

    #[test]
    fn what_comes_back_is_no_longer_leaving() {
        let mut retiring = Retiring::default();
        list(&mut retiring, &["a"], 0, 5);
        list(&mut retiring, &[], 1, 5);
        list(&mut retiring, &["a"], 2, 5);
        assert_eq!(retiring.shown(at(3)), ["a"]);
    }

    #[test]
    fn without_grace_it_is_gone_at_once() {
        let mut retiring = Retiring::default();
        list(&mut retiring, &["a"], 0, 0);
        list(&mut retiring, &[], 1, 0);
        assert_eq!(retiring.shown(at(1)), Vec::<String>::new());
    }
}
