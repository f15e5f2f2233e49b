//! How full a pool is, by the detector that its configuration names. Endpoints of stages of their own (label `llm-d.ai/role`)
//! count apart, and the fuller stage decides, as in llm-d.

use core::time::Duration;

use crate::brain::Brain;
use crate::clock::Timestamp;
use crate::table::flow::{Detector, Utilization};
use crate::table::live::{Scrape, Work};
use crate::table::{Endpoint, EndpointState};

const ROLE: &str = "llm-d.ai/role";

/// A mean over endpoints.
#[derive(Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1.0;
    }

    fn value(self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }
}

impl Brain {
    /// Saturation of the pool called `name`, 1 is full; `None`: it has no endpoint. Unhealthy ones count when there are no
    /// others: a wrong alarm must not stop traffic.
    pub(super) fn saturation(&self, name: &str, detector: &Detector, now: Timestamp) -> Option<f64> {
        let pool = self.pool(name)?;
        let any_ready = super::any_ready(pool);
        let stale = Duration::from_millis(u64::from(pool.settings.stale_after_ms));
        let (mut prefill, mut decode, mut all) = (Mean::default(), Mean::default(), Mean::default());
        for (endpoint, work, scraped) in self.sights(name, now) {
            let counts = match endpoint.state {
                EndpointState::Ready => true,
                EndpointState::Unhealthy => !any_ready,
                EndpointState::Draining => false,
            };
            if !counts {
                continue;
            }
            let fullness = fullness(detector, work, scraped, stale);
            let (prefills, decodes) = stages(endpoint);
            all.add(fullness);
            if prefills {
                prefill.add(fullness);
            }
            if decodes {
                decode.add(fullness);
            }
        }
        prefill.value().into_iter().chain(decode.value()).reduce(f64::max).or(all.value())
    }
}

/// Does it prefill, does it decode, by its role.
fn stages(endpoint: &Endpoint) -> (bool, bool) {
    match endpoint.labels.get(ROLE).map(String::as_str) {
        Some("prefill" | "encode-prefill") => (true, false),
        None | Some("decode" | "") => (false, true),
        Some("prefill-decode" | "both" | "encode-prefill-decode") => (true, true),
        Some(_) => (false, false),
    }
}

/// Of one endpoint.
fn fullness(detector: &Detector, work: Work, scraped: Option<(Scrape, Duration)>, stale: Duration) -> f64 {
    match detector {
        Detector::Utilization(utilization) => {
            let stale = utilization.stale_after.unwrap_or(stale);
            utilized(utilization, work, scraped.filter(|(_, age)| *age <= stale).map(|(scrape, _)| scrape))
        }
        Detector::Concurrency { requests, tokens } => {
            let share = |count: f64, limit: Option<f64>| limit.map_or(0.0, |limit| count / limit);
            let in_flight = f64::from(work.waiting) + f64::from(work.decoding);
            share(in_flight, *requests).max(share(super::attempt::to_f64(work.queued_tokens), *tokens))
        }
    }
}

/// Nobody scrapes an idle endpoint often: only one that has work is taken for full when its figures are old.
fn utilized(utilization: &Utilization, work: Work, fresh: Option<Scrape>) -> f64 {
    let Utilization { queue_depth, kv_share, stale_after } = *utilization;
    match fresh {
        Some(scrape) => (f64::from(scrape.waiting) / queue_depth).max(scrape.kv_used / kv_share),
        None if stale_after.is_none() => f64::from(work.waiting) / queue_depth,
        None if work.is_idle() => 0.0,
        None => 1.0,
    }
}
