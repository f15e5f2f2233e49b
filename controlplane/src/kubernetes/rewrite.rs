//! InferenceModelRewrite, `llm-d.ai/v1alpha2`: other models for the names that requests give, split by weight. Rules
//! are kept in their order: the first that matches wins; when several objects match, the older one does.

use serde::Deserialize;

use super::object::{Kept, Object, spec};
use super::objective::PoolReference;

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
        let models = self.matches.into_iter().flatten().map(|Match { model }| exact(model)).collect();
        Ok(Rule { models, targets: self.targets })
    }
}

fn exact(Model { value, r#type: MatchType::Exact }: Model) -> String {
    value
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

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

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
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
        ] {
            let error = read(rules).unwrap_err();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
