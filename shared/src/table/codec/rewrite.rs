//! Checks model rewriting off the wire.

use super::{Malformed, field};
use crate::table::rewrite::{LONGEST_MODEL, MOST_MODELS, MOST_RULES, MOST_TARGETS, MOST_WEIGHT, Rewrites, Split};
use crate::wire;

pub(super) fn rewrites(rules: Vec<wire::ModelRewrite>) -> Result<Rewrites, Malformed> {
    if rules.len() > MOST_RULES {
        return Err(field("rewrites", "must be at most 1024"));
    }
    let mut rewrites = Rewrites::default();
    for rule in rules {
        let wire::ModelRewrite { models, targets } = rule;
        if models.len() > MOST_MODELS || !models.iter().all(|model| is_name(model)) {
            return Err(field("rewrites.models", "must be at most 256, of 1 to 256 bytes"));
        }
        rewrites.add(models, split(targets)?);
    }
    Ok(rewrites)
}

fn split(targets: Vec<wire::RewriteTarget>) -> Result<Split, Malformed> {
    let within = targets.len() <= MOST_TARGETS && targets.iter().all(|target| target.weight <= MOST_WEIGHT);
    if !within || !targets.iter().all(|target| is_name(&target.model)) {
        return Err(field("rewrites.targets", "must be 1 to 64, of 1 to 256 bytes, weights up to 1000000"));
    }
    let split = Split::new(targets.into_iter().map(|target| (target.model, target.weight)).collect());
    split.ok_or(field("rewrites.targets", "must not be empty"))
}

fn is_name(model: &str) -> bool {
    (1..=LONGEST_MODEL).contains(&model.len())
}
