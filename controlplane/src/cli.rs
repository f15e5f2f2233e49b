//! The command line. What a command does is in `main`; what it takes, and the help that teaches it, is here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use controlplane::telemetry::LogFormat;

const EXAMPLES: &str = "\
Examples:
  # a first configuration
  cat > kvasir.yaml <<'Y'
  pools:
  - name: llama
    discovery: {static: {endpoints: [10.0.0.1:8000, 10.0.0.2:8000]}}
  Y
  kvasir check --config kvasir.yaml            # what will it do?
  kvasir standalone --config kvasir.yaml       # control plane and Envoy together
  curl http://127.0.0.1:8080/v1/models         # through Envoy
  curl http://127.0.0.1:9090/api/v1/endpoints  # what is known of the endpoints

  # apart: the control plane here, Envoy there
  kvasir serve --config kvasir.yaml
  kvasir envoy --config kvasir.yaml > envoy.json && envoy -c envoy.json";

/// Routes LLM inference traffic by prompt prefix and load: the control plane of the Kvasir filter for Envoy.
#[derive(Debug, Parser)]
#[command(name = "kvasir", version, after_long_help = EXAMPLES, after_help = "More, with examples: kvasir --help")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// What is logged, as in `info` or `warn,controlplane=debug`.
    #[arg(long, global = true, env = "KVASIR_LOG", default_value = "info")]
    pub(crate) log: String,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the control plane: discovers and watches endpoints, serves gateways (gRPC) and people (HTTP).
    Serve(Serve),
    /// Checks a configuration and says what it will do; exit code 1 and every problem when it is not valid.
    Check(Source),
    /// Says where a request would go, and why.
    Explain(Explain),
    /// Prints an Envoy bootstrap (JSON) for the configuration.
    Envoy(Source),
    /// Runs the control plane and an Envoy together, for a laptop or a single machine.
    Standalone(Standalone),
}

#[derive(Debug, Args)]
pub(crate) struct Source {
    /// The configuration (YAML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Written when ready, as {"grpc": "ip:port", "http": "ip:port"}: for scripts that let the system choose ports.
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Standalone {
    #[command(flatten)]
    pub(crate) serve: Serve,
    /// The Envoy binary. Default: `$ENVOY_BIN`, else `envoy` on the search path.
    #[arg(long, value_name = "PATH")]
    pub(crate) envoy: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) source: Source,
    /// The request's body (JSON).
    #[arg(long, value_name = "FILE")]
    pub(crate) request: PathBuf,
    /// The pool; default: the first.
    #[arg(long)]
    pub(crate) pool: Option<String>,
    /// The request's path.
    #[arg(long, default_value = "/v1/chat/completions")]
    pub(crate) path: String,
}
