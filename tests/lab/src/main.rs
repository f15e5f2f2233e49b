//! `lab table`: workloads against policies, as a Markdown table on stdout.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is the output")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::callers::Callers;
use lab::flow_table::{Point, WORKLOADS, markdown as markdown_flow, measure};
use lab::holding::Holding;
use lab::policy::Policy;
use lab::scenario::{Memory, Outage, Pace, Scenario, Sharing, SpeedChange};
use lab::table::{Row, markdown};
use lab::workload::Kind;
use lab::world::{RunError, run};
use shared::wire;
use shared::wire::flow_control::Hold;

/// The real brain over simulated engines in virtual time.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compare policies.
    Table(TableArguments),
    /// Compare what lets requests wait, under too much load.
    Flow(FlowArguments),
}

#[derive(Parser)]
struct TableArguments {
    /// `name` (its three usual loads) or `name@rate`, comma-separated; all when absent.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// kvasir, rr, least, random.
    #[arg(long, value_delimiter = ',', default_value = "kvasir,rr,least")]
    policies: Vec<String>,
    /// Runs to average.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Envoy processes.
    #[arg(long, default_value_t = 1)]
    gateways: usize,
    /// Each gateway has a control plane of its own.
    #[arg(long)]
    unshared: bool,
    /// Speed of pod 0 (0.5: half).
    #[arg(long)]
    slow: Option<f64>,
    /// Seconds between two scrapes.
    #[arg(long, default_value_t = 0.05)]
    scrape: f64,
    /// Also print what the control plane knew in the end.
    #[arg(long)]
    status: bool,
}

#[derive(Parser)]
struct FlowArguments {
    /// The study's five when absent.
    #[arg(long, value_delimiter = ',', default_value = "tenants,shared,rag,mix,pressure")]
    workloads: Vec<String>,
    /// Times the load at which attainment begins to break.
    #[arg(long, value_delimiter = ',', default_value = "0.8,1.2,1.5,2")]
    loads: Vec<f64>,
    /// none, ours, utilization, concurrency, sessions, ours+sessions.
    #[arg(long, value_delimiter = ',', default_value = "none,utilization,concurrency,ours")]
    hold: Vec<String>,
    /// Runs to average.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Envoy processes with one worker each.
    #[arg(long, default_value_t = 1)]
    gateways: usize,
    /// alike, bands, tenants.
    #[arg(long, default_value = "alike")]
    callers: String,
    /// Parts of flow control that are left out: deadline, tpot, budget, skip, limits, shares, fairness.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Seconds before those that are judged.
    #[arg(long, default_value_t = 60.0)]
    warm: f64,
    /// Seconds that are judged.
    #[arg(long, default_value_t = 120.0)]
    judged: f64,
    /// The control plane is silent from so many seconds on, for ten.
    #[arg(long)]
    cut: Option<f64>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Table(arguments) => table(&arguments),
        Command::Flow(arguments) => flow(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn flow(arguments: &FlowArguments) -> Result<(), String> {
    let callers = match arguments.callers.as_str() {
        "alike" => Callers::Alike,
        "bands" => Callers::Bands,
        "tenants" => Callers::Tenants,
        other => return Err(format!("no callers {other}")),
    };
    let mut points = Vec::new();
    for name in &arguments.workloads {
        let known = WORKLOADS.into_iter().find(|(kind, _)| kind.name() == name);
        let (kind, usual) = known.ok_or_else(|| format!("no workload {name}"))?;
        for &load in &arguments.loads {
            for name in &arguments.hold {
                let holding = Holding::ALL.into_iter().find(|holding| holding.name() == name);
                let holding = holding.ok_or_else(|| format!("no hold {name}"))?;
                let outage = arguments.cut.map(|from| Outage { from, until: from + 10.0, memory: Memory::Kept });
                let traffic = Scenario {
                    callers,
                    gateways: arguments.gateways,
                    outage,
                    warm: arguments.warm,
                    until: arguments.warm + arguments.judged,
                    ..Scenario::new(kind, usual * load)
                };
                let mut scenario = traffic.holding(holding);
                if let Some(control) = &mut scenario.flow {
                    arguments.without.iter().try_for_each(|part| leave_out(part, control))?;
                }
                points.push(Point { load, holding, scenario });
            }
        }
    }
    print!("{}", markdown_flow(&measure(points, arguments.seeds).map_err(|error| error.to_string())?));
    Ok(())
}

/// For ablations.
fn leave_out(part: &str, control: &mut wire::FlowControl) -> Result<(), String> {
    let bands = control.bands.iter_mut();
    match (part, &mut control.hold) {
        ("deadline", _) => bands.for_each(|band| (band.deadline, band.ttl_seconds) = (false, 60.0)),
        ("limits", _) => bands.for_each(|band| band.limit = 1.0),
        ("shares", _) => bands.for_each(|band| band.min_share = 0.0),
        ("skip", _) => control.skip = 0,
        ("fairness", _) => bands.for_each(|band| band.fairness = i32::from(wire::Fairness::RoundRobin)),
        ("tpot", Some(Hold::Prediction(prediction))) => prediction.ignore_tpot = true,
        ("budget", Some(Hold::Prediction(prediction))) => prediction.token_budget = 1e12,
        ("tpot" | "budget", _) => {}
        _ => return Err(format!("no part {part}")),
    }
    Ok(())
}

fn table(arguments: &TableArguments) -> Result<(), String> {
    let mut rows = Vec::new();
    for (kind, rate) in points(&arguments.workloads)? {
        for name in &arguments.policies {
            let policy = Policy::ALL.into_iter().find(|policy| policy.name() == name);
            let policy = policy.ok_or_else(|| format!("no policy {name}"))?;
            let outcomes = (0..arguments.seeds)
                .map(|seed| run(&scenario(arguments, (kind, rate), policy, 501 + seed)))
                .collect::<Result<Vec<_>, RunError>>()
                .map_err(|error| error.to_string())?;
            if arguments.status {
                println!("{}@{rate} {name}: {:#?}", kind.name(), outcomes.first().map(|outcome| &outcome.statuses));
            }
            rows.push(Row { workload: format!("{} @ {rate}", kind.name()), policy: policy.name(), outcomes });
        }
    }
    print!("{}", markdown(&rows));
    Ok(())
}

fn scenario(arguments: &TableArguments, (kind, rate): (Kind, f64), policy: Policy, seed: u64) -> Scenario {
    Scenario {
        seed,
        policy,
        gateways: arguments.gateways,
        sharing: if arguments.unshared { Sharing::Alone } else { Sharing::Shared },
        speeds: arguments.slow.map(|speed| SpeedChange { at: 0.0, pod: 0, speed }).into_iter().collect(),
        pace: Pace { scrape: arguments.scrape, ..Pace::default() },
        ..Scenario::new(kind, rate)
    }
}

fn points(names: &[String]) -> Result<Vec<(Kind, f64)>, String> {
    if names.is_empty() {
        return Ok(Kind::ALL.into_iter().flat_map(|kind| kind.loads().map(|rate| (kind, rate))).collect());
    }
    let mut points = Vec::new();
    for text in names {
        let (name, rate) = text.split_once('@').map_or((text.as_str(), None), |(name, rate)| (name, Some(rate)));
        let kind =
            Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| format!("no workload {name}"))?;
        match rate {
            Some(rate) => points.push((kind, rate.parse().map_err(|error| format!("{text}: {error}"))?)),
            None => points.extend(kind.loads().map(|rate| (kind, rate))),
        }
    }
    Ok(points)
}
