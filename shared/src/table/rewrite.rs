//! Other models for the names that requests give: which one a request gets. A rule that names the model comes before one
//! for any name; of equals the first.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::draw::Draw;

/// Rules of a pool.
pub const MOST_RULES: usize = 1024;
/// Names that a rule is for.
pub const MOST_MODELS: usize = 256;
/// Models that a name is split between.
pub const MOST_TARGETS: usize = 64;
/// Bytes of a name.
pub const LONGEST_MODEL: usize = 256;
/// As in llm-d's InferenceModelRewrite.
pub const MOST_WEIGHT: u32 = 1_000_000;

/// Sets these draws apart from the one among equal endpoints, which has the same seed.
const DRAWS: u64 = 0x6D6F_6465_6C73_2121;

/// A pool's rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewrites {
    by_name: BTreeMap<String, Arc<Split>>,
    any: Option<Arc<Split>>,
}

/// What a name becomes: models with their shares.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    targets: Vec<(String, u32)>,
    /// Of all shares; above 0.
    sum: u32,
}

impl Rewrites {
    /// A further rule, for these names or, without any, for all. Where another is in force already, that one stays.
    pub fn add(&mut self, models: Vec<String>, split: Split) {
        let split = Arc::new(split);
        if models.is_empty() {
            self.any.get_or_insert(split);
            return;
        }
        for model in models {
            self.by_name.entry(model).or_insert_with(|| Arc::clone(&split));
        }
    }

    /// Is there any rule?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.any.is_none()
    }

    /// Is there a rule that names `model`?
    #[must_use]
    pub fn names(&self, model: &str) -> bool {
        self.by_name.contains_key(model)
    }

    /// Is there a rule for any name?
    #[must_use]
    pub const fn takes_any(&self) -> bool {
        self.any.is_some()
    }

    /// What `model` becomes for a request with this seed; `None`: no rule is for it.
    #[must_use]
    pub fn target(&self, model: &str, seed: u64) -> Option<&str> {
        self.by_name.get(model).or(self.any.as_ref())?.target(&mut Draw::from_seed(seed ^ DRAWS))
    }
}

impl Split {
    /// Models with their weights; where none has a weight, all have the same. `None` when there is nothing to choose from, or
    /// the weights are beyond counting.
    #[must_use]
    pub fn new(mut targets: Vec<(String, u32)>) -> Option<Self> {
        if targets.iter().all(|(_, weight)| *weight == 0) {
            targets.iter_mut().for_each(|(_, weight)| *weight = 1);
        }
        let sum = targets.iter().try_fold(0_u32, |sum, (_, weight)| sum.checked_add(*weight))?;
        (sum > 0).then_some(Self { targets, sum })
    }

    fn target(&self, draw: &mut Draw) -> Option<&str> {
        let mut left = draw.below(self.sum);
        let taken = self.targets.iter().find(|(_, weight)| match left.checked_sub(*weight) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        taken.map(|(model, _)| model.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(targets: &[(&str, u32)]) -> Split {
        Split::new(targets.iter().map(|&(model, weight)| (model.to_owned(), weight)).collect()).unwrap()
    }

    fn counts(rewrites: &Rewrites, model: &str, requests: u64) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for seed in 0..requests {
            *counts.entry(rewrites.target(model, seed).unwrap().to_owned()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn a_rule_that_names_the_model_comes_first_and_of_equals_the_first() {
        let mut rewrites = Rewrites::default();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert!(rewrites.is_empty() && rewrites.target("a", 1).is_none());
        rewrites.add(names(&[]), split(&[("any", 0)]));
        rewrites.add(names(&["a", "b"]), split(&[("first", 0)]));
        rewrites.add(names(&["b", "c"]), split(&[("second", 0)]));
        rewrites.add(names(&[]), split(&[("late", 0)]));
        for (model, target) in [("a", "first"), ("b", "first"), ("c", "second"), ("d", "any")] {
            assert_eq!(rewrites.target(model, 1), Some(target), "{model}");
        }
        assert!(rewrites.names("c") && !rewrites.names("d") && rewrites.takes_any());
    }

    #[test]
    fn requests_are_split_by_weight_and_evenly_without() {
        let mut rewrites = Rewrites::default();
        rewrites.add(vec!["w".to_owned()], split(&[("x", 900), ("none", 0), ("y", 100)]));
        rewrites.add(Vec::new(), split(&[("x", 0), ("y", 0), ("z", 0)]));
        let weighted = counts(&rewrites, "w", 10_000);
        assert!(weighted["x"].abs_diff(9000) < 150 && weighted.len() == 2, "{weighted:?}");
        let even = counts(&rewrites, "other", 9000);
        assert!(even.len() == 3 && even.values().all(|count| count.abs_diff(3000) < 200), "{even:?}");
    }

    #[test]
    fn the_same_request_gets_the_same_target() {
        let mut rewrites = Rewrites::default();
        rewrites.add(Vec::new(), split(&[("x", 1), ("y", 1)]));
        for seed in 0..100 {
            assert_eq!(rewrites.target("a", seed), rewrites.target("b", seed));
        }
    }

    #[test]
    fn nothing_to_choose_from_is_no_split() {
        assert_eq!(Split::new(Vec::new()), None);
        assert_eq!(Split::new(vec![(String::new(), u32::MAX), (String::new(), 1)]), None);
    }
}
