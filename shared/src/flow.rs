//! The requests of one pool that wait in one worker: bands by priority, tenants within a band, an order within a tenant.
//! Pure bookkeeping: it knows nothing of endpoints, and what waits is the caller's. Nothing is lost: every ticket is
//! handed back once, by `take` or by `expired`.
//!
//! A tenant's service is counted in pod-seconds and lifted to the band's virtual time when it starts to wait, so that
//! nobody saves up idle time (start-time fair queueing, Goyal, Vin and Cheng, 1996).

pub mod ceiling;
pub mod gate;
mod lane;

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::table::flow::{Band, FlowControl, Limits};
use lane::Lane;

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Who asks, and with what right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Number of the band.
    pub band: usize,
    /// Who shares the band fairly with others.
    pub tenant: String,
}

/// One request that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting<T> {
    /// Its place.
    pub ticket: Ticket,
    /// Whose it is.
    pub claim: Claim,
    /// Since when it waits.
    pub arrived: Timestamp,
    /// When it has waited long enough.
    pub expires: Timestamp,
    /// When its first token should be there, if it names a service level of its own.
    pub deadline: Option<Timestamp>,
    /// Of its body.
    pub bytes: u64,
    /// The caller's.
    pub load: T,
}

/// Nothing more may wait; which limit says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Requests or bytes of the band.
    Band,
    /// Requests or bytes of all.
    Pool,
}

/// See the module.
#[derive(Debug)]
pub struct Queue<T> {
    lanes: Vec<Lane<T>>,
    claims: BTreeMap<Ticket, Claim>,
    bytes: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { lanes: Vec::new(), claims: BTreeMap::new(), bytes: 0 }
    }
}

impl<T> Queue<T> {
    /// Follows a changed configuration: requests of bands that are gone move to the last.
    pub fn align(&mut self, control: &FlowControl) {
        let bands = control.bands.len();
        let surplus = self.lanes.split_off(self.lanes.len().min(bands));
        self.lanes.resize_with(bands, Lane::default);
        let last = bands.saturating_sub(1);
        for mut waiting in surplus.into_iter().flat_map(Lane::into_waiting) {
            self.bytes = self.bytes.saturating_sub(waiting.bytes);
            waiting.claim.band = last;
            self.put(waiting, control);
        }
    }

    /// Takes a request in.
    ///
    /// # Errors
    /// `Full`; the request comes back.
    pub fn push(&mut self, waiting: Waiting<T>, control: &FlowControl) -> Result<(), (Full, Waiting<T>)> {
        let lane = self.lanes.get(waiting.claim.band);
        let band = control.bands.get(waiting.claim.band).map(|band| band.limits).unwrap_or_default();
        let (requests, bytes) = lane.map_or((0, 0), |lane| (lane.len(), lane.bytes()));
        if exceeds(band, requests, bytes, waiting.bytes) {
            return Err((Full::Band, waiting));
        }
        if exceeds(control.limits, self.len(), self.bytes, waiting.bytes) {
            return Err((Full::Pool, waiting));
        }
        self.put(waiting, control);
        Ok(())
    }

    fn put(&mut self, waiting: Waiting<T>, control: &FlowControl) {
        let Some(band) = control.bands.get(waiting.claim.band) else { return };
        let Some(lane) = self.lanes.get_mut(waiting.claim.band) else { return };
        self.bytes = self.bytes.saturating_add(waiting.bytes);
        self.claims.insert(waiting.ticket, waiting.claim.clone());
        lane.put(waiting, band);
    }

    /// Requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// Nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Bytes of the bodies of all.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Requests that wait in `band`.
    #[must_use]
    pub fn waiting_in(&self, band: usize) -> usize {
        self.lanes.get(band).map_or(0, Lane::len)
    }

    /// The highest band in which somebody waits.
    #[must_use]
    pub fn highest(&self) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.len() > 0)
    }

    /// A band below `top` in which somebody waits and that is owed work, but for those in `tried`.
    #[must_use]
    pub fn owed(&self, top: usize, tried: &[usize]) -> Option<usize> {
        let owed = |&(band, lane): &(usize, &Lane<T>)| lane.len() > 0 && lane.credit() > 0.0 && !tried.contains(&band);
        self.lanes.iter().enumerate().skip(top + 1).find(owed).map(|(band, _)| band)
    }

    /// The request that is `nth` in turn in `band`: of the tenant that is next, in its order.
    #[must_use]
    pub fn nth(&self, band: usize, nth: usize, control: &FlowControl, now: Timestamp) -> Option<&Waiting<T>> {
        self.lanes.get(band)?.nth(nth, control.bands.get(band)?, now)
    }

    /// Changes what the caller keeps with a request.
    pub fn change(&mut self, ticket: Ticket, edit: impl FnOnce(&mut T)) {
        let Some(claim) = self.claims.get(&ticket) else { return };
        if let Some(waiting) = self.lanes.get_mut(claim.band).and_then(|lane| lane.find_mut(ticket, &claim.tenant)) {
            edit(&mut waiting.load);
        }
    }

    /// Takes a request out, whatever the reason.
    pub fn take(&mut self, ticket: Ticket) -> Option<Waiting<T>> {
        let claim = self.claims.remove(&ticket)?;
        let waiting = self.lanes.get_mut(claim.band)?.take(ticket, &claim.tenant)?;
        self.bytes = self.bytes.saturating_sub(waiting.bytes);
        Some(waiting)
    }

    /// Takes out everybody whose time to wait is over by `now`.
    pub fn expired(&mut self, now: Timestamp) -> Vec<Waiting<T>> {
        let late: Vec<Ticket> = self.lanes.iter_mut().flat_map(|lane| lane.expired(now)).collect();
        late.into_iter().filter_map(|ticket| self.take(ticket)).collect()
    }

    /// Everybody's time to wait begins anew, and ends in each band when `expires` says.
    pub fn renew(&mut self, control: &FlowControl, expires: impl Fn(&Band) -> Timestamp) {
        for (lane, band) in self.lanes.iter_mut().zip(&control.bands) {
            lane.renew(band, expires(band));
        }
    }

    /// A request of `claim` was served with `cost` pod-seconds: its tenant is charged, bands that wait earn their share.
    pub fn charge(&mut self, claim: &Claim, cost: f64, control: &FlowControl, now: Timestamp) {
        for (lane, band) in self.lanes.iter_mut().zip(&control.bands) {
            lane.earn(band.min_share * cost);
        }
        if let (Some(lane), Some(band)) = (self.lanes.get_mut(claim.band), control.bands.get(claim.band)) {
            lane.charge(&claim.tenant, cost, band, now);
        }
    }

    /// It cost `difference` pod-seconds more than was charged, or less.
    pub fn correct(&mut self, claim: &Claim, difference: f64) {
        if let Some(lane) = self.lanes.get_mut(claim.band) {
            lane.correct(&claim.tenant, difference);
        }
    }
}

const fn exceeds(limits: Limits, requests: usize, bytes: u64, more: u64) -> bool {
    let many = match limits.requests {
        Some(most) => requests >= most,
        None => false,
    };
    let large = match limits.bytes {
        Some(most) => bytes.saturating_add(more) > most,
        None => false,
    };
    many || large
}

#[cfg(test)]
mod tests;
