//! What a run is asked to do: arguments in, a checked plan out.

use super::{Shape, Variant};
use clap::{Args, ValueEnum};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// `--quick`: no round begins that would end after this.
const QUICK_BUDGET: Duration = Duration::from_secs(150);
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// Arguments of `kvasir-bench overhead`.
#[derive(Debug, Args)]
pub(crate) struct OverheadArgs {
    /// Envoy's binary
    #[arg(long, env = "ENVOY_BIN", value_name = "PATH")]
    envoy: PathBuf,
    /// What to compare; plain is the base of all comparisons
    #[arg(long, value_delimiter = ',', default_value = "plain,filter,ext_proc")]
    variants: Vec<Variant>,
    /// Connections in the closed loop
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    concurrency: Vec<usize>,
    /// Sizes of request bodies
    #[arg(long, value_delimiter = ',', default_value = "4KiB,32KiB,400KiB")]
    body: Vec<Size>,
    /// Streamed answers at a time; 0 leaves streaming out
    #[arg(long, default_value_t = 32)]
    streams: usize,
    /// Rounds; each measures every cell once [default: 11, with --quick 9]
    #[arg(long)]
    rounds: Option<u32>,
    /// Seconds of measurement for a cell in a round [default: 2, with --quick 0.5]
    #[arg(long)]
    seconds: Option<f64>,
    /// Ends within 3 minutes
    #[arg(long)]
    quick: bool,
    /// Worker threads of each Envoy
    #[arg(long, default_value_t = 1)]
    workers: u16,
    /// Endpoints of the backend
    #[arg(long, default_value_t = 4)]
    endpoints: usize,
    /// CPUs of its own for Envoy where there are enough
    #[arg(long, value_enum, default_value_t = Pin::Auto)]
    pin: Pin,
    /// Kvasir's filter
    #[arg(long, value_name = "PATH", default_value = "target/wasm/kvasir_filter.wasm")]
    wasm: PathBuf,
    /// Kvasir's control plane [default: `kvasir` beside this program]
    #[arg(long, value_name = "PATH")]
    kvasir: Option<PathBuf>,
    /// Writes all figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Whether processes are kept on CPUs of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pin {
    Auto,
    Off,
}

/// A number of bytes, written as 4096, 4KiB or 1MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(usize);

/// Why arguments cannot be a run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum BadPlan {
    #[error("size {0:?}: must be a number of bytes, optionally in KiB or MiB")]
    Size(String),
    #[error("--{argument}: must be between {low} and {high}, got {got}")]
    Range { argument: &'static str, low: u32, high: u32, got: String },
    #[error("--variants: must include plain, the base of every comparison")]
    NoPlain,
    #[error("nothing to measure: --body, --concurrency and --streams leave no cell")]
    NoCell,
    #[error("the run would take {0:?}, more than {LIMIT:?}")]
    TooLong(Duration),
}

/// A run that can be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) envoy: PathBuf,
    pub(crate) variants: Vec<Variant>,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) rounds: u32,
    /// Measured time of a cell.
    pub(crate) cell: Duration,
    /// No round begins that would end after this.
    pub(crate) budget: Option<Duration>,
    pub(crate) workers: u16,
    pub(crate) endpoints: usize,
    pub(crate) pin: Pin,
    pub(crate) wasm: PathBuf,
    pub(crate) kvasir: Option<PathBuf>,
    pub(crate) json: Option<PathBuf>,
}

impl FromStr for Size {
    type Err = BadPlan;

    fn from_str(text: &str) -> Result<Size, BadPlan> {
        let units = [("KiB", 1024), ("MiB", 1024 * 1024), ("", 1)];
        let read =
            |(unit, factor): (&str, usize)| text.strip_suffix(unit)?.trim().parse::<usize>().ok()?.checked_mul(factor);
        let bytes = units.into_iter().find_map(read).ok_or_else(|| BadPlan::Size(text.to_owned()))?;
        Ok(Size(bytes))
    }
}

impl TryFrom<OverheadArgs> for Plan {
    type Error = BadPlan;

    fn try_from(arguments: OverheadArgs) -> Result<Plan, BadPlan> {
        let variants: BTreeSet<Variant> = arguments.variants.iter().copied().collect();
        if !variants.contains(&Variant::Plain) {
            return Err(BadPlan::NoPlain);
        }
        let seconds = arguments.seconds.unwrap_or(if arguments.quick { 0.5 } else { 2.0 });
        if !(0.05..=600.0).contains(&seconds) {
            return Err(BadPlan::Range { argument: "seconds", low: 0, high: 600, got: seconds.to_string() });
        }
        let rounds = arguments.rounds.unwrap_or(if arguments.quick { 9 } else { 11 });
        within("rounds", rounds, 1, 10_000)?;
        within("workers", arguments.workers.into(), 1, 256)?;
        within("endpoints", u32::try_from(arguments.endpoints).unwrap_or(u32::MAX), 1, 256)?;
        let shapes = shapes(&arguments)?;
        let cells = u32::try_from(shapes.len() * variants.len()).unwrap_or(u32::MAX);
        let cell = Duration::from_secs_f64(seconds);
        let total = cell.saturating_mul(cells).saturating_mul(rounds);
        if total > LIMIT {
            return Err(BadPlan::TooLong(total));
        }
        Ok(Plan {
            envoy: arguments.envoy,
            variants: variants.into_iter().collect(),
            shapes,
            rounds,
            cell,
            budget: arguments.quick.then_some(QUICK_BUDGET),
            workers: arguments.workers,
            endpoints: arguments.endpoints,
            pin: arguments.pin,
            wasm: arguments.wasm,
            kvasir: arguments.kvasir,
            json: arguments.json,
        })
    }
}

fn shapes(arguments: &OverheadArgs) -> Result<Vec<Shape>, BadPlan> {
    let mut shapes = BTreeSet::new();
    for Size(body_bytes) in arguments.body.iter().copied() {
        within("body", u32::try_from(body_bytes).unwrap_or(u32::MAX), 512, 32 * 1024 * 1024)?;
        for concurrency in arguments.concurrency.iter().copied() {
            within("concurrency", u32::try_from(concurrency).unwrap_or(u32::MAX), 1, 4096)?;
            shapes.insert(Shape::Whole { body_bytes, concurrency });
        }
    }
    if arguments.streams > 0 {
        within("streams", u32::try_from(arguments.streams).unwrap_or(u32::MAX), 1, 4096)?;
        shapes.insert(Shape::Streamed { streams: arguments.streams });
    }
    if shapes.is_empty() { Err(BadPlan::NoCell) } else { Ok(shapes.into_iter().collect()) }
}

fn within(argument: &'static str, got: u32, low: u32, high: u32) -> Result<(), BadPlan> {
    if (low..=high).contains(&got) { Ok(()) } else { Err(BadPlan::Range { argument, low, high, got: got.to_string() }) }
}

impl Plan {
    /// Variants in the order for a round: every variant comes first equally often, so that none profits from its place.
    pub(crate) fn order(&self, round: u32, shape: usize) -> Vec<Variant> {
        let turn = usize::try_from(round).unwrap_or(0) + shape;
        let mut order = self.variants.clone();
        order.rotate_left(turn % self.variants.len().max(1));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: OverheadArgs,
    }

    fn plan(line: &str) -> Result<Plan, BadPlan> {
        let words = ["bench", "--envoy", "/bin/envoy"].into_iter().chain(line.split_ascii_whitespace());
        Plan::try_from(Line::try_parse_from(words).expect("parses").arguments)
    }

    #[test]
    fn the_default_run_measures_every_cell_of_the_bars() {
        let plan = plan("").expect("a plan");
        assert_eq!(plan.variants, [Variant::Plain, Variant::Filter, Variant::ExtProc]);
        assert_eq!(plan.shapes.len(), 7);
        assert!(plan.shapes.contains(&Shape::Whole { body_bytes: 409_600, concurrency: 8 }));
        assert_eq!((plan.rounds, plan.cell, plan.budget), (11, Duration::from_secs(2), None));
    }

    #[test]
    fn a_quick_run_fits_its_budget() {
        let plan = plan("--quick").expect("a plan");
        let cells = u32::try_from(plan.shapes.len() * plan.variants.len()).expect("few");
        assert!(plan.cell * cells * plan.rounds <= QUICK_BUDGET * 2 / 3, "leaves a third for warming up");
        assert_eq!(plan.budget, Some(QUICK_BUDGET));
    }

    #[test]
    fn sizes_are_bytes_with_an_optional_unit() {
        for (text, bytes) in [("4096", 4096), ("4KiB", 4096), ("400 KiB", 409_600), ("1MiB", 1_048_576)] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "KiB", "-1", "4kB", "99999999999999999999MiB"] {
            assert_eq!(text.parse::<Size>(), Err(BadPlan::Size(text.to_owned())));
        }
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_the_rule() {
        assert_eq!(plan("--variants filter,ext_proc").expect_err("no base"), BadPlan::NoPlain);
        let error = plan("--rounds 0").expect_err("no rounds").to_string();
        assert_eq!(error, "--rounds: must be between 1 and 10000, got 0");
        assert!(matches!(plan("--seconds 0"), Err(BadPlan::Range { argument: "seconds", .. })));
        assert!(matches!(plan("--concurrency 0"), Err(BadPlan::Range { argument: "concurrency", .. })));
        assert!(matches!(plan("--rounds 10000 --seconds 600"), Err(BadPlan::TooLong(_))));
    }

    #[test]
    fn every_variant_comes_first_equally_often() {
        let plan = plan("").expect("a plan");
        let firsts: Vec<Variant> = (0..3).filter_map(|round| plan.order(round, 5).first().copied()).collect();
        assert_eq!(firsts.iter().copied().collect::<BTreeSet<_>>().len(), 3);
    }
}
