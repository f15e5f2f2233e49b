//! Who leads among replicas, pure: the election of Kubernetes' own controllers, over a Lease. A replica may take the
//! Lease when its holder gave it up, or has not touched it for the Lease's duration as this replica's own clock counts:
//! times in the object are for people. A leader stops to lead, by its own clock, before anybody else may begin.

pub mod drive;

use std::time::Duration;

use shared::clock::Timestamp;

use crate::config::kubernetes::LeaderElection;

/// What a Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; `None`: nobody.
    pub holder: Option<String>,
    /// How long it is valid without being touched.
    pub duration: Duration,
    /// How often its holder changed.
    pub transitions: i32,
    /// Changes with every write.
    pub version: String,
}

/// What to do about the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: make it, ours.
    Create,
    /// Write it, ours, unless it has changed since.
    Write {
        /// How often its holder changed, with this.
        transitions: i32,
    },
    /// It is somebody else's.
    Wait,
}

/// One replica's part in the election.
#[derive(Debug)]
pub struct Election {
    identity: String,
    settings: LeaderElection,
    /// The Lease as last seen, and when it was first seen so.
    seen: Option<(Record, Timestamp)>,
    /// When the last write of ours that succeeded began.
    renewed: Option<Timestamp>,
}

impl Election {
    /// Nothing is known yet. No two replicas may have the same identity.
    #[must_use]
    pub const fn new(identity: String, settings: LeaderElection) -> Self {
        Self { identity, settings, seen: None, renewed: None }
    }

    /// The Lease says this now; `None`: there is none.
    pub fn see(&mut self, record: Option<Record>, now: Timestamp) {
        if record.as_ref().and_then(|record| record.holder.as_ref()) != Some(&self.identity) {
            self.renewed = None;
        }
        let Some(record) = record else {
            self.seen = None;
            return;
        };
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != record) {
            self.seen = Some((record, now));
        }
    }

    /// What to do now.
    #[must_use]
    pub fn step(&self, now: Timestamp) -> Step {
        let Some((record, since)) = &self.seen else { return Step::Create };
        match &record.holder {
            Some(holder) if *holder == self.identity => Step::Write { transitions: record.transitions },
            Some(_) if now.since(*since) < record.duration => Step::Wait,
            Some(_) | None => Step::Write { transitions: record.transitions.saturating_add(1) },
        }
    }

    /// A write that made the Lease ours, or kept it so, succeeded; it began at `began`.
    pub fn wrote(&mut self, record: Record, began: Timestamp) {
        self.seen = Some((record, began));
        self.renewed = Some(began);
    }

    /// May this replica act as the leader now?
    #[must_use]
    pub fn leads(&self, now: Timestamp) -> bool {
        self.ends().is_some_and(|end| now < end)
    }

    /// Until when it leads if nothing more succeeds.
    #[must_use]
    pub fn ends(&self) -> Option<Timestamp> {
        Some(self.renewed?.after(self.settings.renew_deadline))
    }

    /// Who holds the Lease, as last seen.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref()?.0.holder.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DURATION: Duration = Duration::from_secs(15);

    fn election(identity: &str) -> Election {
        let settings = LeaderElection {
            lease: "kvasir".to_owned(),
            lease_duration: DURATION,
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        };
        Election::new(identity.to_owned(), settings)
    }

    fn held(holder: Option<&str>, version: u32) -> Record {
        let holder = holder.map(str::to_owned);
        Record { holder, duration: DURATION, transitions: 3, version: version.to_string() }
    }

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_millis(milliseconds))
    }

    #[test]
    fn the_first_makes_the_lease_and_leads_until_it_cannot_renew() {
        let mut a = election("a");
        assert_eq!(a.step(at(0)), Step::Create);
        a.wrote(held(Some("a"), 1), at(0));
        assert!(a.leads(at(9_999)) && !a.leads(at(10_000)));
        assert_eq!(a.step(at(2_000)), Step::Write { transitions: 3 });
        a.wrote(held(Some("a"), 2), at(2_000));
        assert!(a.leads(at(11_999)));
    }

    #[test]
    fn another_waits_for_as_long_as_it_sees_the_lease_untouched() {
        let mut b = election("b");
        b.see(Some(held(Some("a"), 1)), at(0));
        assert_eq!(b.step(at(14_999)), Step::Wait);
        b.see(Some(held(Some("a"), 2)), at(14_999));
        assert_eq!(b.step(at(29_998)), Step::Wait);
        b.see(Some(held(Some("a"), 2)), at(29_999));
        assert_eq!(b.step(at(29_999)), Step::Write { transitions: 4 });
    }

    #[test]
    fn a_lease_that_was_given_up_is_taken_at_once() {
        let mut b = election("b");
        b.see(Some(held(None, 1)), at(0));
        assert_eq!(b.step(at(0)), Step::Write { transitions: 4 });
    }

    #[test]
    fn who_sees_another_holder_no_longer_leads() {
        let mut a = election("a");
        a.wrote(held(Some("a"), 1), at(0));
        a.see(Some(held(Some("b"), 2)), at(1));
        assert!(!a.leads(at(1)));
        assert_eq!((a.step(at(1)), a.holder()), (Step::Wait, Some("b")));
    }

    /// What happens to two replicas, one millisecond after the other.
    #[derive(Clone, Debug)]
    enum Event {
        /// A replica looks and, if it may, writes; the write takes this long, and may fail.
        Try { second: bool, takes: u64, works: bool },
        /// Time passes.
        Pass(u64),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let attempt = (any::<bool>(), 0_u64..3_000, proptest::bool::weighted(0.7))
            .prop_map(|(second, takes, works)| Event::Try { second, takes, works });
        let pass = (1_u64..6_000).prop_map(Event::Pass);
        proptest::collection::vec(prop_oneof![attempt, pass], 1..200)
    }

    proptest! {
        #[test]
        fn two_never_lead_at_once(events in events()) {
            let mut replicas = [election("a"), election("b")];
            let mut lease: Option<Record> = None;
            let (mut now, mut version) = (0, 0);
            for event in events {
                match event {
                    Event::Pass(time) => now += time,
                    Event::Try { second, takes, works } => {
                        let me = &mut replicas[usize::from(second)];
                        let began = at(now);
                        me.see(lease.clone(), began);
                        let step = me.step(began);
                        // What is read may be old by the time of the write: the server refuses it then, here it is not.
                        now += takes;
                        if step != Step::Wait && works {
                            version += 1;
                            let record = held(Some(if second { "b" } else { "a" }), version);
                            lease = Some(record.clone());
                            me.wrote(record, began);
                        }
                    }
                }
                prop_assert!(!(replicas[0].leads(at(now)) && replicas[1].leads(at(now))));
            }
        }
    }
}
