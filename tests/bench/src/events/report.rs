//! What an events run says: a table for people, figures for programs, and whether the bars were cleared.

use super::timeline::{Delays, Spread};
use crate::table::Table;
use serde::Serialize;
use serde_json::{Value, json};

/// Milliseconds, p99, from published to visible in every worker.
const EVERY_WORKER: f64 = 20.0;
/// Of the control plane.
const CORES: f64 = 0.3;

/// Under which circumstances the figures were taken.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Setting {
    pub(crate) command: String,
    pub(crate) cpus: usize,
    pub(crate) pods: u16,
    pub(crate) workers: u16,
    pub(crate) rate: u32,
    pub(crate) seconds: f64,
    pub(crate) step_ms: f64,
    pub(crate) cache_blocks: usize,
}

/// What was measured. CPU in cores over the run; table traffic for one gateway.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Counted {
    pub(crate) block_events_per_second: f64,
    pub(crate) batches_per_second: f64,
    pub(crate) delays: Delays,
    pub(crate) markers_published: usize,
    /// The bench's own gateway never saw them.
    pub(crate) markers_lost: usize,
    /// Prompts of markers that a worker found where they are, and that it did not.
    pub(crate) prompts_found: usize,
    pub(crate) prompts_not_found: usize,
    pub(crate) control_plane_cores: f64,
    pub(crate) envoy_cores: f64,
    /// Found missing by their numbers, whether or not a replay brought them.
    pub(crate) missing_batches: u64,
    /// Published, and not applied when all was over.
    pub(crate) unapplied_batches: u64,
    pub(crate) table_bytes_per_second: f64,
    pub(crate) table_segments_per_second: f64,
    pub(crate) held_blocks: usize,
    pub(crate) distinct_blocks: usize,
    pub(crate) resident_chunks: usize,
}

/// A bar and what was measured against it.
#[derive(Debug, Clone, Serialize)]
struct Bar {
    name: &'static str,
    text: &'static str,
    measured: f64,
    limit: f64,
    pass: bool,
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) setting: Setting,
    pub(crate) counted: Counted,
}

impl Report {
    /// The report for people.
    pub(crate) fn text(&self) -> String {
        let Setting { cpus, pods, workers, seconds, step_ms, cache_blocks, .. } = &self.setting;
        let counted = &self.counted;
        let mut out = format!(
            "{pods} pods, {workers} Envoy workers, {cpus} CPUs for all of it, {seconds} s; a batch every {step_ms} ms and pod, \
             caches of {cache_blocks} blocks\n{:.0} block events/s in {:.0} batches/s; {} blocks held, {} distinct, {} chunks \
             in the table\n\nFrom a marker's publication, in ms\n",
            counted.block_events_per_second,
            counted.batches_per_second,
            counted.held_blocks,
            counted.distinct_blocks,
            counted.resident_chunks,
        );
        out.push_str(&self.delays().render(1));
        out.push_str(&self.words());
        for bar in self.bars() {
            let verdict = if bar.pass { "pass" } else { "miss" };
            out.push_str(&format!("{verdict}  {}: {:.3} (bar: at most {})\n", bar.text, bar.measured, bar.limit));
        }
        out
    }

    fn delays(&self) -> Table {
        let delays = &self.counted.delays;
        let mut table = Table::new(&["until", "p50", "p99", "max"]);
        for (name, spread) in [
            ("the bench's own gateway has it", delays.gateway),
            ("one worker acts on it", delays.first_worker),
            ("every worker acts on it", delays.every_worker),
            ("(between two answers of a worker)", delays.probe),
        ] {
            let figure =
                |of: fn(&Spread) -> f64| spread.map_or_else(|| "-".to_owned(), |spread| format!("{:.1}", of(&spread)));
            table.push(vec![name.to_owned(), figure(|s| s.p50), figure(|s| s.p99), figure(|s| s.max)]);
        }
        table
    }

    fn words(&self) -> String {
        let counted = &self.counted;
        format!(
            "{} markers, {} never arrived, {} not at every worker; {} prompts of markers found where they are, {} not\n\
             {} batches found missing, {} never applied\n\
             control plane {:.3} cores, Envoy {:.3} cores (asked about once a millisecond and worker)\n\
             table: {:.0} KB/s in {:.0} segments/s to each gateway\n\n",
            counted.markers_published,
            counted.markers_lost,
            counted.delays.unseen,
            counted.prompts_found,
            counted.prompts_not_found,
            counted.missing_batches,
            counted.unapplied_batches,
            counted.control_plane_cores,
            counted.envoy_cores,
            counted.table_bytes_per_second / 1e3,
            counted.table_segments_per_second,
        )
    }

    fn bars(&self) -> Vec<Bar> {
        let counted = &self.counted;
        // A marker that did not arrive has no delay: it must not make the others look good.
        let arrived = counted.markers_lost == 0 && counted.delays.unseen == 0 && counted.prompts_not_found == 0;
        let slowest = counted.delays.every_worker.filter(|_| arrived).map_or(f64::INFINITY, |spread| spread.p99);
        let bar = |name, text, measured: f64, limit| Bar { name, text, measured, limit, pass: measured <= limit };
        vec![
            bar("every_worker_p99_ms", "published to acted on by every worker, p99, ms", slowest, EVERY_WORKER),
            bar("control_plane_cores", "control plane, cores", counted.control_plane_cores, CORES),
        ]
    }

    /// The report for programs.
    pub(crate) fn json(&self) -> Value {
        json!({"setting": self.setting, "counted": self.counted, "bars": self.bars()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(every_worker: Option<Spread>, lost: usize) -> Report {
        let spread = Some(Spread { p50: 5.0, p99: 9.0, max: 11.0 });
        let delays =
            Delays { markers: 10, unseen: 0, gateway: spread, first_worker: spread, every_worker, probe: spread };
        let setting = Setting {
            command: "kvasir-bench events".to_owned(),
            cpus: 2,
            pods: 8,
            workers: 2,
            rate: 10_000,
            seconds: 30.0,
            step_ms: 20.0,
            cache_blocks: 18_000,
        };
        let counted = Counted {
            block_events_per_second: 9_990.0,
            batches_per_second: 400.0,
            delays,
            markers_published: 10 + lost,
            markers_lost: lost,
            prompts_found: 10,
            prompts_not_found: 0,
            control_plane_cores: 0.1,
            envoy_cores: 0.2,
            missing_batches: 0,
            unapplied_batches: 0,
            table_bytes_per_second: 100_000.0,
            table_segments_per_second: 90.0,
            held_blocks: 144_000,
            distinct_blocks: 120_000,
            resident_chunks: 60_000,
        };
        Report { setting, counted }
    }

    #[test]
    fn a_run_below_both_limits_passes() {
        let text = report(Some(Spread { p50: 8.0, p99: 14.5, max: 19.0 }), 0).text();
        assert!(
            text.contains("pass  published to acted on by every worker, p99, ms: 14.500 (bar: at most 20)"),
            "{text}"
        );
        assert!(text.contains("pass  control plane, cores: 0.100"), "{text}");
    }

    #[test]
    fn a_lost_marker_is_a_miss_however_fast_the_others_were() {
        let report = report(Some(Spread { p50: 8.0, p99: 14.5, max: 19.0 }), 1);
        assert!(report.text().contains("miss  published to acted on"), "{}", report.text());
        assert_eq!(report.json()["bars"][0]["pass"], false);
    }
}
