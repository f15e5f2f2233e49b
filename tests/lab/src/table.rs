//! Outcomes as a table for people, one row a run.

use std::fmt::Write;

use crate::outcome::Outcome;

/// A row's names and what they got; several seeds are averaged.
#[derive(Clone, Debug)]
pub struct Row {
    /// Workload and load.
    pub workload: String,
    /// Who chose.
    pub policy: &'static str,
    /// One per seed.
    pub outcomes: Vec<Outcome>,
}

/// The table as Markdown.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| workload @ req/s | policy | TTFT p50 s | TTFT p95 s | TPOT p95 ms | SLO % | hit | hit bound | max/mean | \
         cache error |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let mean = |figure: &dyn Fn(&Outcome) -> f64| {
            row.outcomes.iter().map(figure).sum::<f64>() / row.outcomes.len().max(1) as f64
        };
        let written = writeln!(
            text,
            "| {} | {} | {:.3} | {:.3} | {:.1} | {:.1} | {:.3} | {:.3} | {:.2} | {:.3} |",
            row.workload,
            row.policy,
            mean(&|o| o.ttft(0.5)),
            mean(&|o| o.ttft(0.95)),
            mean(&|o| o.tpot(0.95) * 1e3),
            mean(&|o| o.attainment() * 1e2),
            mean(&Outcome::hit_ratio),
            mean(&Outcome::hit_bound),
            mean(&Outcome::imbalance),
            mean(&Outcome::prediction_error),
        );
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    text
}
