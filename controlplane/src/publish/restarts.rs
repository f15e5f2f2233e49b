//! Whether what an endpoint held is gone, pure: its engine's process started anew, or it fell silent, after which nobody
//! knows what comes back at its address. An endpoint that drains, or was never ready, has lost nothing.

use std::collections::BTreeMap;

use shared::identity::EndpointId;

use crate::datastore::{EndpointView, Readiness};

/// What was last seen of each endpoint of a pool.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    seen: BTreeMap<EndpointId, Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    ready: bool,
    /// The bits of the last start time that it told.
    started: Option<u64>,
}

impl Restarts {
    /// True when, since it was last observed, the endpoint lost what it held.
    pub fn observe(&mut self, endpoint: &EndpointView) -> bool {
        let seen = self.seen.entry(endpoint.id).or_default();
        let before = *seen;
        seen.ready = match endpoint.readiness {
            Readiness::Ready => true,
            Readiness::Draining => before.ready,
            Readiness::Unhealthy(_) => false,
        };
        seen.started = endpoint.load.as_ref().and_then(|load| load.started).map(f64::to_bits).or(before.started);
        let restarted = before.started.is_some() && before.started != seen.started;
        restarted || (before.ready && !seen.ready)
    }

    /// The endpoint left the pool.
    pub fn forget(&mut self, endpoint: EndpointId) {
        self.seen.remove(&endpoint);
    }
}

#[cfg(test)]
mod tests {
    use shared::clock::Timestamp;

    use super::*;
    use crate::datastore::LoadSample;

    fn endpoint(readiness: Readiness, started: Option<f64>) -> EndpointView {
        let load = LoadSample {
            at: Timestamp::ZERO,
            running: 0,
            waiting: 0,
            kv_used: 0.0,
            block_tokens: None,
            blocks: None,
            adapters: None,
            attributes: BTreeMap::new(),
            started,
        };
        EndpointView {
            id: EndpointId(1),
            address: String::new(),
            labels: BTreeMap::new(),
            readiness,
            models: None,
            load: Some(load),
        }
    }

    fn sick() -> Readiness {
        Readiness::Unhealthy("refused".to_owned())
    }

    fn losses(seen: &[(Readiness, Option<f64>)]) -> Vec<bool> {
        let mut restarts = Restarts::default();
        seen.iter().map(|(readiness, started)| restarts.observe(&endpoint(readiness.clone(), *started))).collect()
    }

    #[test]
    fn an_endpoint_that_turns_unhealthy_loses_what_it_held_once() {
        let seen = [(sick(), None), (Readiness::Ready, None), (sick(), None), (sick(), None), (Readiness::Ready, None)];
        assert_eq!(losses(&seen), [false, false, true, false, false]);
    }

    #[test]
    fn draining_loses_nothing() {
        assert_eq!(
            losses(&[(Readiness::Ready, None), (Readiness::Draining, None), (Readiness::Ready, None)]),
            [false; 3]
        );
    }

    #[test]
    fn another_start_time_is_another_process() {
        let ready = |started| (Readiness::Ready, started);
        let seen = [ready(None), ready(Some(5.0)), ready(Some(5.0)), ready(None), ready(Some(6.0)), ready(Some(6.0))];
        assert_eq!(losses(&seen), [false, false, false, false, true, false]);
    }

    #[test]
    fn an_endpoint_that_left_and_came_back_starts_afresh() {
        let mut restarts = Restarts::default();
        restarts.observe(&endpoint(Readiness::Ready, Some(5.0)));
        restarts.forget(EndpointId(1));
        assert!(!restarts.observe(&endpoint(sick(), Some(6.0))));
    }
}
