//! This VM's place in the process's table log (`crate::log`): reading what the leader appended, or appending as leader.

use prost::Message;
use shared::brain::Brain;
use shared::clock::Timestamp;
use shared::table::sync::{Folded, Refused};
use shared::wire;

use crate::host::{self, HostError, Level};
use crate::log::{Head, key, open, seal};

const HEAD: &str = "kvasir/head";
const LIVE: &str = "kvasir/live";

/// Where this VM is in the log.
#[derive(Default)]
pub(crate) struct TableReader {
    next: u64,
    /// One past the newest segment when the log was last looked at.
    end: u64,
    live_cas: u32,
    /// As leader: where the snapshot under way began.
    snapshot_from: Option<u64>,
    refused: u64,
}

impl TableReader {
    /// Segments that this VM refused since this was last asked.
    pub(crate) fn take_refused(&mut self) -> u64 {
        core::mem::take(&mut self.refused)
    }

    /// Was there more in the log than one callback may take?
    pub(crate) const fn is_behind(&self) -> bool {
        self.next < self.end
    }

    /// Reads what is new, at most `limit` segments.
    pub(crate) fn catch_up(&mut self, brain: &mut Brain, limit: usize) {
        let Some(head) = head() else { return };
        brain.hear(head.heard);
        self.read_live(brain);
        if head.base == 0 {
            return;
        }
        if self.next < head.base || self.next > head.next {
            self.next = head.base;
        }
        self.end = head.next;
        for _ in 0..limit {
            if self.next >= head.next {
                return;
            }
            let Ok(Some((bytes, _))) = host::get_shared(&key(self.next)) else { return };
            let folded = match open(self.next, &bytes) {
                // The ring has gone round since the head was read: the newer base says where to go on.
                None => return self.next = 0,
                Some((received, segment)) => brain.fold(segment, received),
            };
            self.next += 1;
            if let Err(refused) = folded {
                self.refuse(&refused);
                // Something was missed: the newest snapshot puts it right, once there is one behind this place.
                if self.next <= head.base {
                    self.next = head.base;
                }
            }
        }
    }

    fn read_live(&mut self, brain: &mut Brain) {
        let Ok(Some((bytes, cas))) = host::get_shared(LIVE) else { return };
        if cas == self.live_cas {
            return;
        }
        self.live_cas = cas;
        let Some((received, live)) = bytes.split_first_chunk::<8>() else { return };
        let Ok(live) = wire::Live::decode(live) else { return };
        if brain.set_live(live, Timestamp::from_nanos(u64::from_le_bytes(*received))).is_err() {
            self.refused += 1;
        }
    }

    /// As leader: folds a segment in and, when it is good, appends it for the others.
    ///
    /// # Errors
    /// The brain's refusal.
    pub(crate) fn append(&mut self, brain: &mut Brain, segment: &[u8], now: Timestamp) -> Result<Appended, Refused> {
        let first_of_snapshot = wire_part(segment) == Some(1);
        let folded = brain.fold(segment, now).inspect_err(|refused| self.refuse(refused))?;
        if folded == Folded::Old {
            return Ok(Appended { in_force: false, long: false });
        }
        let mut head = head().unwrap_or_default();
        let sequence = head.next.max(1);
        if first_of_snapshot {
            self.snapshot_from = Some(sequence);
        }
        if let Folded::InForce(_) = folded
            && let Some(from) = self.snapshot_from.take()
        {
            head.base = from;
        }
        head.next = sequence + 1;
        head.heard = now;
        let stored = host::set_shared(&key(sequence), &seal(sequence, now, segment), 0);
        let stored = stored.and_then(|()| host::set_shared(HEAD, &head.encode(), 0));
        report_failure("append a table segment", stored);
        (self.next, self.end) = (head.next, head.next);
        Ok(Appended { in_force: matches!(folded, Folded::InForce(_)), long: head.is_long() })
    }

    /// As leader: takes what is live and passes it on.
    pub(crate) fn set_live(&mut self, brain: &mut Brain, live: &[u8], now: Timestamp) {
        let taken = wire::Live::decode(live).map(|live| brain.set_live(live, now).is_ok());
        if taken != Ok(true) {
            self.refused += 1;
            return;
        }
        let mut bytes = now.as_nanos().to_le_bytes().to_vec();
        bytes.extend_from_slice(live);
        let head = Head { heard: now, ..head().unwrap_or_default() };
        let stored = host::set_shared(LIVE, &bytes, 0).and_then(|()| host::set_shared(HEAD, &head.encode(), 0));
        report_failure("pass on live rows", stored);
    }

    fn refuse(&mut self, refused: &Refused) {
        self.refused += 1;
        host::log(
            Level::Warn,
            &format!("kvasir: table segment refused, the last good table stays in force: {refused}"),
        );
    }
}

/// What `append` did.
pub(crate) struct Appended {
    /// The table in force has changed.
    pub(crate) in_force: bool,
    /// The log wants a fresh snapshot.
    pub(crate) long: bool,
}

fn head() -> Option<Head> {
    host::get_shared(HEAD).ok().flatten().and_then(|(bytes, _)| Head::decode(&bytes))
}

/// The snapshot part of an encoded segment, read without decoding its rows.
fn wire_part(segment: &[u8]) -> Option<u32> {
    #[derive(Clone, PartialEq, Message)]
    struct Position {
        #[prost(uint32, tag = "3")]
        part: u32,
    }
    Position::decode(segment).ok().map(|position| position.part)
}

fn report_failure(what: &str, result: Result<(), HostError>) {
    if let Err(error) = result {
        host::log(Level::Error, &format!("kvasir: cannot {what}: {error}"));
    }
}
