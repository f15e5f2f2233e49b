//! What an events run is asked to do: arguments in, a checked plan out.

use clap::Args;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Arguments of `kvasir-bench events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Envoy's binary
    #[arg(long, env = "ENVOY_BIN", value_name = "PATH")]
    envoy: PathBuf,
    /// Block events per second over all pods: stored and removed blocks
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    /// Pods that publish
    #[arg(long, default_value_t = 8)]
    pods: u16,
    /// Seconds of measurement
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Milliseconds of an engine step: a pod publishes one batch a step
    #[arg(long, default_value_t = 20)]
    step_ms: u32,
    /// Milliseconds between two markers
    #[arg(long, default_value_t = 50)]
    marker_ms: u32,
    /// Blocks in the cache of one pod
    #[arg(long, default_value_t = 18_000)]
    cache_blocks: u32,
    /// Worker threads of Envoy
    #[arg(long, default_value_t = 2)]
    workers: u16,
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

/// Why arguments cannot be a run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("--{argument}: must be between {low} and {high}, got {got}")]
pub(crate) struct BadPlan {
    argument: &'static str,
    low: u32,
    high: u32,
    got: u32,
}

/// A run that can be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) envoy: PathBuf,
    /// Block events per second over all pods.
    pub(crate) rate: u32,
    pub(crate) pods: u16,
    pub(crate) duration: Duration,
    pub(crate) step: Duration,
    pub(crate) marker_every: Duration,
    /// Blocks of one pod.
    pub(crate) cache_blocks: usize,
    pub(crate) workers: u16,
    pub(crate) wasm: PathBuf,
    pub(crate) kvasir: Option<PathBuf>,
    pub(crate) json: Option<PathBuf>,
}

impl TryFrom<EventsArgs> for Plan {
    type Error = BadPlan;

    fn try_from(arguments: EventsArgs) -> Result<Plan, BadPlan> {
        within("rate", arguments.rate, 100, 1_000_000)?;
        within("pods", arguments.pods.into(), 1, 64)?;
        within("seconds", arguments.seconds, 1, 3_600)?;
        within("step-ms", arguments.step_ms, 5, 1_000)?;
        within("marker-ms", arguments.marker_ms, 10, 10_000)?;
        within("cache-blocks", arguments.cache_blocks, 2_000, 1_000_000)?;
        within("workers", arguments.workers.into(), 1, 64)?;
        Ok(Plan {
            envoy: arguments.envoy,
            rate: arguments.rate,
            pods: arguments.pods,
            duration: Duration::from_secs(arguments.seconds.into()),
            step: Duration::from_millis(arguments.step_ms.into()),
            marker_every: Duration::from_millis(arguments.marker_ms.into()),
            cache_blocks: usize::try_from(arguments.cache_blocks).unwrap_or(usize::MAX),
            workers: arguments.workers,
            wasm: arguments.wasm,
            kvasir: arguments.kvasir,
            json: arguments.json,
        })
    }
}

fn within(argument: &'static str, got: u32, low: u32, high: u32) -> Result<(), BadPlan> {
    if (low..=high).contains(&got) { Ok(()) } else { Err(BadPlan { argument, low, high, got }) }
}

impl Plan {
    /// Blocks that one pod stores in a step: half of its events, a full cache removes as many.
    pub(crate) fn blocks_per_step(&self) -> f64 {
        f64::from(self.rate) / 2.0 / f64::from(self.pods) * self.step.as_secs_f64()
    }

    /// From one pod's step to the next pod's: pods step one after the other.
    pub(crate) fn turn(&self) -> Duration {
        self.step / u32::from(self.pods)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: EventsArgs,
    }

    fn plan(line: &str) -> Result<Plan, BadPlan> {
        let words = ["bench", "--envoy", "/bin/envoy"].into_iter().chain(line.split_ascii_whitespace());
        Plan::try_from(Line::try_parse_from(words).expect("parses").arguments)
    }

    #[test]
    fn the_default_run_is_the_one_of_the_bar() {
        let plan = plan("").expect("a plan");
        assert_eq!((plan.rate, plan.pods, plan.workers), (10_000, 8, 2));
        assert!((plan.blocks_per_step() - 12.5).abs() < 1e-9);
        assert_eq!(plan.turn(), Duration::from_micros(2_500));
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_the_rule() {
        let error = plan("--pods 0").expect_err("no pods").to_string();
        assert_eq!(error, "--pods: must be between 1 and 64, got 0");
    }
}
