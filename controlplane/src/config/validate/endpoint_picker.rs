//! Raw → checked, for llm-d's configuration of a pool. What it says besides its profile is put where the pool's own fields
//! are read from: a pool that says it itself is not overruled, and one that contradicts it is refused.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use shared::wire::PoolSettings;

use super::super::{EndpointPicker, raw};
use super::{Around, Checks};
use crate::config::Problem;
use crate::config::bands::Bands;
use crate::llmd;

/// Takes the document out of `raw`, which stands at `path`, and fills in what it says.
pub(super) fn endpoint_picker(
    checks: &mut Checks,
    path: &str,
    raw: &mut raw::Pool,
    around: &Around<'_>,
) -> Option<EndpointPicker> {
    let at = format!("{path}.endpointPickerConfig");
    let (file, outcome, within) = match raw.endpoint_picker_config.take()? {
        Value::String(name) => {
            let file = around.folder.join(name);
            match (around.read)(&file) {
                Ok(text) => (Some(file.clone()), llmd::load(&text), format!("{}: ", file.display())),
                Err(error) => {
                    checks.refuse(&at, "must name a file that can be read", format!("{}: {error}", file.display()));
                    return None;
                }
            }
        }
        document @ Value::Object(_) => (None, llmd::load_value(document), format!("{at}.")),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
            checks.refuse(&at, "must name a file, or be the document itself", other);
            return None;
        }
    };
    match outcome {
        Ok(loaded) => {
            fill_in(checks, path, raw, &loaded);
            Some(EndpointPicker { file, loaded: Box::new(loaded) })
        }
        Err(problems) => {
            let located = |problem: Problem| Problem { path: format!("{within}{}", problem.path), ..problem };
            checks.0.extend(problems.into_iter().map(located));
            None
        }
    }
}

/// A pool without a source has the document's.
pub(super) fn discovery(picker: &EndpointPicker, raw: &mut raw::Pool) {
    let Some(file) = &picker.loaded.discovery else { return };
    let source = raw.discovery.get_or_insert_default();
    if source.file.is_none() && source.fixed.is_none() && source.kubernetes.is_none() {
        source.file = Some(raw::FileDiscovery { path: PathBuf::from(&file.path), watch: file.watch });
    }
}

/// What the document says of flow control and admission.
pub(super) fn flow(
    checks: &mut Checks,
    path: &str,
    settings: &mut PoolSettings,
    bands: &mut Bands,
    loaded: &llmd::Loaded,
) {
    let given = &loaded.flow_control;
    if given.enabled && settings.flow.is_some() {
        let rule = "must be left out: endpointPickerConfig has flow control (feature gate flowControl)";
        checks.refuse(&format!("{path}.flowControl"), rule, "both");
        return;
    }
    let priorities: BTreeSet<i32> = settings.objectives.iter().map(|one| one.priority).chain([0]).collect();
    if let Some(control) = given.wire(&priorities) {
        settings.flow = Some(control);
        *bands = Bands::LlmD(Box::new(given.clone()));
    }
    settings.admission = loaded.admission(settings.flow.is_some());
}

fn fill_in(checks: &mut Checks, path: &str, raw: &mut raw::Pool, loaded: &llmd::Loaded) {
    let said = "must be left out, or be as endpointPickerConfig says";
    if let Some(choices) = loaded.choices {
        let own = *raw.choices.get_or_insert(choices);
        if own != choices {
            checks.refuse(&format!("{path}.choices"), format!("{said} (maxNumOfEndpoints {choices})"), own);
        }
    }
    if let Some(header) = &loaded.session_header {
        let own = raw.session.get_or_insert_with(|| raw::Session { header: header.clone() });
        if !own.header.eq_ignore_ascii_case(header) {
            let got = format!("{:?}", own.header);
            checks.refuse(&format!("{path}.session.header"), format!("{said} ({header})"), got);
        }
    }
    raw.engine = raw.engine.or(loaded.metrics.engine);
    raw.scrape.port = raw.scrape.port.or(loaded.metrics.port);
    raw.scrape.path = raw.scrape.path.take().or_else(|| loaded.metrics.path.clone());
}
