//! What one source says now, pure as far as a cluster's snapshot goes: which list is new, and why there may be no newer
//! one. A pod becomes an endpoint when it is ready for the first time; from then on it stays one, draining while it is
//! not ready, until it is gone: a pod that only starts must not be probed into ill health.

use std::collections::{BTreeMap, BTreeSet};

use shared::identity::MAX_ENDPOINTS;

use crate::config::kubernetes::Membership;
use crate::datastore::Discovered;
use crate::kubernetes::cluster::{Cluster, Members};
use crate::kubernetes::endpoints::endpoints;

/// What a source has to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The whole list, when it is another.
    pub list: Option<Vec<Discovered>>,
    /// Priorities by name of objective, when they are others.
    pub priorities: Option<BTreeMap<String, i32>>,
    /// Why there is no newer one.
    pub fault: Option<String>,
}

/// Reads one pool's endpoints off the cluster.
#[derive(Debug)]
pub struct Pods {
    membership: Membership,
    last: Option<Members>,
    /// Addresses that were listed last.
    seen: BTreeSet<String>,
    /// Priorities that were told last.
    priorities: Option<BTreeMap<String, i32>>,
}

impl Pods {
    /// Nothing was read yet.
    #[must_use]
    pub const fn new(membership: Membership) -> Self {
        Self { membership, last: None, seen: BTreeSet::new(), priorities: None }
    }

    /// What the snapshot says; `None` while it does not know.
    pub fn read(&mut self, cluster: &Cluster) -> Option<Told> {
        let members = cluster.members(&self.membership)?;
        let mut fault = members.fault.clone();
        let list = if self.last.as_ref().is_some_and(|last| last.same(&members)) {
            None
        } else {
            let mut list = self.list(&members);
            list.retain(|endpoint| !endpoint.draining || self.seen.contains(&endpoint.address));
            let left_out = list.len().saturating_sub(usize::from(MAX_ENDPOINTS));
            if left_out > 0 {
                list.sort_by_key(|endpoint| endpoint.draining);
                list.truncate(usize::from(MAX_ENDPOINTS));
                fault =
                    fault.or(Some(format!("{left_out} endpoints more than the {MAX_ENDPOINTS} that a pool may have")));
            }
            self.seen = list.iter().map(|endpoint| endpoint.address.clone()).collect();
            Some(list)
        };
        self.last = Some(members);
        let priorities = cluster.priorities(&self.membership).filter(|now| self.priorities.as_ref() != Some(now));
        if priorities.is_some() {
            self.priorities.clone_from(&priorities);
        }
        Some(Told { list, priorities, fault })
    }

    fn list(&self, members: &Members) -> Vec<Discovered> {
        match (&members.pool, &members.pods) {
            (Some(pool), Some(pods)) => endpoints(pool, pods),
            (None, _) | (_, None) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kubernetes::cluster::Change;
    use crate::kubernetes::collection::{News, Scope};
    use crate::kubernetes::object::Named;
    use crate::kubernetes::objective::InferenceObjective;
    use crate::kubernetes::pod::Pod;

    fn pods() -> Pods {
        let labels = BTreeMap::from([("app".to_owned(), "vllm".to_owned())]);
        Pods::new(Membership::Selector { namespace: None, labels, ports: vec![8000] })
    }

    fn pod(number: u16, ready: bool) -> Named<Pod> {
        let [high, low] = number.to_be_bytes();
        let pod = Pod {
            name: format!("p{number}"),
            namespace: "n".to_owned(),
            node: None,
            labels: BTreeMap::from([("app".to_owned(), "vllm".to_owned())]),
            ip: Some(std::net::IpAddr::from([10, 0, high, low])),
            ready,
            active_ports: None,
            declared_ports: BTreeSet::new(),
        };
        Named { namespace: "n".into(), name: pod.name.as_str().into(), read: Ok(Arc::new(pod)) }
    }

    fn cluster(listed: Vec<Named<Pod>>) -> Cluster {
        let mut cluster = Cluster::new("n");
        tell(&mut cluster, News::Listed(listed));
        cluster
    }

    fn tell(cluster: &mut Cluster, news: News<Pod>) {
        cluster.apply(&Scope::Namespace("n".into()), Change::Pods(news));
    }

    fn states(told: Option<Told>) -> Vec<bool> {
        told.unwrap().list.unwrap().iter().map(|endpoint| endpoint.draining).collect()
    }

    #[test]
    fn a_pod_is_listed_from_when_it_is_first_ready_and_drains_from_then_on() {
        let mut pods = pods();
        let mut cluster = cluster(vec![pod(1, false)]);
        assert!(states(pods.read(&cluster)).is_empty());
        tell(&mut cluster, News::Changed(pod(1, true)));
        assert_eq!(states(pods.read(&cluster)), [false]);
        tell(&mut cluster, News::Changed(pod(1, false)));
        assert_eq!(states(pods.read(&cluster)), [true]);
        tell(&mut cluster, News::Gone { namespace: "n".into(), name: "p1".into() });
        assert!(states(pods.read(&cluster)).is_empty());
    }

    #[test]
    fn nothing_is_listed_again_and_a_lost_server_keeps_the_list() {
        let mut pods = pods();
        let mut cluster = cluster(vec![pod(1, true)]);
        assert_eq!(states(pods.read(&cluster)), [false]);
        assert_eq!(pods.read(&cluster), Some(Told::default()));
        tell(&mut cluster, News::Lost("refused".to_owned()));
        let fault = Some("Pod not followed: refused".to_owned());
        assert_eq!(pods.read(&cluster), Some(Told { list: None, priorities: None, fault }));
        tell(&mut cluster, News::Reached);
        assert_eq!(pods.read(&cluster), Some(Told::default()));
    }

    #[test]
    fn priorities_are_those_of_the_pools_own_objectives_and_told_when_they_change() {
        let objective = |name: &str, pool: &str, priority| Named {
            namespace: "n".into(),
            name: name.into(),
            read: Ok(Arc::new(InferenceObjective { pool: pool.to_owned(), priority })),
        };
        let mut pods = Pods::new(Membership::InferencePool { namespace: None, name: "llama".to_owned() });
        let mut cluster = cluster(vec![]);
        let scope = Scope::Namespace("n".into());
        cluster.apply(&scope, Change::Pools(News::Listed(Vec::new())));
        assert_eq!(pods.read(&cluster).unwrap().priorities, None, "not known yet");
        let all = vec![objective("batch", "llama", -10), objective("other", "qwen", 5)];
        cluster.apply(&scope, Change::Objectives(News::Listed(all)));
        assert_eq!(pods.read(&cluster).unwrap().priorities, Some([("batch".to_owned(), -10)].into()));
        assert_eq!(pods.read(&cluster).unwrap().priorities, None, "told already");
        cluster.apply(&scope, Change::Objectives(News::Lost("refused".to_owned())));
        assert_eq!(pods.read(&cluster).unwrap().priorities, None, "what was known stays");
        cluster.apply(&scope, Change::Objectives(News::Changed(objective("batch", "qwen", 0))));
        assert_eq!(pods.read(&cluster).unwrap().priorities, Some(BTreeMap::new()));
    }

    #[test]
    fn nothing_is_said_of_what_is_not_known() {
        let mut unknown = Cluster::new("n");
        unknown.expect(&Scope::Namespace("n".into()));
        assert_eq!(pods().read(&unknown), None);
    }

    #[test]
    fn more_endpoints_than_a_table_holds_are_left_out_and_told() {
        let told = pods().read(&cluster((0..=MAX_ENDPOINTS).map(|number| pod(number, true)).collect())).unwrap();
        assert_eq!(told.list.unwrap().len(), usize::from(MAX_ENDPOINTS));
        assert!(told.fault.unwrap().starts_with("1 endpoints more than"));
    }
}
