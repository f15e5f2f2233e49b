//! InferenceModelRewrite, `llm-d.ai/v1alpha2`: other models for the names that requests give, split by weight. Rules
//! are kept in their order: the first that matches wins; when several objects match, the older one does.

use serde::Deserialize;
use shared::table::rewrite::{LONGEST_MODEL, MOST_MODELS, MOST_RULES, MOST_TARGETS, MOST_WEIGHT};
use shared::wire;

use super::cluster::Cluster;
use super::object::{Kept, Object, spec};
use super::objective::PoolReference;
use crate::config::kubernetes::Membership;
use crate::config::{Discovery, Pool};

/// An InferenceModelRewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRewrite {
    /// The InferencePool, in the rewrite's namespace, whose requests it is for.
    pub pool: String,
    /// When it was made, RFC 3339 in UTC: earlier ones sort first.
    pub created: String,
    /// In their order.
    pub rules: Vec<Rule>,
}

/// One rule of a rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The models it is for; empty: all.
    pub models: Vec<String>,
    /// What they become; at least one. Either all have a weight or none has.
    pub targets: Vec<Target>,
}

/// What a model becomes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The name that the engines get.
    pub model_rewrite: String,
    /// Its part of the requests is this by the sum of all.
    #[serde(default)]
    pub weight: Option<u32>,
}

/// `pool` with the rules that `cluster` has for its InferencePool behind its own, older objects first.
#[must_use]
pub fn ruled(mut pool: Pool, cluster: &Cluster) -> Pool {
    if let Discovery::Kubernetes(membership @ Membership::InferencePool { name, .. }) = &pool.discovery {
        let objects = cluster.rewrites.of(membership.namespace(&cluster.own)).unwrap_or_default();
        let mut ours: Vec<_> = objects.iter().filter(|(_, rewrite)| rewrite.pool == *name).collect();
        ours.sort_by_key(|(name, rewrite)| (&rewrite.created, *name));
        let rules = &mut pool.settings.rewrites;
        rules.extend(ours.iter().flat_map(|(_, rewrite)| &rewrite.rules).map(Rule::wire));
        rules.truncate(MOST_RULES);
    }
    pool
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    pool_ref: PoolReference,
    rules: Vec<RawRule>,
}

#[derive(Deserialize)]
struct RawRule {
    #[serde(default)]
    matches: Option<Vec<Match>>,
    #[serde(default)]
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Match {
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    value: String,
    #[serde(default)]
    r#type: MatchType,
}

#[derive(Clone, Copy, Default, Deserialize)]
enum MatchType {
    #[default]
    Exact,
}

impl Kept for ModelRewrite {
    type Wire = Object;

    fn read(object: Object) -> Result<Self, String> {
        let raw: Spec = spec(object.spec)?;
        let rules =
            raw.rules.into_iter().enumerate().map(|(index, rule)| rule.read(index)).collect::<Result<_, _>>()?;
        let created = object.metadata.creation_timestamp.unwrap_or_default();
        Ok(Self { pool: raw.pool_ref.name, created, rules })
    }
}

impl Rule {
    fn wire(&self) -> wire::ModelRewrite {
        let target = |target: &Target| wire::RewriteTarget {
            model: target.model_rewrite.clone(),
            weight: target.weight.unwrap_or(0),
        };
        wire::ModelRewrite { models: self.models.clone(), targets: self.targets.iter().map(target).collect() }
    }
}

impl RawRule {
    fn read(self, index: usize) -> Result<Rule, String> {
        let here = format!("spec.rules[{index}].targets");
        let weighted = self.targets.iter().filter(|target| target.weight.is_some()).count();
        if self.targets.is_empty() {
            return Err(format!("{here}: must have a target, got none"));
        }
        if weighted != 0 && weighted != self.targets.len() {
            return Err(format!("{here}: must all have a weight or none, got {weighted} of {}", self.targets.len()));
        }
        if self.targets.len() > MOST_TARGETS {
            return Err(format!("{here}: must have up to {MOST_TARGETS} targets, got {}", self.targets.len()));
        }
        let models: Vec<String> = self.matches.into_iter().flatten().map(|Match { model }| exact(model)).collect();
        let here = format!("spec.rules[{index}]");
        if models.len() > MOST_MODELS {
            return Err(format!("{here}.matches: must be up to {MOST_MODELS}, got {}", models.len()));
        }
        // What one gateway refused, all would: the table with it would never be in force.
        let names = models.iter().chain(self.targets.iter().map(|target| &target.model_rewrite));
        if let Some(name) = names.into_iter().find(|name| !(1..=LONGEST_MODEL).contains(&name.len())) {
            return Err(format!("{here}: names must have 1 to {LONGEST_MODEL} bytes, got {name:?}"));
        }
        if let Some(weight) =
            self.targets.iter().find_map(|target| target.weight.filter(|&weight| weight > MOST_WEIGHT))
        {
            return Err(format!("{here}.targets: weights must be up to {MOST_WEIGHT}, got {weight}"));
        }
        Ok(Rule { models, targets: self.targets })
    }
}

fn exact(Model { value, r#type: MatchType::Exact }: Model) -> String {
    value
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::config::Config;
    use crate::kubernetes::cluster::Change;
    use crate::kubernetes::collection::{News, Scope};
    use crate::kubernetes::object::Named;

    fn read(rules: Value) -> Result<ModelRewrite, String> {
        let object = json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"poolRef": {"name": "llama"}, "rules": rules},
        });
        ModelRewrite::read(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn rules_keep_their_order_matches_and_weights() {
        let rewrite = read(json!([
            {"matches": [{"model": {"type": "Exact", "value": "a"}}, {"model": {"value": "b"}}],
             "targets": [{"modelRewrite": "x", "weight": 90}, {"modelRewrite": "y", "weight": 10}]},
            {"targets": [{"modelRewrite": "z"}]},
        ]))
        .unwrap();
        assert_eq!(rewrite.pool, "llama");
        assert_eq!(rewrite.rules[0].models, ["a", "b"]);
        assert_eq!(rewrite.rules[0].targets[1], Target { model_rewrite: "y".to_owned(), weight: Some(10) });
        assert_eq!(rewrite.rules[1].models, Vec::<String>::new());
    }

    /// A rule of target `to` for `models`.
    fn object(name: &str, pool: &str, created: &str, to: &str) -> Named<ModelRewrite> {
        let targets = vec![Target { model_rewrite: to.to_owned(), weight: Some(1) }];
        let rules = vec![Rule { models: vec!["m".to_owned()], targets }];
        let read = ModelRewrite { pool: pool.to_owned(), created: created.to_owned(), rules };
        Named { namespace: "n".into(), name: name.into(), read: Ok(Arc::new(read)) }
    }

    #[test]
    fn a_pools_own_rules_come_first_then_those_of_older_objects() {
        let mut cluster = Cluster::new("n");
        let listed = vec![
            object("b", "llama", "2026-01-02T00:00:00Z", "third"),
            object("c", "llama", "2026-01-01T00:00:00Z", "second"),
            object("a", "llama", "2026-01-02T00:00:00Z", "first of a day"),
            object("d", "other", "2025-01-01T00:00:00Z", "of another pool"),
        ];
        cluster.apply(&Scope::All, Change::Rewrites(News::Listed(listed)));
        let config = "
pools:
- {name: p, rewrites: [{targets: [{model: own}]}], discovery: {kubernetes: {inferencePool: llama}}}
- {name: q, rewrites: [{targets: [{model: own}]}], discovery: {static: {endpoints: []}}}
";
        let pools = Config::parse(config, Path::new("/")).unwrap().pools;
        let targets = |pool: &Pool| {
            let rules = ruled(pool.clone(), &cluster).settings.rewrites;
            rules.iter().map(|rule| rule.targets[0].model.clone()).collect::<Vec<_>>()
        };
        assert_eq!(targets(&pools[0]), ["own", "second", "first of a day", "third"]);
        assert_eq!(targets(&pools[1]), ["own"]);
    }

    #[test]
    fn no_number_of_objects_makes_more_rules_than_gateways_take() {
        let mut cluster = Cluster::new("n");
        let listed = (0..1100).map(|number| object(&number.to_string(), "llama", "", "x")).collect();
        cluster.apply(&Scope::All, Change::Rewrites(News::Listed(listed)));
        let config = "pools: [{name: p, discovery: {kubernetes: {inferencePool: llama}}}]";
        let pool = Config::parse(config, Path::new("/")).unwrap().pools.remove(0);
        assert_eq!(ruled(pool, &cluster).settings.rewrites.len(), MOST_RULES);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        let long = "x".repeat(257);
        for (rules, told) in [
            (json!([{"targets": []}]), "spec.rules[0].targets: must have a target"),
            (
                json!([{"targets": [{"modelRewrite": "x", "weight": 1}, {"modelRewrite": "y"}]}]),
                "spec.rules[0].targets: must all have a weight or none, got 1 of 2",
            ),
            (
                json!([{"matches": [{"model": {"type": "Regex", "value": "x"}}], "targets": [{"modelRewrite": "x"}]}]),
                "spec.rules[0].matches[0].model.type: ",
            ),
            (json!(7), "spec.rules: "),
            (json!([{"targets": [{"modelRewrite": ""}]}]), "spec.rules[0]: names must have"),
            (
                json!([{"targets": [{"modelRewrite": "x"}], "matches": [{"model": {"value": long}}]}]),
                "spec.rules[0]: names",
            ),
            (json!([{"targets": vec![json!({"modelRewrite": "x"}); 65]}]), "spec.rules[0].targets: must have up to 64"),
            (json!([{"targets": [{"modelRewrite": "x", "weight": 1_000_001}]}]), "spec.rules[0].targets: weights must"),
            (
                json!([{"targets": [{"modelRewrite": "x"}], "matches": vec![json!({"model": {"value": "x"}}); 257]}]),
                "spec.rules[0].matches: must be up to 256",
            ),
        ] {
            let error = read(rules).unwrap_err();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
