//! The YAML as llm-d's strict decoder takes it: sections, entries and references, not yet what they mean.

use serde_json::Value;

use super::fields::{Entry, Fields, Problems};

/// Both spellings of the API group.
const NEW: &str = "llm-d.ai/v1alpha1";
const OLD: &str = "inference.networking.x-k8s.io/v1alpha1";
pub(super) const VERSIONS: [&str; 2] = [NEW, OLD];

/// What the document is.
pub(super) const KIND: &str = "EndpointPickerConfig";

/// The document, section by section.
pub(super) struct Document {
    pub(super) flow_control: bool,
    pub(super) plugins: Vec<PluginEntry>,
    pub(super) profiles: Vec<ProfileEntry>,
    pub(super) data: DataLayer,
    pub(super) flow: FlowEntry,
    pub(super) parsers: Vec<Reference>,
    pub(super) notes: Vec<String>,
}

pub(super) struct PluginEntry {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) parameters: Value,
}

pub(super) struct ProfileEntry {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) plugins: Vec<(Reference, Option<f64>)>,
}

/// The name of a plugin, and where it stands.
#[derive(Clone)]
pub(super) struct Reference {
    pub(super) path: String,
    pub(super) name: String,
}

#[derive(Default)]
pub(super) struct DataLayer {
    pub(super) sources: Vec<(Reference, Vec<Reference>)>,
    pub(super) discovery: Option<Reference>,
    pub(super) inject_defaults: bool,
}

#[derive(Default)]
pub(super) struct FlowEntry {
    /// Is anything but the detector said?
    pub(super) given: bool,
    pub(super) max_bytes: Option<u64>,
    pub(super) max_requests: Option<u64>,
    pub(super) request_ttl: Option<std::time::Duration>,
    pub(super) no_endpoint_ttl: Option<std::time::Duration>,
    pub(super) default_band: Option<BandEntry>,
    pub(super) default_negative_band: Option<BandEntry>,
    pub(super) bands: Vec<BandEntry>,
    pub(super) usage_limit: Option<Reference>,
    pub(super) detector: Option<Reference>,
    pub(super) eviction: bool,
}

pub(super) struct BandEntry {
    pub(super) path: String,
    pub(super) priority: i64,
    pub(super) max_bytes: Option<u64>,
    pub(super) max_requests: Option<u64>,
    pub(super) fairness: Option<Reference>,
    pub(super) ordering: Option<Reference>,
}

impl Document {
    pub(super) fn read(value: Value, problems: &Problems) -> Self {
        let mut fields = Fields::of(value, String::new(), problems);
        let mut notes = Vec::new();
        let version =
            fields.must("apiVersion", |fields| fields.one_of("apiVersion", &VERSIONS.map(|name| (name, name))));
        if version == Some(OLD) {
            notes.push(format!("apiVersion {OLD} is deprecated in llm-d: use {NEW}"));
        }
        let _kind = fields.must("kind", |fields| fields.one_of("kind", &[(KIND, ())]));
        let flow_control = gates(&mut fields);
        let plugins = fields.list("plugins").into_iter().map(|entry| plugin(entry, problems)).collect();
        let profiles = fields.list("schedulingProfiles").into_iter().map(|entry| profile(entry, problems)).collect();
        let data = fields.within("dataLayer").map(data_layer);
        let mut flow = fields.within("flowControl").map(flow).unwrap_or_default();
        let mut parsers = Vec::new();
        if let Some(mut handler) = fields.within("requestHandler") {
            parsers = references(&mut handler, "parsers");
        }
        if let Some(old) = fields.within("saturationDetector") {
            notes.push("saturationDetector is deprecated in llm-d: use flowControl.saturationDetector".to_owned());
            let reference = optional_reference(old);
            flow.detector = flow.detector.or(reference);
        }
        if let Some(old) = fields.within("parser") {
            notes.push("parser is deprecated in llm-d: use requestHandler.parsers".to_owned());
            let reference = reference(old);
            if parsers.is_empty() {
                parsers.push(reference);
            }
        }
        let data = data.unwrap_or(DataLayer { inject_defaults: true, ..DataLayer::default() });
        Self { flow_control, plugins, profiles, data, flow, parsers, notes }
    }
}

/// Is flow control on?
fn gates(fields: &mut Fields<'_>) -> bool {
    let mut flow_control = false;
    for (index, gate) in fields.texts("featureGates").into_iter().enumerate() {
        let (name, value) = gate.split_once('=').unwrap_or((&gate, "true"));
        let on = match value.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Some(true),
            "false" | "f" | "0" => Some(false),
            _ => None,
        };
        match (name, on) {
            ("flowControl", Some(on)) => flow_control = on,
            // Every replica of ours knows all endpoints, leading or not.
            ("haPopulateNonLeaderDatastore", Some(_)) => {}
            _ => {
                let rule =
                    "must be flowControl or haPopulateNonLeaderDatastore, with =true or =false behind it or nothing";
                fields.refuse(&format!("featureGates[{index}]"), rule, format!("{gate:?}"));
            }
        }
    }
    flow_control
}

fn plugin(entry: Entry, problems: &Problems) -> PluginEntry {
    let path = entry.path.clone();
    let mut fields = Fields::of(entry.value, entry.path, problems);
    let kind = fields.required("type");
    let name = fields.name("name").unwrap_or_else(|| kind.clone());
    PluginEntry { path, name, kind, parameters: fields.take("parameters").unwrap_or_default() }
}

fn profile(entry: Entry, problems: &Problems) -> ProfileEntry {
    let path = entry.path.clone();
    let mut fields = Fields::of(entry.value, entry.path, problems);
    let name = fields.required("name");
    let plugins = fields.list("plugins").into_iter().map(|entry| {
        let mut fields = Fields::of(entry.value, entry.path, problems);
        let weight = fields.not_negative("weight");
        (reference(fields), weight)
    });
    ProfileEntry { path, name, plugins: plugins.collect() }
}

/// `{pluginRef: name}`.
fn reference(mut fields: Fields<'_>) -> Reference {
    Reference { path: fields.at("pluginRef"), name: fields.required("pluginRef") }
}

fn optional_reference(mut fields: Fields<'_>) -> Option<Reference> {
    named(&mut fields, "pluginRef")
}

fn references(fields: &mut Fields<'_>, field: &'static str) -> Vec<Reference> {
    let problems = fields.problems();
    let entries = fields.list(field).into_iter();
    entries.map(|entry| reference(Fields::of(entry.value, entry.path, problems))).collect()
}

/// A field whose text is the name of a plugin.
fn named(fields: &mut Fields<'_>, field: &'static str) -> Option<Reference> {
    let path = fields.at(field);
    fields.name(field).map(|name| Reference { path, name })
}

fn data_layer(mut fields: Fields<'_>) -> DataLayer {
    let inject_defaults = fields.flag("injectDefaults").unwrap_or(true);
    let problems = fields.problems();
    let source = |entry: Entry| {
        let mut fields = Fields::of(entry.value, entry.path, problems);
        let extractors = references(&mut fields, "extractors");
        (reference(fields), extractors)
    };
    let sources = fields.list("sources").into_iter().map(source).collect();
    let discovery = fields.within("discovery").map(reference);
    for field in ["peerDiscovery", "crossReplicaSyncerPluginRef"] {
        if let Some(value) = fields.take(field) {
            let rule =
                "must be left out: no plugin of llm-d does it, and Kvasir's gateways share their state by themselves";
            fields.refuse(field, rule, super::fields::shown(&value));
        }
    }
    let _interval = fields.duration("crossReplicaSyncInterval");
    DataLayer { sources, discovery, inject_defaults }
}

fn flow(mut fields: Fields<'_>) -> FlowEntry {
    let mut entry = FlowEntry {
        given: false,
        max_bytes: fields.quantity("maxBytes"),
        max_requests: fields.quantity("maxRequests"),
        request_ttl: fields.duration("defaultRequestTTL"),
        no_endpoint_ttl: fields.duration("noEndpointRequestTTL"),
        default_band: fields.within("defaultPriorityBand").map(|fields| band(fields, None)),
        default_negative_band: fields.within("defaultNegativePriorityBand").map(|fields| band(fields, None)),
        bands: Vec::new(),
        usage_limit: named(&mut fields, "usageLimitPolicyPluginRef"),
        detector: fields.within("saturationDetector").and_then(optional_reference),
        eviction: fields.flag("enableEviction").unwrap_or(false),
    };
    let problems = fields.problems();
    for Entry { path, value } in fields.list("priorityBands") {
        let next = band(Fields::of(value, path, problems), Some(0));
        if entry.bands.iter().any(|band| band.priority == next.priority) {
            problems.refuse(&format!("{}.priority", next.path), "must be unique", next.priority);
        }
        entry.bands.push(next);
    }
    let limits = entry.max_bytes.is_some() || entry.max_requests.is_some();
    let times = entry.request_ttl.is_some() || entry.no_endpoint_ttl.is_some();
    let bands = entry.default_band.is_some() || entry.default_negative_band.is_some() || !entry.bands.is_empty();
    entry.given = limits || times || bands || entry.usage_limit.is_some() || entry.eviction;
    entry
}

/// `priority`: what it is when it is not said; `None`: it means nothing here.
fn band(mut fields: Fields<'_>, priority: Option<i64>) -> BandEntry {
    BandEntry {
        path: fields.at("").trim_end_matches('.').to_owned(),
        priority: fields.integer("priority", i32::MIN.into(), i32::MAX.into()).or(priority).unwrap_or_default(),
        max_bytes: fields.quantity("maxBytes"),
        max_requests: fields.quantity("maxRequests"),
        fairness: named(&mut fields, "fairnessPolicyRef"),
        ordering: named(&mut fields, "orderingPolicyRef"),
    }
}
