//! Other models for names: raw → as gateways get them. What gateways would refuse is refused here.

use shared::table::rewrite::{LONGEST_MODEL, MOST_MODELS, MOST_RULES, MOST_TARGETS, MOST_WEIGHT};
use shared::wire;

use super::Checks;
use crate::config::raw;

pub(super) fn rewrites(checks: &mut Checks, path: &str, raw: &[raw::Rewrite]) -> Vec<wire::ModelRewrite> {
    if raw.len() > MOST_RULES {
        checks.refuse(path, format!("must hold up to {MOST_RULES} rules"), raw.len());
    }
    raw.iter().enumerate().map(|(index, rule)| rewrite(checks, &format!("{path}[{index}]"), rule)).collect()
}

fn rewrite(checks: &mut Checks, path: &str, raw: &raw::Rewrite) -> wire::ModelRewrite {
    if raw.models.len() > MOST_MODELS {
        checks.refuse(&format!("{path}.models"), format!("must hold up to {MOST_MODELS} names"), raw.models.len());
    }
    for (index, model) in raw.models.iter().enumerate() {
        name(checks, &format!("{path}.models[{index}]"), model);
    }
    let at = format!("{path}.targets");
    if raw.targets.is_empty() || raw.targets.len() > MOST_TARGETS {
        checks.refuse(&at, format!("must hold 1 to {MOST_TARGETS} models"), raw.targets.len());
    }
    let weighted = raw.targets.iter().filter(|target| target.weight.is_some()).count();
    if weighted != 0 && weighted != raw.targets.len() {
        checks.refuse(&at, "must all have a weight or none", format!("{weighted} of {}", raw.targets.len()));
    }
    let targets = raw.targets.iter().enumerate();
    let targets = targets.map(|(index, target)| self::target(checks, &format!("{at}[{index}]"), target)).collect();
    wire::ModelRewrite { models: raw.models.clone(), targets }
}

fn target(checks: &mut Checks, path: &str, raw: &raw::Target) -> wire::RewriteTarget {
    name(checks, &format!("{path}.model"), &raw.model);
    let weight = raw.weight.map(|weight| checks.number(&format!("{path}.weight"), Some(weight), 1, (1, MOST_WEIGHT)));
    wire::RewriteTarget { model: raw.model.clone(), weight: weight.unwrap_or(0) }
}

fn name(checks: &mut Checks, path: &str, name: &str) {
    if name.is_empty() || name.len() > LONGEST_MODEL {
        checks.refuse(path, format!("must be a name of 1 to {LONGEST_MODEL} bytes"), format!("{name:?}"));
    }
}
