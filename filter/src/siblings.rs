//! The other VMs of the process: finding them, waking them, and seeing what they have in flight. Each VM writes its own
//! bookings whole and reads the others' before it decides.

use core::time::Duration;

use shared::clock::Timestamp;
use shared::ledger::{Ledger, VmVector};

use crate::host::{self, CAS_MISMATCH};
use crate::registry::{LIFETIME, Member, decode, encode, renewed};

const REGISTRY: &str = "kvasir/vms";
const NEXT_ID: &str = "kvasir/next-vm";
/// Attempts of a compare-and-swap before it is left to the next tick.
const ATTEMPTS: usize = 20;
const RENEWAL: Duration = Duration::from_secs(1);
/// Bookings of the siblings are re-read when they are older than this: two reads within one burst see the same.
const FRESH: Duration = Duration::from_micros(500);

/// This VM among its siblings.
#[derive(Default)]
pub(crate) struct Siblings {
    me: Option<Member>,
    members: Vec<Member>,
    refreshed: Timestamp,
    published_idle: bool,
    /// When a sibling last had work: the only worker need not tell anybody more often than its ticks.
    company: Option<Timestamp>,
}

impl Siblings {
    /// Registers the VM; again after a configuration update moves its queue to the new root context.
    pub(crate) fn join(&mut self, now: Timestamp) {
        let Some(id) = self.me.map(|me| me.id).or_else(next_id) else { return };
        let Ok(queue) = host::register_queue(&format!("kvasir/vm/{id}")) else { return };
        self.me = Some(Member { id, queue, stamp: Timestamp::ZERO });
        self.renew(now);
    }

    /// This VM's number in the process; `None` before `join`.
    pub(crate) fn id(&self) -> Option<u64> {
        self.me.map(|me| me.id)
    }

    /// Shows, once a second, that this VM lives.
    pub(crate) fn renew(&mut self, now: Timestamp) {
        let Some(me) = self.me.filter(|me| now.since(me.stamp) >= RENEWAL) else { return };
        let me = Member { stamp: now, ..me };
        for _ in 0..ATTEMPTS {
            let (bytes, cas) = host::get_shared(REGISTRY).ok().flatten().unwrap_or_default();
            let members = renewed(&decode(&bytes), me);
            match host::set_shared(REGISTRY, &encode(&members), cas) {
                Err(CAS_MISMATCH) => {}
                Ok(()) | Err(_) => {
                    self.me = Some(me);
                    self.members = members;
                    return;
                }
            }
        }
    }

    /// Wakes every other VM.
    pub(crate) fn wake(&self) {
        for member in self.others() {
            // A queue that is gone belongs to a VM that is gone.
            let _gone = host::enqueue(member.queue, &[crate::uplink::WAKE]);
        }
    }

    /// The queue of VM `id`.
    pub(crate) fn queue_of(&self, id: u64) -> Option<u32> {
        self.members.iter().find(|member| member.id == id).map(|member| member.queue)
    }

    /// Do siblings decide too, so that every booking matters to somebody at once?
    pub(crate) fn in_company(&self, now: Timestamp) -> bool {
        self.company.is_some_and(|seen| now.since(seen) < LIFETIME)
    }

    /// VMs of the process that are known to live and get requests: all but the one in Envoy's main thread.
    pub(crate) fn workers(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX).saturating_sub(1).max(1)
    }

    /// Writes this VM's bookings for the others.
    pub(crate) fn publish(&mut self, ledger: &Ledger, now: Timestamp) {
        let Some(me) = self.me else { return };
        let idle = ledger.in_flight() == 0;
        if idle && self.published_idle {
            return;
        }
        self.published_idle = idle;
        // Without it the siblings see older figures: not worth a message per request.
        let _unpublished = host::set_shared(&work_key(me.id), &ledger.own_vector(now), 0);
    }

    /// Reads the others' bookings, unless that was just done.
    pub(crate) fn refresh(&mut self, ledger: &mut Ledger, now: Timestamp) {
        if now.since(self.refreshed) < FRESH {
            return;
        }
        self.refreshed = now;
        let vectors: Vec<VmVector> = self
            .others()
            .filter_map(|member| {
                let (bytes, _) = host::get_shared(&work_key(member.id)).ok()??;
                VmVector::decode(&bytes).ok().filter(|vector| now.since(vector.stamp) < LIFETIME)
            })
            .filter(|vector| !vector.rows.is_empty())
            .collect();
        if !vectors.is_empty() {
            self.company = Some(now);
        }
        ledger.set_siblings(&vectors);
    }

    fn others(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| Some(member.id) != self.id())
    }
}

fn work_key(id: u64) -> String {
    format!("kvasir/work/{id}")
}

fn next_id() -> Option<u64> {
    for _ in 0..ATTEMPTS {
        let (bytes, cas) = host::get_shared(NEXT_ID).ok()?.unwrap_or_default();
        let id = bytes.first_chunk::<8>().map_or(1, |bytes| u64::from_le_bytes(*bytes));
        if host::set_shared(NEXT_ID, &(id + 1).to_le_bytes(), cas).is_ok() {
            return Some(id);
        }
    }
    None
}
