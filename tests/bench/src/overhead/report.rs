//! What a run says: tables for people, figures for programs.

use super::bars::{Bar, judge};
use super::figures::{Figures, Metric};
use super::{Round, Shape, Variant};
use crate::estimate::Estimate;
use crate::table::Table;
use serde::Serialize;
use serde_json::{Value, json};

/// Under which circumstances the figures were taken.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Setting {
    pub(crate) command: String,
    pub(crate) envoy: String,
    pub(crate) placement: String,
    pub(crate) workers: u16,
    pub(crate) rounds: usize,
    pub(crate) cell_seconds: f64,
}

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    figures: Figures<'a>,
    bars: Vec<Bar>,
    setting: Setting,
}

impl<'a> Report<'a> {
    pub(crate) fn new(rounds: &'a [Round], setting: Setting) -> Report<'a> {
        let figures = Figures::new(rounds);
        let bars = judge(&figures);
        Report { figures, bars, setting }
    }

    /// The report for people.
    pub(crate) fn text(&self) -> String {
        let Setting { envoy, placement, workers, rounds, cell_seconds, .. } = &self.setting;
        let mut out = format!(
            "Envoy {envoy}, {workers} worker(s); {placement}\n\
             {rounds} interleaved rounds of {cell_seconds} s a cell; medians over rounds, [95 % bootstrap interval]\n"
        );
        let (streamed, whole): (Vec<Shape>, Vec<Shape>) =
            self.figures.shapes().into_iter().partition(|shape| matches!(shape, Shape::Streamed { .. }));
        if !whole.is_empty() {
            out.push_str("\nWhole answers: latency and CPU per request, in us\n");
            out.push_str(&self.whole_table(&whole).render(2));
        }
        if !streamed.is_empty() {
            out.push_str("\nStreamed answers: CPU per event, in us\n");
            out.push_str(&self.streamed_table(&streamed).render(2));
        }
        if self.figures.variants().len() == 3 {
            out.push_str("\nWhat the filter adds, over what ext_proc adds\n");
            out.push_str(&self.ratio_table().render(1));
        }
        out.push('\n');
        out.push_str(&self.bar_lines());
        out
    }

    fn rows(&self, shapes: &[Shape]) -> Vec<(Shape, Variant)> {
        let variants = self.figures.variants();
        shapes.iter().flat_map(|shape| variants.iter().map(|variant| (*shape, *variant))).collect()
    }

    fn whole_table(&self, shapes: &[Shape]) -> Table {
        let header = [
            "load",
            "variant",
            "p50",
            "p90",
            "p99",
            "req/s",
            "Envoy",
            "ext_proc",
            "kvasir",
            "added p50",
            "added Envoy CPU",
        ];
        let mut table = Table::new(&header);
        for (shape, variant) in self.rows(shapes) {
            let median = |metric, digits| digits_of(self.figures.median(shape, variant, metric), digits);
            table.push(vec![
                shape.to_string(),
                variant.to_string(),
                median(Metric::P50, 1),
                median(Metric::P90, 1),
                median(Metric::P99, 1),
                median(Metric::Rps, 0),
                median(Metric::EnvoyCpu, 1),
                self.own_process(shape, variant, &[Variant::ExtProc], Metric::ExtProcCpu),
                self.own_process(shape, variant, &[Variant::Filter, Variant::Epp], Metric::ControlPlaneCpu),
                self.added(shape, variant, Metric::P50),
                self.added(shape, variant, Metric::EnvoyCpu),
            ]);
        }
        table
    }

    fn streamed_table(&self, shapes: &[Shape]) -> Table {
        let header =
            ["load", "variant", "Envoy", "ext_proc", "kvasir", "chunks/event", "added Envoy CPU", "added CPU in all"];
        let mut table = Table::new(&header);
        for (shape, variant) in self.rows(shapes) {
            table.push(vec![
                shape.to_string(),
                variant.to_string(),
                digits_of(self.figures.median(shape, variant, Metric::EnvoyCpu), 2),
                self.own_process(shape, variant, &[Variant::ExtProc], Metric::ExtProcCpu),
                self.own_process(shape, variant, &[Variant::Filter, Variant::Epp], Metric::ControlPlaneCpu),
                digits_of(self.figures.median(shape, variant, Metric::ChunksPerEvent), 3),
                self.added(shape, variant, Metric::EnvoyCpu),
                self.added(shape, variant, Metric::TotalCpu),
            ]);
        }
        table
    }

    fn ratio_table(&self) -> Table {
        let mut table = Table::new(&["load", "p50", "Envoy CPU", "CPU in all", "filter/plain Envoy CPU"]);
        for shape in self.figures.shapes() {
            let over = |metric| interval(self.figures.added_over_ext_proc(shape, Variant::Filter, (metric, metric)), 3);
            let latency = match shape {
                Shape::Whole { .. } => over(Metric::P50),
                Shape::Streamed { .. } => "-".to_owned(),
            };
            table.push(vec![
                shape.to_string(),
                latency,
                over(Metric::EnvoyCpu),
                over(Metric::TotalCpu),
                interval(self.figures.ratio(shape, Variant::Filter, Metric::EnvoyCpu), 2),
            ]);
        }
        table
    }

    /// A process's CPU in the rows of the variants that use it.
    fn own_process(&self, shape: Shape, variant: Variant, owners: &[Variant], metric: Metric) -> String {
        if owners.contains(&variant) {
            digits_of(self.figures.median(shape, variant, metric), 2)
        } else {
            "-".to_owned()
        }
    }

    fn added(&self, shape: Shape, variant: Variant, metric: Metric) -> String {
        if variant == Variant::Plain { "-".to_owned() } else { interval(self.figures.added(shape, variant, metric), 2) }
    }

    fn bar_lines(&self) -> String {
        let line = |bar: &Bar| {
            let verdict = if bar.pass { "pass" } else { "miss" };
            format!("{verdict}  {}: {} (bar: at most {})\n", bar.text, interval(Some(bar.measured), 3), bar.limit)
        };
        match self.bars.as_slice() {
            [] => "no bar can be judged: they compare the filter with plain Envoy and with ext_proc\n".to_owned(),
            bars => bars.iter().map(line).collect(),
        }
    }

    /// The report for programs. Keys on the top level are stable; a figure that was not measured is null.
    pub(crate) fn json(&self) -> Value {
        let figure = |name: &str| self.bars.iter().find(|bar| bar.name == name).map(|bar| bar.measured.value);
        let cells: Vec<Value> =
            self.rows(&self.figures.shapes()).into_iter().map(|(shape, variant)| self.cell(shape, variant)).collect();
        json!({
            "added_p50_over_ext_proc": figure("added_p50_4k"),
            "added_cpu_over_ext_proc": figure("added_cpu_4k"),
            "added_envoy_cpu_over_ext_proc": figure("added_envoy_cpu_4k"),
            "cpu_ratio_400k": figure("cpu_ratio_400k"),
            "streamed_chunk_added_us": figure("streamed_chunk_added_us"),
            "setting": self.setting,
            "bars": self.bars,
            "cells": cells,
        })
    }

    fn cell(&self, shape: Shape, variant: Variant) -> Value {
        let median = |metric| self.figures.median(shape, variant, metric);
        let added = |metric| if variant == Variant::Plain { None } else { self.figures.added(shape, variant, metric) };
        json!({
            "shape": shape,
            "variant": variant,
            "p50_us": median(Metric::P50),
            "p90_us": median(Metric::P90),
            "p99_us": median(Metric::P99),
            "rps": median(Metric::Rps),
            "envoy_cpu_us": median(Metric::EnvoyCpu),
            "ext_proc_cpu_us": median(Metric::ExtProcCpu),
            "control_plane_cpu_us": median(Metric::ControlPlaneCpu),
            "chunks_per_event": median(Metric::ChunksPerEvent),
            "added_p50_us": added(Metric::P50),
            "added_envoy_cpu_us": added(Metric::EnvoyCpu),
            "added_total_cpu_us": added(Metric::TotalCpu),
        })
    }
}

fn digits_of(estimate: Option<Estimate>, digits: usize) -> String {
    estimate.map_or_else(|| "-".to_owned(), |estimate| format!("{:.digits$}", estimate.value))
}

fn interval(estimate: Option<Estimate>, digits: usize) -> String {
    let text = |Estimate { value, low, high }| format!("{value:.digits$} [{low:.digits$}, {high:.digits$}]");
    estimate.map_or_else(|| "-".to_owned(), text)
}

#[cfg(test)]
mod tests {
    use super::super::figures::testing::rounds;
    use super::*;

    const SHAPE: Shape = Shape::Whole { body_bytes: 4096, concurrency: 1 };

    fn setting() -> Setting {
        Setting {
            command: "kvasir-bench overhead".to_owned(),
            envoy: "1.40.0".to_owned(),
            placement: "not pinned, 2 CPUs".to_owned(),
            workers: 1,
            rounds: 3,
            cell_seconds: 0.5,
        }
    }

    #[test]
    fn the_json_carries_the_ratio_at_4_kib() {
        let rounds = rounds(SHAPE, &[0.0, 5.0, 9.0]);
        let json = Report::new(&rounds, setting()).json();
        let ratio = json["added_p50_over_ext_proc"].as_f64().expect("a number");
        assert!((ratio - 26.0 / 284.0).abs() < 1e-9, "{ratio}");
        assert_eq!(json["cpu_ratio_400k"], Value::Null);
        assert_eq!(json["cells"].as_array().map(Vec::len), Some(3));
        assert_eq!(json["cells"][0]["shape"], json!({"whole": {"body_bytes": 4096, "concurrency": 1}}));
    }

    #[test]
    fn the_text_names_every_bar_with_its_verdict() {
        let rounds = rounds(SHAPE, &[0.0, 5.0, 9.0]);
        let text = Report::new(&rounds, setting()).text();
        assert!(
            text.contains("pass  added p50 over ext_proc's, 4 KiB, c=1: 0.092 [0.092, 0.092] (bar: at most 0.125)"),
            "{text}"
        );
        assert!(text.contains("26.00 [26.00, 26.00]"), "{text}");
    }

    #[test]
    fn without_the_filter_the_report_says_that_no_bar_was_judged() {
        let mut rounds = rounds(SHAPE, &[0.0, 5.0]);
        for round in &mut rounds {
            round.remove(&(SHAPE, Variant::Filter));
        }
        let report = Report::new(&rounds, setting());
        assert!(report.text().contains("no bar can be judged"));
        assert_eq!(report.json()["added_p50_over_ext_proc"], Value::Null);
    }
}
