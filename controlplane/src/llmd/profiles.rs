//! Scheduling profiles as the wire's, with the attributes that they read numbered in the order of first mention.

use std::collections::BTreeSet;

use shared::wire;

use super::document::ProfileEntry;
use super::fields::Problems;
use super::plugin::{FilterPart, Part, Plugin, ScorerPart, Session};
use super::plugins::{Plugins, Scraping};
use super::sources::GPU_UTILIZATION;

/// Of a scorer whose weight is not said.
const USUAL_WEIGHT: f64 = 1.0;

/// Filters, or scorers, of a profile that gateways take.
const MOST_PLUGINS: usize = 64;

/// A profile, translated.
#[derive(Default)]
pub(super) struct Compiled {
    pub(super) profile: wire::Profile,
    /// As the picker says.
    pub(super) choices: Option<u32>,
    /// The header of the primary profile's sessions.
    pub(super) session_header: Option<String>,
    /// Does a filter keep to the session's endpoint?
    session_filter: bool,
    /// Names of its plugins.
    pub(super) uses: BTreeSet<String>,
    picker: Option<String>,
}

/// What a profile is translated with.
pub(super) struct Compiler<'a> {
    pub(super) plugins: &'a Plugins,
    pub(super) scraping: &'a Scraping,
    pub(super) primary: &'a str,
    pub(super) problems: &'a Problems,
}

impl Compiler<'_> {
    pub(super) fn compile(&self, entry: &ProfileEntry) -> Compiled {
        let mut compiled = Compiled::default();
        compiled.profile.name.clone_from(&entry.name);
        for (reference, weight) in &entry.plugins {
            let Some(plugin) = self.plugins.find(reference, self.problems) else { continue };
            if !plugin.schedules() {
                let rule =
                    format!("must name a filter, a scorer or a picker, and {} is {}", plugin.name, plugin.role());
                self.problems.refuse(&reference.path, rule, format!("{:?}", reference.name));
                continue;
            }
            let scores = plugin.parts.iter().any(|part| matches!(part, Part::Scorer(_)));
            if let Some(weight) = weight.filter(|_| !scores) {
                let path = reference.path.replace(".pluginRef", ".weight");
                let rule =
                    format!("must be left out: {} is {}, and only scorers have weights", plugin.name, plugin.role());
                self.problems.refuse(&path, rule, weight);
            }
            if let Some(other) = compiled.picker.as_ref().filter(|_| plugin.picks()) {
                let rule = format!("must not be a second picker: {other} is one already");
                self.problems.refuse(&reference.path, rule, format!("{:?}", reference.name));
                continue;
            }
            self.add(&mut compiled, plugin, weight.unwrap_or(USUAL_WEIGHT));
        }
        if compiled.picker.is_none() {
            let name = self.plugins.default_picker();
            let picker = self.plugins.iter().find(|plugin| plugin.name == name);
            picker.into_iter().for_each(|picker| self.add(&mut compiled, picker, USUAL_WEIGHT));
        }
        let most = compiled.profile.filters.len().max(compiled.profile.scorers.len());
        if most > MOST_PLUGINS {
            self.problems.refuse(
                &entry.path,
                format!("must have at most {MOST_PLUGINS} filters and as many scorers"),
                most,
            );
        }
        if compiled.session_filter {
            // It keeps to the endpoint: there is nothing left to weigh.
            let session = |scorer: &wire::Scorer| matches!(scorer.kind, Some(wire::scorer::Kind::Session(_)));
            compiled.profile.scorers.retain(|scorer| !session(scorer));
        }
        compiled
    }

    fn add(&self, compiled: &mut Compiled, plugin: &Plugin, weight: f64) {
        compiled.uses.insert(plugin.name.clone());
        for part in &plugin.parts {
            match part {
                Part::Filter(filter) => self.filter(compiled, plugin, filter),
                Part::Scorer(scorer) => self.scorer(compiled, plugin, scorer, weight),
                Part::Picker { picker, most } => {
                    compiled.profile.picker = (*picker).into();
                    compiled.picker = Some(plugin.name.clone());
                    compiled.choices = *most;
                }
                Part::Handler(_)
                | Part::Decider(_)
                | Part::Producer(_)
                | Part::Admitter(_)
                | Part::Fairness(_)
                | Part::Ordering(_)
                | Part::UsageLimit(_)
                | Part::Detector(_)
                | Part::Eviction
                | Part::Parser(_)
                | Part::Source(_)
                | Part::Extractor(_)
                | Part::Discovery(_)
                | Part::AgentIdentity(_) => {}
            }
        }
    }

    fn filter(&self, compiled: &mut Compiled, plugin: &Plugin, filter: &FilterPart) {
        use wire::filter::Kind;
        let kind = match filter {
            FilterPart::Ready(kind) => kind.clone(),
            FilterPart::Attribute(name, limit) => {
                Kind::Attribute(wire::AttributeLimit { attribute: self.attribute(compiled, plugin, name), ..*limit })
            }
            FilterPart::Session(session) => {
                compiled.session_filter |= self.session(compiled, plugin, session);
                return;
            }
            FilterPart::Open => return,
        };
        compiled.profile.filters.push(wire::Filter { name: plugin.name.clone(), kind: Some(kind) });
    }

    fn scorer(&self, compiled: &mut Compiled, plugin: &Plugin, scorer: &ScorerPart, weight: f64) {
        use wire::scorer::Kind;
        let kind = match scorer {
            ScorerPart::Ready(kind) => kind.clone(),
            ScorerPart::Attribute(name, score) => {
                Kind::Attribute(wire::AttributeScore { attribute: self.attribute(compiled, plugin, name), ..*score })
            }
            ScorerPart::Session(session) => {
                if !self.session(compiled, plugin, session) {
                    return;
                }
                Kind::Session(true)
            }
            ScorerPart::Even => return,
        };
        compiled.profile.scorers.push(wire::Scorer { name: plugin.name.clone(), weight, kind: Some(kind) });
    }

    /// Takes note of the session's header. False when the session is another stage's.
    fn session(&self, compiled: &mut Compiled, plugin: &Plugin, session: &Session) -> bool {
        if session.profile.as_ref().is_some_and(|profile| profile != self.primary) {
            return false;
        }
        if let Some(other) = compiled.session_header.as_ref().filter(|other| **other != session.header) {
            let path = format!("{}.parameters.encodedEndpointHeaderConfig.header", plugin.path);
            self.problems.refuse(&path, format!("must be {other}, as with the other plugin"), &session.header);
        }
        compiled.session_header = Some(session.header.clone());
        true
    }

    /// The number of an attribute, which somebody must publish.
    fn attribute(&self, compiled: &mut Compiled, plugin: &Plugin, name: &str) -> u32 {
        let published = if name == GPU_UTILIZATION {
            self.scraping.gpu.is_some()
        } else {
            self.scraping.custom.iter().any(|custom| custom.attribute == name)
        };
        if !published && !name.is_empty() {
            let rule = if name == GPU_UTILIZATION {
                "must be fed: dataLayer.sources needs a dcgm-data-source with a dcgm-extractor".to_owned()
            } else {
                let known: Vec<&str> = self.scraping.custom.iter().map(|custom| custom.attribute.as_str()).collect();
                let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
                format!("must be a customMetrics attribute of core-metrics-extractor ({known})")
            };
            self.problems.refuse(&format!("{}.parameters", plugin.path), rule, format!("attribute {name:?}"));
        }
        let attributes = &mut compiled.profile.attributes;
        let at = attributes.iter().position(|known| known == name).unwrap_or_else(|| {
            attributes.push(name.to_owned());
            attributes.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }
}
