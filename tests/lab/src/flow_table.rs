//! Runs of the flow study and their figures as tables for people: one row a workload and load, several seeds averaged.

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::callers::Callers;
use crate::holding::Holding;
use crate::outcome::{Outcome, SLO_TPOT};
use crate::scenario::Scenario;
use crate::workload::Kind;
use crate::world::{RunError, run};

/// Workloads of the flow study and the loads that it calls 1.0: where attainment begins to break without holding.
pub const WORKLOADS: [(Kind, f64); 8] = [
    (Kind::Tenants, 76.0),
    (Kind::Shared, 15.5),
    (Kind::Rag, 5.3),
    (Kind::Mix, 11.0),
    (Kind::Pressure, 16.0),
    (Kind::NoisyRate, 100.0),
    (Kind::NoisyLength, 33.0),
    // Above it, what its sessions say does not fit into the caches.
    (Kind::Agents, 2.3),
];

/// One point: what is asked and what holds it, for each seed.
#[derive(Clone, Debug)]
pub struct Point {
    /// Times the workload's usual load.
    pub load: f64,
    /// What holds requests.
    pub holding: Holding,
    /// With any seed.
    pub scenario: Scenario,
}

/// A point and how its runs went.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub point: Point,
    /// The figures, by seed.
    pub figures: Vec<Figures>,
}

/// What is told of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Of everything offered.
    pub ok: f64,
    /// A second.
    pub goodput: f64,
    /// Of what was served: seconds.
    pub ttft_p95: f64,
    /// Seconds.
    pub tpot_p95: f64,
    /// Of what was served.
    pub hit_ratio: f64,
    /// Shares of what was offered: refused ...
    pub refused: f64,
    /// ... served, with the first token too late ...
    pub late: f64,
    /// ... or the others too slow.
    pub slow: f64,
    /// By band.
    pub bands: [f64; 3],
    /// Seconds.
    pub batch_gap: f64,
    /// `ok` of victims and of the noisy tenant.
    pub tenants: (f64, f64),
    /// See `Outcome::jain`.
    pub jain: f64,
    /// What the control plane published in the end; 0: nothing.
    pub margin: f64,
    /// Turns of sessions that had begun, refused.
    pub cut_off: f64,
    /// Thrown out by engines.
    pub preemptions: f64,
    /// Anything that should not be left.
    pub leftovers: bool,
}

impl Figures {
    /// Of one run.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        let offered = outcome.offered().count().max(1) as f64;
        Self {
            ok: outcome.ok(),
            goodput: outcome.goodput(),
            ttft_p95: outcome.ttft(0.95),
            tpot_p95: outcome.tpot(0.95),
            hit_ratio: outcome.hit_ratio(),
            refused: 1.0 - outcome.judged().count() as f64 / offered,
            late: outcome.judged().filter(|r| r.ttft().is_none_or(|t| t > r.caller.slo_ttft())).count() as f64
                / offered,
            slow: outcome.judged().filter(|r| r.tpot().is_some_and(|t| t > SLO_TPOT)).count() as f64 / offered,
            bands: [0, 1, 2].map(|band| outcome.ok_of_band(band)),
            batch_gap: outcome.longest_batch_gap(),
            tenants: outcome.ok_of_victims_and_noisy(),
            jain: outcome.jain(),
            margin: outcome.margin,
            cut_off: outcome.cut_off() as f64,
            preemptions: outcome.preemptions as f64,
            leftovers: outcome.leftovers != crate::outcome::Leftovers::default(),
        }
    }
}

/// Runs every point with every seed, on two threads.
///
/// # Errors
/// When a scenario makes no sense.
pub fn measure(points: Vec<Point>, seeds: u64) -> Result<Vec<Row>, RunError> {
    let jobs: Vec<Scenario> = points
        .iter()
        .flat_map(|point| (0..seeds).map(|seed| Scenario { seed: 501 + seed, ..point.scenario.clone() }))
        .collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((at, job)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, jobs.get(at)?)))
                {
                    let result = run(job).map(|outcome| Figures::of(&outcome));
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    let mut figures = done.into_iter().map(|(_, figures)| figures).collect::<Result<Vec<_>, _>>()?.into_iter();
    let each = usize::try_from(seeds).unwrap_or(1);
    Ok(points.into_iter().map(|point| Row { point, figures: figures.by_ref().take(each).collect() }).collect())
}

/// The table as Markdown, with the mean of `ok` over the workloads below it.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| workload, load | hold | ok | goodput/s | TTFT p95 s | TPOT p95 ms | refused, late, slow | hit | bands ok | batch gap s | \
         victims / noisy | Jain | margin | preempted | cut off | left |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let mean = |figure: &dyn Fn(&Figures) -> f64| mean(row, figure);
        let bands = [0, 1, 2].map(|band: usize| format!("{:.3}", mean(&|f| f.bands.get(band).copied().unwrap_or(0.0))));
        let callers = row.point.scenario.callers;
        let dash = |shown: bool, text: String| if shown { text } else { "-".to_owned() };
        let written = writeln!(
            text,
            "| {} {}x | {} | {:.3} | {:.2} | {:.2} | {:.1} | {:.3} {:.3} {:.3} | {:.3} | {} | {} | {} | {} | {:.3} | {:.0} | {:.0} | {} |",
            row.point.scenario.workload.name(),
            row.point.load,
            row.point.holding.name(),
            mean(&|f| f.ok),
            mean(&|f| f.goodput),
            mean(&|f| f.ttft_p95),
            mean(&|f| f.tpot_p95 * 1e3),
            mean(&|f| f.refused),
            mean(&|f| f.late),
            mean(&|f| f.slow),
            mean(&|f| f.hit_ratio),
            dash(callers == Callers::Bands, bands.join(" ")),
            dash(callers == Callers::Bands, format!("{:.1}", mean(&|f| f.batch_gap))),
            dash(callers == Callers::Tenants, format!("{:.3} / {:.3}", mean(&|f| f.tenants.0), mean(&|f| f.tenants.1))),
            dash(callers == Callers::Tenants, format!("{:.3}", mean(&|f| f.jain))),
            mean(&|f| f.margin),
            mean(&|f| f.preemptions),
            mean(&|f| f.cut_off),
            if row.figures.iter().any(|figures| figures.leftovers) { "SOMETHING" } else { "-" },
        );
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    text + &means(rows)
}

fn mean(row: &Row, figure: &dyn Fn(&Figures) -> f64) -> f64 {
    row.figures.iter().map(figure).sum::<f64>() / row.figures.len().max(1) as f64
}

fn means(rows: &[Row]) -> String {
    let mut points: Vec<(f64, Holding)> = Vec::new();
    for row in rows {
        let point = (row.point.load, row.point.holding);
        if !points.contains(&point) {
            points.push(point);
        }
    }
    let mut text = String::from("\n| load | hold | mean ok |\n|---|---|---|\n");
    for (load, holding) in points {
        let same = |row: &&Row| row.point.holding == holding && row.point.load.total_cmp(&load).is_eq();
        let of: Vec<f64> = rows.iter().filter(same).map(|row| mean(row, &|f| f.ok)).collect();
        let mean = of.iter().sum::<f64>() / of.len().max(1) as f64;
        let written = writeln!(text, "| {load}x | {} | {mean:.3} |", holding.name());
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    text
}
