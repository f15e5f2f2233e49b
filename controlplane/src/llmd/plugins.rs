//! All plugins of a document, those that llm-d's defaults add included: found by name, by what they are for, and told apart
//! by who uses them.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::Value;

use super::document::{DataLayer, Document, PluginEntry, Reference};
use super::fields::{Fields, Problems, nearest};
use super::plugin::{Data, Made, Need, Parameters, Part, Plugin};
use super::registry::{make, unknown_type};
use super::report::{Fate, Row};
use super::sources::{Extractor, Source};
use crate::scrape::attributes::{Custom, Gpu};
use crate::scrape::engine::Engine;

/// Parsers that llm-d has when none is named.
pub(super) const PARSERS: [&str; 4] = ["openai-parser", "anthropic-parser", "vllmhttp-parser", "passthrough-parser"];

/// See the module.
pub(super) struct Plugins {
    list: Vec<Plugin>,
    /// Names that something refers to.
    used: RefCell<BTreeSet<String>>,
}

/// What the data layer says of our scraper.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scraping {
    pub(super) path: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) engine: Option<Engine>,
    pub(super) custom: Vec<Custom>,
    pub(super) gpu: Option<Gpu>,
}

impl Plugins {
    pub(super) fn read(entries: Vec<PluginEntry>, problems: &Problems) -> Self {
        let mut list: Vec<Plugin> = Vec::with_capacity(entries.len());
        for entry in entries {
            if list.iter().any(|earlier| earlier.name == entry.name) {
                let rule = "must be unique (a plugin without a name is called by its type)";
                problems.refuse(&format!("{}.name", entry.path), rule, format!("{:?} again", entry.name));
            }
            list.push(instance(entry, problems));
        }
        Self { list, used: RefCell::default() }
    }

    /// What llm-d adds: a picker, a handler, producers of what is read, parsers, policies, and the scraper.
    pub(super) fn add_defaults(&mut self, document: &Document) {
        if !self.list.iter().any(Plugin::picks) {
            self.add("max-score-picker");
        }
        if document.profiles.len() <= 1 && self.handlers().count() == 0 {
            self.add("single-profile-handler");
        }
        let mut at = 0;
        while let Some(plugin) = self.list.get(at) {
            let missing: Vec<&str> = plugin.needs.iter().filter_map(|need| self.missing_producer(need)).collect();
            missing.into_iter().for_each(|kind| self.add(kind));
            at += 1;
        }
        let parsers: Vec<String> = match document.parsers.as_slice() {
            [] => PARSERS.map(str::to_owned).to_vec(),
            named => named.iter().map(|reference| reference.name.clone()).collect(),
        };
        for parser in parsers.iter().filter(|parser| parser.ends_with("-parser")) {
            self.add(parser);
        }
        for policy in [
            "fcfs-ordering-policy",
            "global-strict-fairness-policy",
            "static-usage-limit-policy",
            "utilization-detector",
        ] {
            let other = policy == "utilization-detector"
                && document.flow.detector.as_ref().is_some_and(|detector| detector.name != policy);
            if !other {
                self.add(policy);
            }
        }
        if injects_scraper(&document.data) {
            self.add("metrics-data-source");
            self.add("core-metrics-extractor");
        }
    }

    /// Adds one of this type, called by it, unless that name is taken.
    fn add(&mut self, kind: &str) {
        if self.list.iter().any(|plugin| plugin.name == kind) {
            return;
        }
        // Without parameters nothing can be wrong with them.
        let problems = Problems::default();
        let entry =
            PluginEntry { path: String::new(), name: kind.to_owned(), kind: kind.to_owned(), parameters: Value::Null };
        self.list.push(Plugin { added: true, ..instance(entry, &problems) });
    }

    /// The type to add so that somebody produces what is needed.
    fn missing_producer(&self, need: &Need) -> Option<&'static str> {
        let (kind, _) = need.data.default_producer();
        let produced = self.list.iter().filter_map(Plugin::produces).any(|data| need.data.is_served_by(data));
        let wanted = need.producer.as_deref().is_none_or(|name| name == kind);
        (!produced && wanted).then_some(kind)
    }

    /// Every plugin that is named as a producer must be one.
    pub(super) fn check_needs(&self, problems: &Problems) {
        for need in self.list.iter().flat_map(|plugin| &plugin.needs) {
            let Some(name) = &need.producer else { continue };
            let right = |plugin: &Plugin| plugin.produces().is_some_and(|data| need.data.is_served_by(data));
            if !self.list.iter().any(|plugin| plugin.name == *name && right(plugin)) {
                let kind = need.data.default_producer().0;
                let rule = format!("must name a plugin of this document that does the work of {kind}");
                problems.refuse(&need.path, rule, format!("{name:?}"));
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Plugin> {
        self.list.iter()
    }

    pub(super) fn handlers(&self) -> impl Iterator<Item = &Plugin> {
        self.list.iter().filter(|plugin| plugin.parts.iter().any(|part| matches!(part, Part::Handler(_))))
    }

    /// The name of the picker of profiles that name none: the first that there is.
    pub(super) fn default_picker(&self) -> String {
        self.list.iter().find(|plugin| plugin.picks()).map(|plugin| plugin.name.clone()).unwrap_or_default()
    }

    /// The plugin of that name, which from now on is used; refused when there is none.
    pub(super) fn find(&self, reference: &Reference, problems: &Problems) -> Option<&Plugin> {
        let found = self.list.iter().find(|plugin| plugin.name == reference.name);
        if found.is_some_and(|plugin| plugin.refused) {
            return None;
        }
        match found {
            Some(_) => {
                self.used.borrow_mut().insert(reference.name.clone());
            }
            None if reference.name.is_empty() => {}
            None => {
                let names: Vec<&str> = self.list.iter().map(|plugin| plugin.name.as_str()).collect();
                let hint = nearest(&reference.name, &names).map(|name| format!("; did you mean {name}?"));
                let rule = format!("must name an entry of plugins{}", hint.unwrap_or_default());
                problems.refuse(&reference.path, rule, format!("{:?}", reference.name));
            }
        }
        found
    }

    /// What `part` takes out of the named plugin; refused when it is something else than `wanted`.
    pub(super) fn look_up<T>(
        &self,
        reference: Option<&Reference>,
        wanted: &str,
        part: impl Fn(&Part) -> Option<T>,
        problems: &Problems,
    ) -> Option<T> {
        let reference = reference?;
        let plugin = self.find(reference, problems)?;
        let found = plugin.parts.iter().find_map(part);
        if found.is_none() {
            let rule = format!("must name {wanted}, and {} is {}", plugin.name, plugin.role());
            problems.refuse(&reference.path, rule, format!("{:?}", reference.name));
        }
        found
    }

    /// The same of the plugin that llm-d takes when none is named: the one that is called like its type.
    pub(super) fn default_of<T>(&self, name: &str, part: impl Fn(&Part) -> Option<T>) -> Option<T> {
        let plugin = self.list.iter().find(|plugin| plugin.name == name)?;
        self.used.borrow_mut().insert(name.to_owned());
        plugin.parts.iter().find_map(part)
    }

    /// Follows the references of the data layer.
    pub(super) fn scraping(&self, data: &DataLayer, problems: &Problems) -> Scraping {
        let mut scraping = Scraping::default();
        let mut sources: Vec<(Reference, Vec<Reference>)> = data.sources.clone();
        if injects_scraper(data) {
            let named = |name: &str| Reference { path: String::new(), name: name.to_owned() };
            sources.push((named("metrics-data-source"), vec![named("core-metrics-extractor")]));
        }
        for (source, extractors) in &sources {
            let kind = |part: &Part| if let Part::Source(source) = part { Some(source.clone()) } else { None };
            let from = self.look_up(Some(source), "a data source", kind, problems);
            if let Some(Source::Metrics { path, port }) = &from {
                scraping.path = scraping.path.or_else(|| path.clone());
                scraping.port = scraping.port.or(*port);
            }
            for reference in extractors {
                self.extract(reference, from.as_ref(), &mut scraping, problems);
            }
        }
        scraping
    }

    fn extract(&self, reference: &Reference, from: Option<&Source>, scraping: &mut Scraping, problems: &Problems) {
        let (Some(plugin), Some(from)) = (self.find(reference, problems), from) else { return };
        let fits = plugin.parts.iter().any(|part| match (from, part) {
            (Source::Metrics { .. }, Part::Extractor(Extractor::Core { engine, custom })) => {
                scraping.engine = scraping.engine.or(*engine);
                scraping.custom.extend(custom.iter().cloned());
                true
            }
            (Source::Gpu(gpu), Part::Extractor(Extractor::Gpu)) => {
                scraping.gpu = Some(gpu.clone());
                true
            }
            (Source::Models, Part::Extractor(Extractor::Models))
            | (
                Source::Notifications,
                Part::Extractor(Extractor::Topology) | Part::Producer(Data::PreciseMatches | Data::Multimodal),
            ) => true,
            _ => false,
        });
        if !fits {
            let rule =
                format!("must name an extractor that reads this source, and {} is {}", plugin.name, plugin.role());
            problems.refuse(&reference.path, rule, format!("{:?}", reference.name));
        }
    }

    /// What became of each. `primary` names those that the primary profile uses, `others` those of the other profiles.
    /// `flows`: is flow control on?
    pub(super) fn rows(&self, primary: &BTreeSet<String>, others: &BTreeSet<String>, flows: bool) -> Vec<Row> {
        let fate = |plugin: &Plugin| {
            let flow = |part: &Part| {
                matches!(part, Part::Fairness(_) | Part::Ordering(_) | Part::UsageLimit(_) | Part::Eviction)
            };
            if !flows && plugin.parts.iter().any(flow) {
                return Fate::Unused("the feature gate flowControl is off".to_owned());
            }
            let used = self.used.borrow().contains(&plugin.name);
            let by_profile = plugin.schedules();
            let detects = plugin.parts.iter().any(|part| matches!(part, Part::Detector(_)));
            if primary.contains(&plugin.name) {
                return if detects { Fate::Executed } else { plugin.fate.clone() };
            }
            if others.contains(&plugin.name) {
                return Fate::kept("only profiles of other stages use it");
            }
            match () {
                () if used || !plugin.waits_to_be_named() => plugin.fate.clone(),
                () if by_profile && !detects => Fate::Unused("no scheduling profile refers to it".to_owned()),
                () => Fate::Unused("nothing refers to it".to_owned()),
            }
        };
        let row = |plugin: &Plugin| Row {
            name: plugin.name.clone(),
            kind: plugin.kind.clone(),
            added: plugin.added,
            fate: fate(plugin),
        };
        // What was added and turned out to be of no use is nobody's business.
        let shown = |row: &Row| !(row.added && matches!(row.fate, Fate::Unused(_)));
        self.list.iter().map(row).filter(shown).collect()
    }
}

/// Does llm-d add its scraper to what is configured?
fn injects_scraper(data: &DataLayer) -> bool {
    data.inject_defaults && !data.sources.iter().any(|(source, _)| source.name == "metrics-data-source")
}

/// One plugin; what is wrong with it is refused here and nowhere else.
fn instance(entry: PluginEntry, problems: &Problems) -> Plugin {
    let PluginEntry { path, name, kind, parameters } = entry;
    let fields = Fields::of(parameters, format!("{path}.parameters"), problems);
    let mut parameters = Parameters { fields, needs: Vec::new() };
    let made = make(&kind, &mut parameters).unwrap_or_else(|| {
        parameters.fields.forget();
        if !kind.is_empty() {
            problems.refuse(&format!("{path}.type"), unknown_type(&kind), format!("{kind:?}"));
        }
        Made { parts: Vec::new(), fate: Fate::Executed, refused: true }
    });
    let needs = std::mem::take(&mut parameters.needs);
    let Made { parts, fate, refused } = made;
    Plugin { name, kind, path, parts, fate, needs, refused, added: false }
}
