//! Runs the comparison: in every round each shape goes through all variants one right after the other, so that whatever
//! else the machine does hits them alike.

use super::plan::{OverheadArgs, Plan};
use super::report::{Report, Setting};
use super::rig::{Rig, start::start};
use super::{Round, Sample, Shape, Variant};
use crate::cpu::poll::of_process;
use crate::http1::StreamWish;
use crate::load::drive::ClosedLoop;
use crate::prompts::Prompts;
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Prompts per body size.
const PROMPTS: usize = 64;
/// 200 events of about 250 bytes, 2 ms apart: the pace keeps every event a read of its own for Envoy.
const STREAM: StreamWish = StreamWish { events: 200, pause: Duration::from_millis(2) };
/// Body size of requests for streamed answers.
const STREAM_BODY: usize = 4096;
/// The last pieces of work after a load: a process must sleep before its CPU time is exact.
const SETTLE: Duration = Duration::from_millis(10);

/// CPU times of the processes of a variant, at one moment.
#[derive(Clone, Copy)]
struct CpuTimes {
    envoy: Duration,
    ext_proc: Duration,
    control_plane: Duration,
}

/// Measures, prints the report, and writes the JSON file.
pub(crate) async fn run(arguments: OverheadArgs) -> anyhow::Result<()> {
    let plan = Plan::try_from(arguments)?;
    let begin = Instant::now();
    let prompts = prepare(&plan);
    let rig = start(&plan).await?;
    let mut rounds: Vec<Round> = Vec::new();
    for number in 0..plan.rounds {
        let elapsed = begin.elapsed();
        let per_round = elapsed / number.max(1);
        if plan.budget.is_some_and(|budget| number > 0 && elapsed + per_round > budget) {
            eprintln!("stopping after {number} rounds: no time for another one");
            break;
        }
        rounds.push(measure_round(&plan, &rig, &prompts, number).await?);
        eprintln!("round {}/{} done after {:.0?}", number + 1, plan.rounds, begin.elapsed());
    }
    let report = Report::new(&rounds, setting(&plan, &rig, rounds.len()));
    print!("{}", report.text());
    if let Some(path) = &plan.json {
        let json = serde_json::to_string_pretty(&report.json())?;
        std::fs::write(path, json + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn prepare(plan: &Plan) -> BTreeMap<Shape, Arc<Prompts>> {
    let mut by_size: BTreeMap<usize, Arc<Prompts>> = BTreeMap::new();
    let mut prepared = BTreeMap::new();
    for shape in plan.shapes.iter().copied() {
        let prompts = match shape {
            Shape::Whole { body_bytes, .. } => {
                Arc::clone(by_size.entry(body_bytes).or_insert_with(|| Arc::new(Prompts::whole(PROMPTS, body_bytes))))
            }
            Shape::Streamed { .. } => Arc::new(Prompts::streamed(PROMPTS, STREAM_BODY, STREAM)),
        };
        prepared.insert(shape, prompts);
    }
    prepared
}

async fn measure_round(
    plan: &Plan,
    rig: &Rig,
    prompts: &BTreeMap<Shape, Arc<Prompts>>,
    number: u32,
) -> anyhow::Result<Round> {
    let mut round = Round::new();
    for (place, (shape, prompts)) in prompts.iter().enumerate() {
        for variant in plan.order(number, place) {
            let sample = measure(rig, *shape, variant, prompts, plan.cell).await;
            let sample = sample.with_context(|| format!("{variant}, {shape}"))?;
            round.insert((*shape, variant), sample);
        }
    }
    Ok(round)
}

async fn measure(
    rig: &Rig,
    shape: Shape,
    variant: Variant,
    prompts: &Arc<Prompts>,
    duration: Duration,
) -> anyhow::Result<Sample> {
    let port = rig.envoy(variant).context("every variant has an Envoy")?.port;
    let (connections, warm_up) = match shape {
        Shape::Whole { concurrency, .. } => (concurrency, duration / 10),
        // One whole stream on each connection.
        Shape::Streamed { streams } => (streams, Duration::from_millis(1)),
    };
    let mut load = ClosedLoop::connect(port, connections, Arc::clone(prompts)).await?;
    load.run(warm_up).await?;
    tokio::time::sleep(SETTLE).await;
    let before = cpu_times(rig, variant)?;
    let log = load.run(duration).await?;
    tokio::time::sleep(SETTLE).await;
    let after = cpu_times(rig, variant)?;
    let latency = log.summary();
    let (units, chunks_per_event) = match shape {
        Shape::Whole { .. } => (latency.requests, None),
        Shape::Streamed { .. } => {
            let events = latency.requests * f64::from(STREAM.events);
            // The usage event and the end mark make one chunk more than there are events.
            (events, Some((log.chunks as f64 - latency.requests) / events))
        }
    };
    let per_unit = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / units;
    let sample = Sample {
        latency,
        envoy_cpu: per_unit(before.envoy, after.envoy),
        ext_proc_cpu: per_unit(before.ext_proc, after.ext_proc),
        control_plane_cpu: per_unit(before.control_plane, after.control_plane),
        chunks_per_event,
    };
    ensure!(variant != Variant::Epp || sample.control_plane_cpu > 0.0, "Envoy did not call the endpoint picker");
    ensure!(variant != Variant::ExtProc || sample.ext_proc_cpu > 0.0, "Envoy did not call the external processor");
    Ok(sample)
}

fn cpu_times(rig: &Rig, variant: Variant) -> anyhow::Result<CpuTimes> {
    let of = |pid: Option<u32>| pid.map_or(Ok(Duration::ZERO), of_process);
    Ok(CpuTimes {
        envoy: of(rig.envoy(variant).map(crate::envoy::launch::Envoy::pid))?,
        ext_proc: of(rig.ext_proc_pid(variant))?,
        control_plane: of(rig.control_plane_pid(variant))?,
    })
}

fn setting(plan: &Plan, rig: &Rig, rounds: usize) -> Setting {
    let version = Command::new(&plan.envoy).arg("--version").output().ok();
    let version = version.and_then(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_once("version: ").map(|(_, version)| version.trim().to_owned())
    });
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    Setting {
        command: std::env::args().collect::<Vec<_>>().join(" "),
        envoy: version.unwrap_or_else(|| "unknown".to_owned()),
        placement: match &rig.placement {
            Some(placement) => format!("Envoy on CPUs {:?}, everything else on {:?}", placement.envoy, placement.rest),
            None => format!("not pinned, {cpus} CPUs"),
        },
        workers: plan.workers,
        rounds,
        cell_seconds: plan.cell.as_secs_f64(),
    }
}
