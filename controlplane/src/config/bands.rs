//! What of a pool's settings follows the objectives that its cluster has: the priorities that requests may name and, unless
//! the configuration fixes them, the bands of its flow control. An objective of the configuration wins over one of the same
//! name in the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shared::wire::{Objective, PoolSettings};

use super::validate::flow;
use crate::llmd;

/// Where the bands of a pool come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Bands {
    /// They are as in its settings, or there are none.
    #[default]
    Fixed,
    /// One for each priority that requests may have.
    ByPriority {
        /// The service level that bounds how long requests wait.
        ttft: Duration,
    },
    /// llm-d's: those of its configuration, and one like its default band for each other priority.
    LlmD(Box<llmd::FlowControl>),
}

impl Bands {
    /// `settings` for the objectives that are configured and `more`, by name.
    #[must_use]
    pub fn follow(&self, settings: &PoolSettings, more: &BTreeMap<String, i32>) -> PoolSettings {
        let mut settings = settings.clone();
        let configured = settings.objectives.iter().map(|one| (one.name.clone(), one.priority));
        let all: BTreeMap<String, i32> = more.clone().into_iter().chain(configured).collect();
        let priorities: BTreeSet<i32> = all.values().copied().chain([0]).collect();
        settings.objectives = all.into_iter().map(|(name, priority)| Objective { name, priority }).collect();
        if let Some(control) = &mut settings.flow {
            match self {
                Self::Fixed => {}
                Self::ByPriority { ttft } => control.bands = flow::implied(&priorities, *ttft),
                Self::LlmD(given) => control.bands = given.bands_for(&priorities),
            }
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::FlowControl;

    use super::*;

    fn settings() -> PoolSettings {
        let objectives = vec![Objective { name: "vip".to_owned(), priority: 10 }];
        PoolSettings { objectives, flow: Some(FlowControl::default()), ..PoolSettings::default() }
    }

    fn cluster(objectives: &[(&str, i32)]) -> BTreeMap<String, i32> {
        objectives.iter().map(|&(name, priority)| (name.to_owned(), priority)).collect()
    }

    #[test]
    fn what_is_configured_wins_over_the_clusters_objective_of_that_name() {
        let followed = Bands::Fixed.follow(&settings(), &cluster(&[("batch", -10), ("vip", 3)]));
        let named: Vec<(&str, i32)> = followed.objectives.iter().map(|one| (one.name.as_str(), one.priority)).collect();
        assert_eq!(named, [("batch", -10), ("vip", 10)]);
        assert_eq!(followed.flow, Some(FlowControl::default()), "given bands stay");
        assert_eq!(Bands::Fixed.follow(&settings(), &BTreeMap::new()), settings());
    }

    #[test]
    fn each_priority_has_its_band_unless_bands_are_given() {
        let bands = Bands::ByPriority { ttft: Duration::from_secs(2) };
        let followed = bands.follow(&settings(), &cluster(&[("batch", -10), ("also", -10)])).flow.unwrap();
        assert_eq!(followed.bands.iter().map(|band| band.priority).collect::<Vec<_>>(), [10, 0, -10]);
        let none = PoolSettings { flow: None, ..settings() };
        assert_eq!(bands.follow(&none, &cluster(&[("batch", -10)])).flow, None);
    }
}
