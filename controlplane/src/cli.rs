//! The command line. What a command does is in `main`; what it takes, and the help that teaches it, is here.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use controlplane::epp::install::Flags;
use controlplane::explain::DEFAULT_PATH;
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
  kvasir check --config epp.yaml               # llm-d's EndpointPickerConfig: what becomes of each plugin?
  kvasir standalone --config kvasir.yaml       # control plane and Envoy together
  curl http://127.0.0.1:8080/v1/models         # through Envoy
  curl http://127.0.0.1:9090/api/v1/endpoints  # what is known of the endpoints
  kvasir explain --config kvasir.yaml --request body.json  # where would this go, and why?
  kvasir render --template chat.jinja --request body.json  # which prompt does the engine make of it?

  # apart: the control plane here, Envoy there
  kvasir serve --config kvasir.yaml
  kvasir envoy --config kvasir.yaml > envoy.json && envoy -c envoy.json";

/// Routes LLM inference traffic by prompt prefix and load: the control plane of the Kvasir filter for Envoy.
#[derive(Debug, Parser)]
#[command(name = "kvasir", version, after_long_help = EXAMPLES, after_help = "More, with examples: kvasir --help")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// What is logged, as in `info` or `warn,controlplane=debug`. Default: `info` for what keeps running, else `error`.
    #[arg(long, global = true, env = "KVASIR_LOG")]
    pub(crate) log: Option<String>,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the control plane: discovers and watches endpoints, serves gateways (gRPC) and people (HTTP).
    Serve(Serve),
    /// Runs the endpoint picker of one InferencePool, for gateways that ask one; takes llm-d's flags.
    Epp(Box<Picker>),
    /// Checks a configuration (ours, or llm-d's EndpointPickerConfig alone) and says what it will do; exit code 1 and every
    /// problem when it is not valid.
    Check(Source),
    /// Says where a request would go, and why.
    Explain(Explain),
    /// Prints the exact prompt that an engine makes of a request, or of variables, by a chat template.
    Render(Render),
    /// Prints an Envoy bootstrap (JSON) for the configuration, or fills a folder with all that an Envoy needs.
    Envoy(Bootstrap),
    /// Runs the control plane and an Envoy together, for a laptop or a single machine.
    Standalone(Standalone),
}

impl Cli {
    /// What is logged: what was asked for, else what fits the command.
    pub(crate) fn log(&self) -> &str {
        let usual = match &self.command {
            Command::Epp(picker) => picker.flags.log(),
            Command::Serve(_) | Command::Standalone(_) => "info",
            Command::Check(_) | Command::Explain(_) | Command::Envoy(_) | Command::Render(_) => "error",
        };
        self.log.as_deref().unwrap_or(usual)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Source {
    /// The configuration (YAML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Bootstrap {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Instead of printing: write envoy.json and the filter into this folder, for an Envoy in another container that sees
    /// it at the same path; and empty endpoint files into gateway.edsDirectory, until `serve` fills them.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) into: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Written when ready, as {"grpc": "ip:port", "http": "ip:port"}: for scripts that let the system choose ports.
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// The way to the cluster that pools are discovered in. Default: the pod's service account, else what kubectl uses.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

const PICKER_EXAMPLES: &str = "\
Examples:
  # for the InferencePool that the gateway's routes point to
  kvasir epp --pool-name llama --pool-namespace models

  # without an InferencePool, and without TLS
  kvasir epp --endpoint-selector app=vllm --endpoint-target-ports 8000 --secure-serving=false

Where the program is called `epp`, or begins with one of these flags, the command's name may be left out.";

#[derive(Debug, Args)]
#[command(after_help = PICKER_EXAMPLES)]
pub(crate) struct Picker {
    #[command(flatten)]
    pub(crate) flags: Flags,
    /// Written when ready, as {"grpc": "ip:port", "http": "ip:port", "health": "ip:port"}.
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

impl Cli {
    /// How log lines look.
    pub(crate) fn log_format(&self) -> LogFormat {
        match &self.command {
            Command::Epp(picker) => picker.flags.log_format().unwrap_or(self.log_format),
            Command::Serve(_)
            | Command::Check(_)
            | Command::Explain(_)
            | Command::Render(_)
            | Command::Envoy(_)
            | Command::Standalone(_) => self.log_format,
        }
    }
}

/// The command line as it was meant: llm-d's endpoint picker has no commands, its installations name none.
pub(crate) fn meant(mut given: Vec<OsString>) -> Vec<OsString> {
    let text = |at: usize| given.get(at).map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let called = text(0).rsplit('/').next() == Some("epp");
    let unmistakable = ["--pool-name", "--endpoint-selector"];
    // Our own flags that may stand before a command.
    let ours = text(1).starts_with("--log");
    let flags = text(1).starts_with('-')
        && !ours
        && (1..given.len()).map(text).any(|word| {
            unmistakable
                .iter()
                .any(|flag| word.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')))
        });
    if (called && text(1) != "epp") || flags {
        given.insert(1, OsString::from("epp"));
    }
    given
}

#[derive(Debug, Args)]
pub(crate) struct Standalone {
    #[command(flatten)]
    pub(crate) serve: Serve,
    /// The Envoy binary. Default: `$ENVOY_BIN`, else `envoy` on the search path.
    #[arg(long, value_name = "PATH")]
    pub(crate) envoy: Option<PathBuf>,
}

const EXPLAIN_EXAMPLES: &str = r#"Examples:
  echo '{"model": "llama", "messages": [{"role": "user", "content": "Hello"}]}' > body.json
  kvasir explain --config kvasir.yaml --request body.json
  kvasir explain --config kvasir.yaml --request body.json --json | jq .destination

  # a completion with a tight service level, for one of several pools
  kvasir explain --config kvasir.yaml --request body.json --pool llama --path /v1/completions -H 'x-slo-ttft-ms: 200'

When a control plane answers at the configuration's listen.http, it is asked: its bookings and prefixes count. Otherwise
the endpoints are discovered and probed once, here. The same over HTTP:
  curl --data @body.json 'http://127.0.0.1:9090/api/v1/explain?pool=llama'"#;

#[derive(Debug, Args)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) source: Source,
    /// The request's body (JSON).
    #[arg(long, value_name = "FILE")]
    pub(crate) request: PathBuf,
    /// The pool; default: found by the request's model, as gateways do.
    #[arg(long)]
    pub(crate) pool: Option<String>,
    /// The request's path.
    #[arg(long, default_value = DEFAULT_PATH)]
    pub(crate) path: String,
    /// A header of the request, such as a session's or a service level's; repeatable.
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// Print the API's JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

const RENDER_EXAMPLES: &str = r#"Examples:
  # a model's template, a whole request
  echo '{"messages": [{"role": "user", "content": "Hello"}]}' > body.json
  kvasir render --template tokenizer_config.json --request body.json

  # a template of its own file: its special tokens have to be said
  kvasir render --template chat_template.jinja --bos '<s>' --eos '</s>' --request body.json

  # what a server with --default-chat-template-kwargs and VLLM_USE_RUST_FRONTEND=1 makes of it, on that day
  kvasir render --template chat_template.jinja --request body.json --frontend rust \
    --default-kwargs '{"enable_thinking": false}' --now 2026-07-09T18:00:00+02:00

  # the template alone, with variables of your choice
  kvasir render --template chat_template.jinja --context variables.json | xxd | tail

  # the same as the engine's? Exit code 0: yes; 1: no, and from which byte on; 2: it could not be found out
  kvasir render --template tokenizer_config.json --request body.json --compare http://10.0.0.1:8000 --tokenizer .

Nothing but the prompt is printed, without a newline of its own. --compare asks the engine's render endpoint (vLLM:
--enable-scale-out), whose token ids need --tokenizer; where there is none, for a completion of one token with
"return_prompt_text": true."#;

#[derive(Debug, Args)]
#[command(after_help = RENDER_EXAMPLES)]
pub(crate) struct Render {
    /// The chat template (Jinja), or a tokenizer_config.json that has one, and special tokens.
    #[arg(long, value_name = "FILE")]
    pub(crate) template: PathBuf,
    #[command(flatten)]
    pub(crate) input: RenderInput,
    /// The request's path: chat completions, messages or completions.
    #[arg(long, default_value = DEFAULT_PATH)]
    pub(crate) path: String,
    /// Which of vLLM's API servers prepares the messages.
    #[arg(long, value_enum, default_value = "python")]
    pub(crate) frontend: RenderFrontend,
    /// What a message's content is given as: as the template's loops tell, a string, or a list of parts.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) content_format: RenderFormat,
    /// The template's bos_token; comes before the prompt of a completion.
    #[arg(long, value_name = "TEXT")]
    pub(crate) bos: Option<String>,
    /// The template's eos_token.
    #[arg(long, value_name = "TEXT")]
    pub(crate) eos: Option<String>,
    /// The engine's local time, for templates that print it (RFC 3339). Default: now, in UTC.
    #[arg(long, value_name = "TIME")]
    pub(crate) now: Option<String>,
    /// The server's chat_template_kwargs (JSON object).
    #[arg(long, value_name = "JSON")]
    pub(crate) default_kwargs: Option<String>,
    /// Compare the prompt with that of the engine there instead of printing it.
    #[arg(long, value_name = "URL", requires = "request")]
    pub(crate) compare: Option<String>,
    /// The model's tokenizer (a file, or its folder), for engines that tell token ids.
    #[arg(long, value_name = "PATH", requires = "compare")]
    pub(crate) tokenizer: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct RenderInput {
    /// A request's body (JSON).
    #[arg(long, value_name = "FILE")]
    pub(crate) request: Option<PathBuf>,
    /// The template's variables (JSON object), passed as they are.
    #[arg(long, value_name = "FILE")]
    pub(crate) context: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RenderFrontend {
    Python,
    Rust,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RenderFormat {
    Auto,
    String,
    Openai,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn meant_as(words: &[&str]) -> Vec<String> {
        let meant = meant(words.iter().map(OsString::from).collect());
        meant.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn llm_ds_command_lines_mean_the_endpoint_picker_and_ours_mean_what_they_say() {
        assert_eq!(meant_as(&["/app/epp", "--pool-name", "p"]), ["/app/epp", "epp", "--pool-name", "p"]);
        assert_eq!(meant_as(&["kvasir", "--v=4", "--pool-name=p"]), ["kvasir", "epp", "--v=4", "--pool-name=p"]);
        for ours in [
            &["kvasir"][..],
            &["kvasir", "--help"],
            &["kvasir", "epp", "--pool-name", "p"],
            &["kvasir", "--log", "debug", "serve", "--config", "x"],
            &["kvasir", "--log=debug", "epp", "--pool-name", "p"],
            &["epp", "epp", "--pool-name", "p"],
        ] {
            assert_eq!(meant_as(ours), ours);
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
