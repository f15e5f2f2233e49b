//! The profile handler with its profiles and deciders looked up, and which profile is the primary one.

use super::document::Reference;
use super::fields::Problems;
use super::handlers::{Decider, Disaggregation, DisaggregationDraft, Handler, HandlerDraft, Stage, StageOrder};
use super::plugin::{Part, Plugin};
use super::plugins::Plugins;

/// The one handler of `plugins`, for the profiles called `names`.
pub(super) fn handler(plugins: &Plugins, names: &[&str], problems: &Problems) -> Handler {
    let mut handlers = plugins.handlers();
    let Some(plugin) = handlers.next() else {
        let rule = "must have a profile handler: there are several scheduling profiles";
        problems.refuse("plugins", rule, "none");
        return Handler::Single;
    };
    for other in handlers {
        let rule = format!("must not be a second profile handler: {} is one already", plugin.name);
        problems.refuse(&format!("{}.type", other.path), rule, format!("{:?}", other.kind));
    }
    let draft = plugin.parts.iter().find_map(|part| if let Part::Handler(draft) = part { Some(draft) } else { None });
    match draft {
        None | Some(HandlerDraft::Single) => {
            one_profile(plugin, names, problems);
            Handler::Single
        }
        Some(HandlerDraft::DataParallel { primary_port }) => {
            one_profile(plugin, names, problems);
            Handler::DataParallel { primary_port: *primary_port }
        }
        Some(HandlerDraft::Header { header, default }) => {
            if names.len() > 1 {
                exists(&format!("{}.parameters.defaultProfile", plugin.path), default, names, problems);
            }
            Handler::Header { header: header.clone(), default: default.clone() }
        }
        Some(HandlerDraft::Disaggregated(draft)) => {
            let at = format!("{}.parameters.profiles", plugin.path);
            exists(&format!("{at}.decode"), &draft.decode, names, problems);
            let disaggregation = disaggregation(draft, plugins, names, problems);
            for (field, stage) in [("prefill", &disaggregation.prefill), ("encode", &disaggregation.encode)] {
                if let Some(stage) = stage {
                    exists(&format!("{at}.{field}"), &stage.profile, names, problems);
                }
            }
            Handler::Disaggregated(disaggregation)
        }
    }
}

/// The profile that chooses the endpoint of a request.
pub(super) fn primary<'a>(handler: &'a Handler, names: &[&'a str]) -> &'a str {
    let only = names.first().copied().unwrap_or_default();
    match handler {
        Handler::Single | Handler::DataParallel { .. } => only,
        Handler::Header { default, .. } => {
            if names.len() > 1 {
                default
            } else {
                only
            }
        }
        Handler::Disaggregated(disaggregation) => &disaggregation.decode,
    }
}

/// The profiles that the handler may run.
pub(super) fn profiles<'a>(handler: &'a Handler, names: &[&'a str]) -> Vec<&'a str> {
    match handler {
        Handler::Single | Handler::DataParallel { .. } | Handler::Header { .. } => names.to_vec(),
        Handler::Disaggregated(disaggregation) => {
            let stages = [&disaggregation.prefill, &disaggregation.encode].into_iter().flatten();
            let stages = stages.map(|stage| stage.profile.as_str());
            stages.chain([disaggregation.decode.as_str()]).collect()
        }
    }
}

fn one_profile(plugin: &Plugin, names: &[&str], problems: &Problems) {
    if names.len() > 1 {
        let rule = format!("must be exactly one for {}; a disagg-profile-handler takes several", plugin.name);
        problems.refuse("schedulingProfiles", rule, names.join(", "));
    }
}

fn exists(path: &str, name: &str, names: &[&str], problems: &Problems) {
    if !names.contains(&name) {
        let rule = format!("must name a scheduling profile ({})", names.join(", "));
        problems.refuse(path, rule, format!("{name:?}"));
    }
}

fn disaggregation(
    draft: &DisaggregationDraft,
    plugins: &Plugins,
    names: &[&str],
    problems: &Problems,
) -> Disaggregation {
    let decider = |part: &Part| if let Part::Decider(decider) = part { Some(*decider) } else { None };
    let stage = |profile: &str, field: &str, name: &Option<String>| {
        let path =
            if draft.path.ends_with("deciders") { format!("{}.{field}", draft.path) } else { draft.path.clone() };
        let reference = Reference { path, name: name.clone()? };
        let decider = plugins.look_up(Some(&reference), "a decider", decider, problems)?;
        Some(Stage { profile: profile.to_owned(), decider })
    };
    let mut prefill = stage(&draft.prefill, "prefill", &draft.prefill_decider);
    if draft.order == StageOrder::PrefillFirst && names.contains(&draft.prefill.as_str()) {
        prefill = Some(Stage { profile: draft.prefill.clone(), decider: Decider::Always });
    }
    Disaggregation {
        order: draft.order,
        decode: draft.decode.clone(),
        prefill,
        encode: stage(&draft.encode, "encode", &draft.encode_decider),
    }
}
