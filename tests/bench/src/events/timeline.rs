//! Who knew what when: markers, the versions that brought them, and what workers said they decided on. Pure.
//!
//! A worker acts on a version at the latest when an answer that names it, or a newer one, has arrived: what is reported is an
//! upper bound, too high by up to one probe.

use crate::estimate::percentile;
use serde::Serialize;
use std::time::Duration;

/// A marker block's way; times since the run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// Handed to the publisher's socket.
    pub(crate) published: Duration,
    /// Folded by the bench's own gateway.
    pub(crate) received: Duration,
    /// The version that brought it.
    pub(crate) version: u64,
}

/// An answer of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    /// When it had arrived.
    pub(crate) answered: Duration,
    /// The version it was decided on.
    pub(crate) version: u64,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// From publication to each point, over all markers that got there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Delays {
    pub(crate) markers: usize,
    /// Of these, how many some worker never acted on.
    pub(crate) unseen: usize,
    /// To the bench's own gateway.
    pub(crate) gateway: Option<Spread>,
    /// To the first worker that acts on it.
    pub(crate) first_worker: Option<Spread>,
    /// To the last.
    pub(crate) every_worker: Option<Spread>,
    /// Between two answers of a worker: what the figures may be too high by.
    pub(crate) probe: Option<Spread>,
}

/// The delays of `sightings`, with the answers of each worker in order.
pub(crate) fn delays(sightings: &[Sighting], workers: &[Vec<Probe>]) -> Delays {
    let (mut first, mut last, mut unseen) = (Vec::new(), Vec::new(), 0);
    for sighting in sightings {
        let seen: Option<Vec<Duration>> = workers.iter().map(|probes| seen(probes, sighting.version)).collect();
        let delays = seen.unwrap_or_default();
        match (delays.iter().min(), delays.iter().max()) {
            (Some(earliest), Some(latest)) => {
                first.push(earliest.saturating_sub(sighting.published));
                last.push(latest.saturating_sub(sighting.published));
            }
            _ => unseen += 1,
        }
    }
    let gateway = sightings.iter().map(|sighting| sighting.received.saturating_sub(sighting.published));
    let pauses = workers.iter().flat_map(|probes| {
        let later = probes.iter().skip(1);
        probes.iter().zip(later).map(|(before, after)| after.answered.saturating_sub(before.answered))
    });
    Delays {
        markers: sightings.len(),
        unseen,
        gateway: spread(gateway),
        first_worker: spread(first),
        every_worker: spread(last),
        probe: spread(pauses),
    }
}

fn seen(probes: &[Probe], version: u64) -> Option<Duration> {
    // Versions only grow, so the first answer that names a late enough one is found by bisection.
    probes.get(probes.partition_point(|probe| probe.version < version)).map(|probe| probe.answered)
}

fn spread(delays: impl IntoIterator<Item = Duration>) -> Option<Spread> {
    let mut sorted: Vec<f64> = delays.into_iter().map(|delay| delay.as_secs_f64() * 1e3).collect();
    sorted.sort_by(f64::total_cmp);
    let max = *sorted.last()?;
    Some(Spread { p50: percentile(&sorted, 0.5), p99: percentile(&sorted, 0.99), max })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn probes(answers: &[(u64, u64)]) -> Vec<Probe> {
        answers.iter().map(|&(at, version)| Probe { answered: ms(at), version }).collect()
    }

    #[test]
    fn a_marker_has_arrived_when_the_slowest_worker_decides_on_its_version() {
        let sighting = Sighting { published: ms(100), received: ms(108), version: 7 };
        let workers = [probes(&[(101, 5), (109, 7), (110, 8)]), probes(&[(105, 6), (115, 9)])];
        let delays = delays(&[sighting], &workers);
        let of = |spread: Option<Spread>| spread.map(|spread| spread.max.round());
        assert_eq!(
            (of(delays.gateway), of(delays.first_worker), of(delays.every_worker)),
            (Some(8.0), Some(9.0), Some(15.0))
        );
        assert_eq!((delays.markers, delays.unseen), (1, 0));
    }

    #[test]
    fn a_marker_that_a_worker_never_decided_on_is_unseen_and_in_no_figure() {
        let sighting = Sighting { published: ms(1), received: ms(2), version: 7 };
        let delays = delays(&[sighting], &[probes(&[(3, 7)]), probes(&[(3, 6)])]);
        assert_eq!((delays.unseen, delays.every_worker), (1, None));
    }
}
