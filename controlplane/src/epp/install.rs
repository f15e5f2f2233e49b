//! `kvasir epp`: the flags of llm-d's endpoint picker, so that its installations run with the image exchanged. What a flag
//! asks for is done, or is said to be needless, or is refused by name; never silently skipped.
//!
//! Flags follow Go's conventions: a switch takes its value after `=` only.

mod ignored;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args};
use serde_json::{Map, Value, json};

use super::{Attach, Certificate, Conformance, Serves, Settings, Subsets};
use crate::config::{Config, ConfigError, deserialize};
use crate::telemetry::LogFormat;

pub use ignored::Ignored;

/// As wide as llm-d allows.
const MOST_PORTS: usize = 8;
const GROUPS: [&str; 2] = ["inference.networking.k8s.io", "inference.networking.x-k8s.io"];

/// The flags.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "the switches of a command line")]
pub struct Flags {
    /// The InferencePool whose endpoints are picked.
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present = "endpoint_selector",
        conflicts_with = "endpoint_selector"
    )]
    pub pool_name: Option<String>,
    /// Its namespace, or that of the selected pods. Default: our own.
    #[arg(long, value_name = "NAMESPACE", env = "NAMESPACE")]
    pub pool_namespace: Option<String>,
    /// API group of the InferencePool; a cluster that has only the other one is served as well.
    #[arg(long, value_name = "GROUP", default_value = GROUPS[0])]
    pub pool_group: String,
    /// Instead of an InferencePool: labels that pods have, as in app=vllm,tier=gold.
    #[arg(long, value_name = "LABELS", requires = "endpoint_target_ports")]
    pub endpoint_selector: Option<String>,
    /// With --endpoint-selector: ports of each pod, as in 8000,8001.
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub endpoint_target_ports: Vec<u16>,
    /// Where gateways connect.
    #[arg(long, value_name = "PORT", default_value_t = 9002)]
    pub grpc_port: u16,
    /// Where gRPC health is served without TLS.
    #[arg(long, value_name = "PORT", default_value_t = 9003)]
    pub grpc_health_port: u16,
    /// Where metrics, health and the API are served (HTTP).
    #[arg(long, value_name = "PORT", default_value_t = 9090)]
    pub metrics_port: u16,
    /// llm-d's EndpointPickerConfig, a file.
    #[arg(long, value_name = "FILE", conflicts_with = "config_text")]
    pub config_file: Option<PathBuf>,
    /// llm-d's EndpointPickerConfig, right here.
    #[arg(long, value_name = "YAML")]
    pub config_text: Option<String>,
    /// TLS on the gRPC port, with a self-signed certificate unless there is --cert-path.
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = go_bool, action = ArgAction::Set)]
    pub secure_serving: bool,
    /// Folder of tls.crt and tls.key; they are read again when they change.
    #[arg(long, value_name = "DIR")]
    pub cert_path: Option<PathBuf>,
    /// The way to the cluster. Default: the pod's service account, else what kubectl uses.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// How long requests are still served once the end has begun.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = go_duration)]
    pub drain_timeout: Duration,
    /// Of several replicas only the leader is ready.
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = go_bool, action = ArgAction::Set)]
    pub ha_enable_leader_election: bool,
    /// Shortest time between two scrapes of a busy endpoint.
    #[arg(long, value_name = "DURATION", default_value = "50ms", value_parser = go_duration)]
    pub refresh_metrics_interval: Duration,
    /// Load that was seen longer ago counts as unknown.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = go_duration)]
    pub metrics_staleness_threshold: Duration,
    /// Choose from all endpoints, whatever subset a gateway names.
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = go_bool, action = ArgAction::Set)]
    pub disable_endpoint_subset_filter: bool,
    /// Obey the headers of the Gateway API Inference Extension's conformance suite. Clients choose endpoints then.
    #[arg(long)]
    pub conformance: bool,
    /// 4 logs every request, 5 every step of it.
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 2)]
    pub verbosity: u8,
    /// debug, info, error, or a level as for -v; wins over it.
    #[arg(long, value_name = "LEVEL")]
    pub zap_log_level: Option<String>,
    /// json or console.
    #[arg(long, value_name = "ENCODER", value_parser = ["json", "console"])]
    pub zap_encoder: Option<String>,
    /// What needs nothing done.
    #[command(flatten)]
    pub ignored: Ignored,
    /// Templates leave empty arguments.
    #[arg(hide = true, value_parser = nothing)]
    pub nothing: Vec<String>,
}

/// What the flags come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Installation {
    /// An ordinary configuration of one pool.
    pub config: Config,
    /// How the endpoint picker runs.
    pub settings: Settings,
}

/// Why flags are refused.
#[derive(Debug, thiserror::Error)]
pub enum FlagError {
    /// A value that makes no sense, or something that this endpoint picker does not do.
    #[error("--{flag}: {rule}, got {value}")]
    Refused {
        /// Which one.
        flag: &'static str,
        /// What would be right.
        rule: &'static str,
        /// What is there.
        value: String,
    },
    /// A file cannot be read.
    #[error("--config-file {}: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The configuration that the flags make is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Flags {
    /// What the flags come to; reads `--config-file`, whose changes are not followed.
    ///
    /// # Errors
    /// When a flag asks for what cannot be done.
    pub fn installation(&self) -> Result<Installation, FlagError> {
        self.ignored.refuse()?;
        let raw = self.configuration()?;
        let mut config = Config::parse(&raw.to_string(), Path::new("."))?;
        config.kubernetes.kubeconfig.clone_from(&self.kubeconfig);
        Ok(Installation { config, settings: self.settings() })
    }

    /// llm-d's EndpointPickerConfig, from wherever it is; an empty text is none.
    fn picker_config(&self) -> Result<Option<Value>, FlagError> {
        let (flag, text) = match (&self.config_file, &self.config_text) {
            (Some(path), _) => {
                let read = std::fs::read_to_string(path);
                ("config-file", read.map_err(|source| FlagError::Read { path: path.clone(), source })?)
            }
            (None, Some(text)) => ("config-text", text.clone()),
            (None, None) => return Ok(None),
        };
        if text.trim().is_empty() {
            return Ok(None);
        }
        let rule = "must be the YAML of an EndpointPickerConfig";
        deserialize(&text).map(Some).map_err(|value| FlagError::Refused { flag, rule, value })
    }

    fn settings(&self) -> Settings {
        Settings {
            attach: Attach::AtStart,
            conformance: if self.conformance { Conformance::On } else { Conformance::Off },
            subsets: if self.disable_endpoint_subset_filter { Subsets::Ignored } else { Subsets::Obeyed },
            serves: if self.ha_enable_leader_election { Serves::WhileLeading } else { Serves::Always },
            health: Some(([0, 0, 0, 0], self.grpc_health_port).into()),
            certificate: if self.secure_serving { Certificate::SelfSigned } else { Certificate::None },
            drain: self.drain_timeout,
        }
    }

    /// As it would be written in a file.
    fn configuration(&self) -> Result<Value, FlagError> {
        let mut listen = json!({"grpc": self.grpc_port, "http": self.metrics_port});
        if let (true, Some(folder), Some(listen)) = (self.secure_serving, &self.cert_path, listen.as_object_mut()) {
            let tls = json!({"cert": folder.join("tls.crt"), "key": folder.join("tls.key")});
            listen.insert("tls".to_owned(), tls);
        }
        let namespace = self.pool_namespace.as_ref().filter(|name| !name.is_empty());
        let mut discovery = match (&self.pool_name, &self.endpoint_selector) {
            (Some(name), _) => self.inference_pool(name)?,
            (None, selector) => self.selected(selector.as_deref().unwrap_or_default())?,
        };
        discovery.extend(namespace.map(|namespace| ("namespace".to_owned(), json!(namespace))));
        let name = match (&self.pool_name, namespace) {
            (Some(name), Some(namespace)) => format!("{namespace}/{name}"),
            (Some(name), None) => name.clone(),
            (None, _) => "endpoints".to_owned(),
        };
        let milliseconds = |duration: Duration| format!("{}ms", duration.as_secs_f64() * 1000.0);
        let fastest = self.refresh_metrics_interval.max(Duration::from_millis(5));
        let mut pool = json!({
            "name": name,
            "discovery": {"kubernetes": discovery},
            "scrape": {"interval": {"min": milliseconds(fastest)}},
            "staleAfter": milliseconds(self.metrics_staleness_threshold),
        });
        if let (Some(picker), Some(pool)) = (self.picker_config()?, pool.as_object_mut()) {
            pool.insert("endpointPickerConfig".to_owned(), picker);
        }
        let election = json!({"enabled": self.ha_enable_leader_election, "leaseName": "kvasir-epp"});
        Ok(json!({"listen": listen, "kubernetes": {"leaderElection": election}, "pools": [pool]}))
    }

    fn inference_pool(&self, name: &str) -> Result<Map<String, Value>, FlagError> {
        if !GROUPS.contains(&self.pool_group.as_str()) {
            let rule = "must be inference.networking.k8s.io or inference.networking.x-k8s.io";
            return Err(FlagError::Refused { flag: "pool-group", rule, value: self.pool_group.clone() });
        }
        Ok(Map::from_iter([("inferencePool".to_owned(), json!(name))]))
    }

    fn selected(&self, selector: &str) -> Result<Map<String, Value>, FlagError> {
        let mut labels = Map::new();
        for requirement in selector.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let rule = "must be labels and values, as in app=vllm,tier=gold: sets and negations are not supported";
            let refused = || FlagError::Refused { flag: "endpoint-selector", rule, value: requirement.to_owned() };
            let (label, value) =
                requirement.split_once("==").or_else(|| requirement.split_once('=')).ok_or_else(refused)?;
            if label.is_empty() || label.contains(['!', ' ', '(', ')']) || value.contains(['(', ')', ' ']) {
                return Err(refused());
            }
            labels.insert(label.to_owned(), json!(value));
        }
        let mut ports = self.endpoint_target_ports.clone();
        ports.sort_unstable();
        ports.dedup();
        if ports.is_empty() || ports.len() > MOST_PORTS {
            let (flag, rule) = ("endpoint-target-ports", "must be 1 to 8 ports");
            return Err(FlagError::Refused { flag, rule, value: ports.len().to_string() });
        }
        Ok(Map::from_iter([("selector".to_owned(), Value::Object(labels)), ("ports".to_owned(), json!(ports))]))
    }

    /// What is logged.
    #[must_use]
    pub fn log(&self) -> &'static str {
        let numbered = |level: u8| match level {
            0..=3 => "info",
            4 => "debug",
            5.. => "trace",
        };
        match self.zap_log_level.as_deref() {
            None => numbered(self.verbosity),
            Some("debug") => "debug",
            Some("info") => "info",
            Some("warn") => "warn",
            Some("error" | "panic") => "error",
            Some(level) => numbered(level.parse().unwrap_or(self.verbosity)),
        }
    }

    /// How log lines look; `None`: as ours do.
    #[must_use]
    pub fn log_format(&self) -> Option<LogFormat> {
        match self.zap_encoder.as_deref() {
            Some("json") => Some(LogFormat::Json),
            Some(_) => Some(LogFormat::Text),
            None => None,
        }
    }
}

/// Go's spellings of a switch.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Go's spelling of a duration: numbers with units, such as `1m30s` or `1.5h`.
fn go_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a duration such as 1m30s or 250ms".to_owned();
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let after = rest.get(unit..).and_then(|tail| tail.find(|c: char| !c.is_ascii_alphabetic()));
        let end = after.map_or(rest.len(), |length| unit + length);
        let (part, tail) = rest.split_at_checked(end).ok_or_else(wrong)?;
        total = total.saturating_add(crate::config::human::parse_duration(part).ok_or_else(wrong)?);
        rest = tail;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

fn nothing(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Ok(String::new())
    } else {
        Err("there are flags only; a switch takes its value after =".to_owned())
    }
}

#[cfg(test)]
mod tests;
