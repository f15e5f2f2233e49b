//! `lab table`: workloads against policies, as a Markdown table on stdout.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is the output")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::policy::Policy;
use lab::scenario::{Pace, Scenario, Sharing, SpeedChange};
use lab::table::{Row, markdown};
use lab::workload::Kind;
use lab::world::{RunError, run};

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

fn main() -> ExitCode {
    let Command::Table(arguments) = Arguments::parse().command;
    match table(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
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
