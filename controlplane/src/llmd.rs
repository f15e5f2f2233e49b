//! llm-d's `EndpointPickerConfig`, taken as it is: every plugin is executed, replaced by something better, kept for what is
//! not in force yet, or refused with the reason; the report says which. Nothing is skipped without a word.
//! What it means is llm-d's: names, parameters, defaults and formulas. Only what is out of range is refused more strictly:
//! llm-d takes its default instead and logs it.

mod document;
mod fields;
mod filters;
mod flow_control;
mod flow_policies;
mod flow_wire;
mod handlers;
mod outline;
mod plugin;
mod plugins;
mod producers;
mod profiles;
mod registry;
mod report;
mod request_control;
mod scorers;
mod sources;
mod stages;
mod units;

use std::collections::BTreeSet;

use serde_json::Value;
use shared::wire;

pub use flow_control::{Band, FlowControl};
pub use flow_policies::{ConcurrencyMode, Detector, Fairness, HoldbackDomain, Ordering, UsageLimit};
pub use handlers::{Decider, Disaggregation, Handler, Stage, StageOrder};
pub use outline::{explain, outline};
pub use report::{Fate, Report, Row};
pub use sources::FileDiscovery;

use self::document::{Document, KIND, ProfileEntry, Reference, VERSIONS};
use self::fields::Problems;
use self::plugin::{Data, Part};
use self::plugins::{PARSERS, Plugins};
use self::profiles::{Compiled, Compiler};
use crate::config::{Problem, deserialize};
use crate::scrape::attributes::Attributes;
use crate::scrape::engine::Engine;

/// What llm-d does without a configuration.
const DEFAULT: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins: [{type: queue-scorer}, {type: kv-cache-utilization-scorer}, {type: prefix-cache-scorer}]
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: prefix-cache-scorer, weight: 3}
";

/// A document, checked and translated.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The primary profile: what chooses the endpoint of a request.
    pub profile: wire::Profile,
    /// All profiles in the order of the document, the primary one included. The others wait for disaggregation.
    pub profiles: Vec<wire::Profile>,
    /// Endpoints in the steering header, 1..=8; `None`: the document does not say.
    pub choices: Option<u32>,
    /// The header of sessions, in lower case; `None`: there is no session affinity.
    pub session_header: Option<String>,
    /// Which profiles a request goes through.
    pub handler: Handler,
    /// Flow control; gateways get it as `FlowControl::wire`.
    pub flow_control: FlowControl,
    /// Who may refuse a request; gateways get them as `Loaded::admission`.
    pub admitters: Vec<Admitter>,
    /// Headers that name an agent's session, which is then the flow, in order; nothing reads them yet.
    pub agent_headers: Vec<String>,
    /// Which APIs are spoken, in the order of the document.
    pub parsers: Vec<Parser>,
    /// Where the metrics are, when it is said.
    pub metrics: MetricsAccess,
    /// Where the primary profile's attributes come from.
    pub attributes: Attributes,
    /// Where the endpoints are listed, when it is said.
    pub discovery: Option<FileDiscovery>,
    /// Does it ask for prefixes from KV events? That takes `exact` in the pool.
    pub wants_exact: bool,
    /// What became of every plugin.
    pub report: Report,
}

/// Where the engines' metrics are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsAccess {
    /// Starts with `/`.
    pub path: Option<String>,
    /// Instead of the endpoint's own.
    pub port: Option<u16>,
    /// Of endpoints whose label does not tell.
    pub engine: Option<Engine>,
}

/// Who may refuse a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Admitter {
    /// Sheddable ones that no endpoint is predicted to serve within the service levels.
    LatencySlo,
    /// Sheddable ones with probability `min(saturation^power * k, 1)`.
    Probabilistic {
        /// Waiting requests that saturate an endpoint, at least 1.
        queue_depth: u32,
        /// Share of the KV cache that saturates it, above 0.
        kv_used: f64,
        /// Above 0.
        power: f64,
        /// Above 0.
        k: f64,
    },
}

/// An API of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parser {
    /// OpenAI's.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// vLLM's tokens in, tokens out.
    VllmHttp,
    /// SGLang's `/generate`.
    SglangHttp,
    /// vLLM's gRPC.
    VllmGrpc,
    /// Vertex AI's.
    VertexAi,
    /// Any other: forwarded unread.
    Passthrough,
}

/// Reads a document. An empty one is llm-d's own default.
///
/// # Errors
/// Everything that is wrong with it: what, where, and what to do.
pub fn load(text: &str) -> Result<Loaded, Vec<Problem>> {
    let value: Value = deserialize(text).map_err(|error| {
        let rule = format!("must be the YAML of an {KIND}");
        vec![Problem { path: "the document".to_owned(), rule, value: error }]
    })?;
    load_value(value)
}

/// Reads a document that was parsed already.
///
/// # Errors
/// As `load`.
pub fn load_value(value: Value) -> Result<Loaded, Vec<Problem>> {
    if value.is_null() {
        return load(DEFAULT);
    }
    let problems = Problems::default();
    let loaded = assemble(Document::read(value, &problems), &problems);
    let problems = problems.into_inner();
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

/// Is this text such a document, whatever is wrong with it?
#[must_use]
pub fn is_endpoint_picker_config(text: &str) -> bool {
    let value: Result<Value, String> = deserialize(text);
    let ours = |value: &Value| {
        let version = value.get("apiVersion").and_then(Value::as_str);
        value.get("kind").is_some_and(|kind| kind == KIND) || version.is_some_and(|version| VERSIONS.contains(&version))
    };
    value.is_ok_and(|value| ours(&value))
}

fn assemble(mut document: Document, problems: &Problems) -> Loaded {
    let mut plugins = Plugins::read(std::mem::take(&mut document.plugins), problems);
    if document.profiles.is_empty() {
        document.profiles.push(profile_of_all(&plugins));
    }
    plugins.add_defaults(&document);
    plugins.check_needs(problems);
    let scraping = plugins.scraping(&document.data, problems);
    let names: Vec<&str> = document.profiles.iter().map(|profile| profile.name.as_str()).collect();
    for (index, profile) in document.profiles.iter().enumerate() {
        if names.iter().take(index).any(|earlier| *earlier == profile.name) && !profile.name.is_empty() {
            problems.refuse(&format!("{}.name", profile.path), "must be unique", format!("{:?} again", profile.name));
        }
    }
    let handler = stages::handler(&plugins, &names, problems);
    let mut notes = notes(&document, &handler, &names);
    for kind in plugins.iter().map(|plugin| plugin.kind.as_str()) {
        notes.extend(registry::successor(kind).map(|new| format!("{kind} is deprecated in llm-d: use {new}")));
    }
    let primary = stages::primary(&handler, &names);
    let compiler = Compiler { plugins: &plugins, scraping: &scraping, primary, problems };
    let compiled: Vec<Compiled> = document.profiles.iter().map(|entry| compiler.compile(entry)).collect();
    let is_primary = |compiled: &&Compiled| compiled.profile.name == primary;
    let first = compiled.iter().find(is_primary);
    let profile = first.map(|first| first.profile.clone()).unwrap_or_default();
    let discovery = |part: &Part| if let Part::Discovery(file) = part { Some(file.clone()) } else { None };
    let discovery = plugins.look_up(document.data.discovery.as_ref(), "an endpoint discovery", discovery, problems);
    let flow_control =
        flow_control::flow_control(std::mem::take(&mut document.flow), document.flow_control, &plugins, problems);
    let parsers = parsers(&document.parsers, &plugins, problems);
    let uses = |is: bool| {
        let chosen = compiled.iter().filter(|compiled| is_primary(compiled) == is);
        chosen.flat_map(|compiled| compiled.uses.iter().cloned()).collect::<BTreeSet<String>>()
    };
    let attributes = Attributes {
        custom: scraping.custom.into_iter().filter(|custom| profile.attributes.contains(&custom.attribute)).collect(),
        gpu: scraping.gpu.filter(|gpu| profile.attributes.contains(&gpu.attribute)),
    };
    Loaded {
        choices: first.and_then(|first| first.choices),
        session_header: first.and_then(|first| first.session_header.clone()),
        report: Report { rows: plugins.rows(&uses(true), &uses(false), document.flow_control), notes },
        profiles: compiled.into_iter().map(|compiled| compiled.profile).collect(),
        profile,
        handler,
        flow_control,
        admitters: collect(&plugins, |part| if let Part::Admitter(admitter) = part { Some(*admitter) } else { None }),
        agent_headers: collect(&plugins, |part| {
            if let Part::AgentIdentity(headers) = part { Some(headers.clone()) } else { None }
        })
        .concat(),
        parsers,
        metrics: MetricsAccess { path: scraping.path, port: scraping.port, engine: scraping.engine },
        attributes,
        discovery,
        wants_exact: plugins.iter().any(|plugin| plugin.produces() == Some(Data::PreciseMatches)),
    }
}

/// Without profiles there is one of all filters, scorers and pickers.
fn profile_of_all(plugins: &Plugins) -> ProfileEntry {
    let all = plugins.iter().filter(|plugin| plugin.schedules());
    let reference = |plugin: &plugin::Plugin| Reference { path: plugin.path.clone(), name: plugin.name.clone() };
    ProfileEntry {
        path: "schedulingProfiles".to_owned(),
        name: "default".to_owned(),
        plugins: all.map(|plugin| (reference(plugin), None)).collect(),
    }
}

fn parsers(named: &[Reference], plugins: &Plugins, problems: &Problems) -> Vec<Parser> {
    let parser = |part: &Part| if let Part::Parser(parser) = part { Some(*parser) } else { None };
    if named.is_empty() {
        return PARSERS.iter().filter_map(|name| plugins.default_of(name, parser)).collect();
    }
    named.iter().filter_map(|reference| plugins.look_up(Some(reference), "a parser", parser, problems)).collect()
}

fn collect<T>(plugins: &Plugins, part: impl Fn(&Part) -> Option<T>) -> Vec<T> {
    plugins.iter().flat_map(|plugin| &plugin.parts).filter_map(part).collect()
}

fn notes(document: &Document, handler: &Handler, names: &[&str]) -> Vec<String> {
    let mut notes = document.notes.clone();
    if document.flow.given && !document.flow_control {
        notes.push(
            "flowControl has no effect without the feature gate flowControl, except its saturationDetector".to_owned(),
        );
    }
    if document.flow_control {
        if document.flow.eviction {
            notes.push("enableEviction has no effect: no request in flight is ended for another".to_owned());
        }
        notes.push("limits of flowControl count in each worker of a gateway, as llm-d's do in each replica".to_owned());
    }
    if !document.parsers.is_empty() {
        notes.push("every API that Kvasir knows is read by its path, whether its parser is named or not".to_owned());
    }
    let run = stages::profiles(handler, names);
    for name in names.iter().filter(|name| !run.contains(*name)) {
        notes.push(format!("scheduling profile {name} is never run: the profile handler does not use it"));
    }
    notes
}

#[cfg(test)]
mod tests;
