//! The bars Kvasir's filter has to clear, and whether it did. A bar that needs a cell that was not measured is left out:
//! it is neither passed nor missed.

use super::figures::{Figures, Metric};
use super::{Shape, Variant};
use crate::estimate::Estimate;
use serde::Serialize;

const KIB: usize = 1024;
/// Added p50 over what the no-op external processor adds.
const LATENCY_SHARE: f64 = 1.0 / 8.0;
/// Added CPU per request over what the no-op external processor adds.
const CPU_SHARE: f64 = 1.0 / 5.0;
/// Envoy's CPU per request over plain Envoy's, with a body of 400 KiB.
const LARGE_BODY_RATIO: f64 = 2.2;
/// Added p50 of the endpoint picker over what the no-op external processor adds.
const PICKER_LATENCY: f64 = 1.3;
/// Microseconds of CPU per request of 400 KiB with the endpoint picker, all processes.
const PICKER_LARGE_BODY: f64 = 3000.0;
/// Microseconds of Envoy's CPU more than plain, per event of a streamed answer.
const STREAMED_ADDED: f64 = 2.0;

/// A bar and what was measured against it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Bar {
    /// Constant over runs.
    pub(crate) name: &'static str,
    pub(crate) text: String,
    pub(crate) measured: Estimate,
    pub(crate) limit: f64,
    pub(crate) pass: bool,
}

/// The bars that can be judged, in the order of the report.
pub(crate) fn judge(figures: &Figures<'_>) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (name, body) in [("added_p50_4k", 4 * KIB), ("added_p50_32k", 32 * KIB)] {
        if let Some(shape) = calm(figures, body) {
            let measured = figures.added_over_ext_proc(shape, Variant::Filter, (Metric::P50, Metric::P50));
            bars.extend(bar(name, format!("added p50 over ext_proc's, {shape}"), measured, LATENCY_SHARE));
        }
    }
    for (name, body) in [("added_cpu_4k", 4 * KIB), ("added_cpu_32k", 32 * KIB)] {
        if let Some(shape) = busy(figures, body) {
            let measured = figures.added_over_ext_proc(shape, Variant::Filter, (Metric::EnvoyCpu, Metric::TotalCpu));
            let text = format!("added Envoy CPU over all that ext_proc adds, {shape}");
            bars.extend(bar(name, text, measured, CPU_SHARE));
        }
    }
    for (name, body) in [("added_envoy_cpu_4k", 4 * KIB), ("added_envoy_cpu_32k", 32 * KIB)] {
        if let Some(shape) = busy(figures, body) {
            let measured = figures.added_over_ext_proc(shape, Variant::Filter, (Metric::EnvoyCpu, Metric::EnvoyCpu));
            let text = format!("added Envoy CPU over ext_proc's, its server left out, {shape}");
            bars.extend(bar(name, text, measured, CPU_SHARE));
        }
    }
    if let Some(shape) = busy(figures, 400 * KIB) {
        let measured = figures.ratio(shape, Variant::Filter, Metric::EnvoyCpu);
        bars.extend(bar("cpu_ratio_400k", format!("Envoy CPU over plain, {shape}"), measured, LARGE_BODY_RATIO));
    }
    bars.extend(picker_bars(figures));
    if let Some(shape) = streamed(figures) {
        let measured = figures.added(shape, Variant::Filter, Metric::EnvoyCpu);
        let text = format!("added Envoy CPU per streamed event in us, {shape}");
        bars.extend(bar("streamed_chunk_added_us", text, measured, STREAMED_ADDED));
    }
    bars
}

/// The bars of the endpoint picker.
fn picker_bars(figures: &Figures<'_>) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (name, body) in [("epp_added_p50_4k", 4 * KIB), ("epp_added_p50_32k", 32 * KIB)] {
        if let Some(shape) = calm(figures, body) {
            let measured = figures.added_over_ext_proc(shape, Variant::Epp, (Metric::P50, Metric::P50));
            bars.extend(bar(
                name,
                format!("the picker's added p50 over ext_proc's, {shape}"),
                measured,
                PICKER_LATENCY,
            ));
        }
    }
    if let Some(shape) = busy(figures, 400 * KIB) {
        let measured = figures.median(shape, Variant::Epp, Metric::TotalCpu);
        let text = format!("CPU per request in us with the picker, all processes, {shape}");
        bars.extend(bar("epp_cpu_400k_us", text, measured, PICKER_LARGE_BODY));
    }
    bars
}

fn bar(name: &'static str, text: String, measured: Option<Estimate>, limit: f64) -> Option<Bar> {
    let measured = measured?;
    Some(Bar { name, text, measured, limit, pass: measured.value <= limit })
}

/// The shape with this body and the fewest connections, where latency shows without queueing.
fn calm(figures: &Figures<'_>, body: usize) -> Option<Shape> {
    with_body(figures, body).into_iter().min()
}

/// The shape with this body and the most connections, where CPU per request shows without idling.
fn busy(figures: &Figures<'_>, body: usize) -> Option<Shape> {
    with_body(figures, body).into_iter().max()
}

fn with_body(figures: &Figures<'_>, body: usize) -> Vec<Shape> {
    let wanted = |shape: &Shape| matches!(shape, Shape::Whole { body_bytes, .. } if *body_bytes == body);
    figures.shapes().into_iter().filter(wanted).collect()
}

/// The shape of streamed answers.
fn streamed(figures: &Figures<'_>) -> Option<Shape> {
    figures.shapes().into_iter().find(|shape| matches!(shape, Shape::Streamed { .. }))
}

#[cfg(test)]
mod tests {
    use super::super::figures::testing::rounds;
    use super::*;

    fn judged(shape: Shape) -> Vec<Bar> {
        judge(&Figures::new(&rounds(shape, &[0.0, 10.0, 20.0])))
    }

    #[test]
    fn the_prototypes_figures_pass_the_small_body_bars() {
        let bars = judged(Shape::Whole { body_bytes: 4096, concurrency: 1 });
        let names: Vec<&str> = bars.iter().map(|bar| bar.name).collect();
        assert_eq!(names, ["added_p50_4k", "added_cpu_4k", "added_envoy_cpu_4k"]);
        assert!(bars.iter().all(|bar| bar.pass), "{bars:?}");
    }

    #[test]
    fn a_figure_above_its_limit_is_a_miss() {
        // The prototype's 11 us are far more than a streamed event may cost.
        let bars = judged(Shape::Streamed { streams: 16 });
        assert_eq!(bars.len(), 1);
        assert!(bars.iter().all(|bar| bar.name == "streamed_chunk_added_us" && !bar.pass), "{bars:?}");
    }

    #[test]
    fn the_large_body_is_judged_against_plain() {
        let bars = judged(Shape::Whole { body_bytes: 400 * KIB, concurrency: 8 });
        assert!(
            matches!(bars.as_slice(), [bar] if bar.name == "cpu_ratio_400k" && (bar.measured.value - 43.0 / 32.0).abs() < 1e-9)
        );
    }
}
