//! Figures over rounds: what a variant takes, what it adds to plain Envoy, and how the additions compare.
//! Additions are taken within a round, then the median over rounds: a drift of the machine cancels out.

use super::{Round, Sample, Shape, Variant};
use crate::estimate::{Estimate, bootstrap, median};

/// One number of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    P50,
    P90,
    P99,
    Rps,
    /// CPU of Envoy per unit.
    EnvoyCpu,
    ExtProcCpu,
    ControlPlaneCpu,
    /// CPU of all processes that serve the unit, the backend left out.
    TotalCpu,
    ChunksPerEvent,
}

impl Metric {
    fn of(self, sample: &Sample) -> f64 {
        match self {
            Metric::P50 => sample.latency.p50,
            Metric::P90 => sample.latency.p90,
            Metric::P99 => sample.latency.p99,
            Metric::Rps => sample.latency.rps,
            Metric::EnvoyCpu => sample.envoy_cpu,
            Metric::ExtProcCpu => sample.ext_proc_cpu,
            Metric::ControlPlaneCpu => sample.control_plane_cpu,
            Metric::TotalCpu => sample.envoy_cpu + sample.ext_proc_cpu + sample.control_plane_cpu,
            Metric::ChunksPerEvent => sample.chunks_per_event.unwrap_or(f64::NAN),
        }
    }
}

/// All rounds of a run, ready for questions. Every answer is `None` when a cell it needs was not measured.
#[derive(Debug)]
pub(crate) struct Figures<'a> {
    rounds: Vec<&'a Round>,
}

impl<'a> Figures<'a> {
    pub(crate) fn new(rounds: &'a [Round]) -> Figures<'a> {
        Figures { rounds: rounds.iter().collect() }
    }

    /// The shapes that were measured, in order.
    pub(crate) fn shapes(&self) -> Vec<Shape> {
        let mut shapes: Vec<Shape> =
            self.rounds.iter().flat_map(|round| round.keys().map(|(shape, _)| *shape)).collect();
        shapes.sort();
        shapes.dedup();
        shapes
    }

    /// The variants that were measured, in order.
    pub(crate) fn variants(&self) -> Vec<Variant> {
        let mut variants: Vec<Variant> =
            self.rounds.iter().flat_map(|round| round.keys().map(|(_, variant)| *variant)).collect();
        variants.sort();
        variants.dedup();
        variants
    }

    /// The median over rounds.
    pub(crate) fn median(&self, shape: Shape, variant: Variant, metric: Metric) -> Option<Estimate> {
        bootstrap(&self.rounds, |rounds| {
            median(rounds.iter().filter_map(|round| round.get(&(shape, variant)).map(|sample| metric.of(sample))))
        })
    }

    /// What the variant takes more than plain Envoy.
    pub(crate) fn added(&self, shape: Shape, variant: Variant, metric: Metric) -> Option<Estimate> {
        bootstrap(&self.rounds, |rounds| added(rounds, shape, variant, metric))
    }

    /// What the variant adds (`of.0`) over what the no-op external processor adds (`of.1`).
    pub(crate) fn added_over_ext_proc(&self, shape: Shape, variant: Variant, of: (Metric, Metric)) -> Option<Estimate> {
        bootstrap(&self.rounds, |rounds| {
            added(rounds, shape, variant, of.0) / added(rounds, shape, Variant::ExtProc, of.1)
        })
    }

    /// The variant over plain Envoy.
    pub(crate) fn ratio(&self, shape: Shape, variant: Variant, metric: Metric) -> Option<Estimate> {
        bootstrap(&self.rounds, |rounds| {
            median(paired(rounds, shape, variant).map(|(plain, with)| metric.of(with) / metric.of(plain)))
        })
    }
}

fn added(rounds: &[&Round], shape: Shape, variant: Variant, metric: Metric) -> f64 {
    median(paired(rounds, shape, variant).map(|(plain, with)| metric.of(with) - metric.of(plain)))
}

/// Plain Envoy and the variant, round by round.
fn paired<'a>(rounds: &[&'a Round], shape: Shape, variant: Variant) -> impl Iterator<Item = (&'a Sample, &'a Sample)> {
    rounds.iter().filter_map(move |round| Some((round.get(&(shape, Variant::Plain))?, round.get(&(shape, variant))?)))
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::load::Summary;

    /// A sample whose p50 and Envoy CPU are given; the server's CPU is half of Envoy's where there is a server.
    pub(crate) fn sample(p50: f64, envoy_cpu: f64, ext_proc_cpu: f64) -> Sample {
        let latency = Summary { requests: 1000.0, rps: 1e6 / p50, p50, p90: p50 * 1.2, p99: p50 * 1.5 };
        Sample { latency, envoy_cpu, ext_proc_cpu, control_plane_cpu: 0.0, chunks_per_event: None }
    }

    /// Rounds like those measured on a prototype, each shifted by a drift that all variants share.
    pub(crate) fn rounds(shape: Shape, drifts: &[f64]) -> Vec<Round> {
        let round = |drift: &f64| {
            Round::from([
                ((shape, Variant::Plain), sample(150.0 + drift, 32.0, 0.0)),
                ((shape, Variant::Filter), sample(176.0 + drift, 43.0, 0.0)),
                ((shape, Variant::ExtProc), sample(434.0 + drift, 94.0, 34.0)),
            ])
        };
        drifts.iter().map(round).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::rounds;
    use super::*;

    const SHAPE: Shape = Shape::Whole { body_bytes: 4096, concurrency: 1 };
    const DRIFTS: [f64; 5] = [0.0, 400.0, -20.0, 35.0, 90.0];

    fn value(estimate: Option<Estimate>) -> f64 {
        estimate.expect("an estimate").value
    }

    #[test]
    fn a_drift_that_hits_all_variants_does_not_change_what_is_added() {
        let rounds = rounds(SHAPE, &DRIFTS);
        let figures = Figures::new(&rounds);
        let added = figures.added(SHAPE, Variant::Filter, Metric::P50).expect("an estimate");
        assert_eq!(added, Estimate { value: 26.0, low: 26.0, high: 26.0 });
        let ratio = value(figures.added_over_ext_proc(SHAPE, Variant::Filter, (Metric::P50, Metric::P50)));
        assert!((ratio - 26.0 / 284.0).abs() < 1e-9, "{ratio}");
    }

    #[test]
    fn the_external_processors_own_cpu_counts_in_the_total() {
        let rounds = rounds(SHAPE, &DRIFTS);
        let figures = Figures::new(&rounds);
        let envoy_only =
            value(figures.added_over_ext_proc(SHAPE, Variant::Filter, (Metric::EnvoyCpu, Metric::EnvoyCpu)));
        let total = value(figures.added_over_ext_proc(SHAPE, Variant::Filter, (Metric::TotalCpu, Metric::TotalCpu)));
        assert!((envoy_only - 11.0 / 62.0).abs() < 1e-9 && (total - 11.0 / 96.0).abs() < 1e-9, "{envoy_only} {total}");
        assert!((value(figures.ratio(SHAPE, Variant::Filter, Metric::EnvoyCpu)) - 43.0 / 32.0).abs() < 1e-9);
    }

    #[test]
    fn a_cell_that_was_not_measured_has_no_figure() {
        let mut rounds = rounds(SHAPE, &DRIFTS);
        for round in &mut rounds {
            round.remove(&(SHAPE, Variant::Filter));
        }
        let figures = Figures::new(&rounds);
        assert_eq!(figures.added(SHAPE, Variant::Filter, Metric::P50), None);
        assert_eq!(figures.added_over_ext_proc(SHAPE, Variant::Filter, (Metric::P50, Metric::P50)), None);
        assert_eq!(figures.variants(), [Variant::Plain, Variant::ExtProc]);
        assert!(figures.added(SHAPE, Variant::ExtProc, Metric::P50).is_some());
    }
}
