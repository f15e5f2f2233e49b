//! Everything known of the cluster at one moment, pure. Readers ask it who a pool's pods are and get, besides what is
//! known, why that may be old: the two are told apart because old knowledge stays in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::collection::{Collection, Malformed, News, Objects, Scope};
use super::inference_pool::InferencePool;
use super::objective::InferenceObjective;
use super::pod::Pod;
use super::rewrite::ModelRewrite;
use crate::config::kubernetes::Membership;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// The control plane's own namespace.
    pub own: Arc<str>,
    /// Pods.
    pub pods: Collection<Pod>,
    /// InferencePools.
    pub pools: Collection<InferencePool>,
    /// InferenceObjectives.
    pub objectives: Collection<InferenceObjective>,
    /// InferenceModelRewrites.
    pub rewrites: Collection<ModelRewrite>,
}

/// What one watch tells.
#[derive(Debug)]
pub enum Change {
    /// Of pods.
    Pods(News<Pod>),
    /// Of InferencePools.
    Pools(News<InferencePool>),
    /// Of InferenceObjectives.
    Objectives(News<InferenceObjective>),
    /// Of InferenceModelRewrites.
    Rewrites(News<ModelRewrite>),
}

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Pods.
    Pod,
    /// InferencePools.
    InferencePool,
    /// InferenceObjectives.
    InferenceObjective,
    /// InferenceModelRewrites.
    InferenceModelRewrite,
}

impl Kind {
    /// As the API calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::InferencePool => "InferencePool",
            Self::InferenceObjective => "InferenceObjective",
            Self::InferenceModelRewrite => "InferenceModelRewrite",
        }
    }
}

impl Change {
    /// Of which kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Pods(_) => Kind::Pod,
            Self::Pools(_) => Kind::InferencePool,
            Self::Objectives(_) => Kind::InferenceObjective,
            Self::Rewrites(_) => Kind::InferenceModelRewrite,
        }
    }
}

/// Who a pool's endpoints are.
#[derive(Clone, Debug)]
pub struct Members {
    /// The pods of the namespace, selected or not; `None`: not known yet.
    pub pods: Option<Arc<Objects<Pod>>>,
    /// Which of them, and their ports; `None`: there is no such InferencePool.
    pub pool: Option<Arc<InferencePool>>,
    /// Why this may be old, or is not what was asked for.
    pub fault: Option<String>,
}

impl Members {
    /// Do both make the same endpoints?
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let pods = match (&self.pods, &other.pods) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        pods && self.pool == other.pool
    }
}

impl Cluster {
    /// Nothing is known; our namespace is `own`.
    #[must_use]
    pub fn new(own: &str) -> Self {
        Self { own: own.into(), ..Self::default() }
    }

    /// From now on `scope` is watched.
    pub fn expect(&mut self, scope: &Scope) {
        self.pods.expect(scope);
        self.pools.expect(scope);
        self.objectives.expect(scope);
        self.rewrites.expect(scope);
    }

    /// Takes in what a watch of `scope` tells. Returns the objects that make no sense and did not say so before.
    pub fn apply(&mut self, scope: &Scope, change: Change) -> Vec<Malformed> {
        match change {
            Change::Pods(news) => self.pods.apply(scope, news),
            Change::Pools(news) => self.pools.apply(scope, news),
            Change::Objectives(news) => self.objectives.apply(scope, news),
            Change::Rewrites(news) => self.rewrites.apply(scope, news),
        }
    }

    /// Is everything that routing needs known? What llm-d's kinds say is not needed to begin.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.pods.synced() && self.pools.synced()
    }

    /// Why `scope` is not followed now, as far as `kind` goes.
    #[must_use]
    pub fn fault(&self, kind: Kind, scope: &Scope) -> Option<&str> {
        match kind {
            Kind::Pod => self.pods.fault_of(scope),
            Kind::InferencePool => self.pools.fault_of(scope),
            Kind::InferenceObjective => self.objectives.fault_of(scope),
            Kind::InferenceModelRewrite => self.rewrites.fault_of(scope),
        }
    }

    /// Who the endpoints of a pool are; `None`: not known yet.
    #[must_use]
    pub fn members(&self, membership: &Membership) -> Option<Members> {
        let namespace = membership.namespace(&self.own);
        let pods = self.pods.of(namespace)?;
        let lost = |kind: Kind, fault: &str| format!("{} not followed: {fault}", kind.name());
        let pods_lost = self.pods.fault(namespace).map(|fault| lost(Kind::Pod, fault));
        let (pool, fault) = match membership {
            Membership::Selector { labels, ports, .. } => {
                (Some(Arc::new(InferencePool { selector: labels.clone(), ports: ports.clone(), picker: None })), None)
            }
            Membership::InferencePool { name, .. } => {
                let pool = self.pools.of(namespace)?.get(name.as_str()).cloned();
                let malformed = self.pools.malformed(namespace, name);
                let fault = match (self.pools.fault(namespace), malformed, &pool) {
                    (Some(fault), _, _) => Some(lost(Kind::InferencePool, fault)),
                    (None, Some(error), _) => Some(format!("InferencePool {namespace}/{name} is malformed: {error}")),
                    (None, None, None) => Some(format!("there is no InferencePool {namespace}/{name}")),
                    (None, None, Some(_)) => None,
                };
                (pool, fault)
            }
        };
        Some(Members { pods: Some(pods), pool, fault: pods_lost.or(fault) })
    }

    /// The priorities of the objectives that are for this pool, by name; `None`: not known yet.
    #[must_use]
    pub fn priorities(&self, membership: &Membership) -> Option<BTreeMap<String, i32>> {
        let Membership::InferencePool { name, .. } = membership else { return Some(BTreeMap::new()) };
        let objectives = self.objectives.of(membership.namespace(&self.own))?;
        let its_own = objectives.iter().filter(|(_, objective)| objective.pool == *name);
        Some(its_own.map(|(objective, read)| ((**objective).to_owned(), read.priority)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::object::Named;

    fn cluster() -> (Cluster, Scope) {
        let (mut cluster, scope) = (Cluster::new("n"), Scope::Namespace("n".into()));
        cluster.expect(&scope);
        (cluster, scope)
    }

    fn pool(name: &str) -> Named<InferencePool> {
        let selector = [("app".to_owned(), "vllm".to_owned())].into();
        let pool = InferencePool { selector, ports: vec![8000], picker: None };
        Named { namespace: "n".into(), name: name.into(), read: Ok(Arc::new(pool)) }
    }

    fn named(name: &str) -> Membership {
        Membership::InferencePool { namespace: None, name: name.to_owned() }
    }

    #[test]
    fn a_pool_is_unknown_until_pods_and_pools_are_listed() {
        let (mut cluster, scope) = cluster();
        assert!(cluster.members(&named("a")).is_none());
        cluster.apply(&scope, Change::Pods(News::Listed(Vec::new())));
        assert!(cluster.members(&named("a")).is_none() && !cluster.synced());
        let labels = [("app".to_owned(), "vllm".to_owned())].into();
        let selected = Membership::Selector { namespace: None, labels, ports: vec![1] };
        assert_eq!(cluster.members(&selected).unwrap().pool.unwrap().ports, [1]);
        cluster.apply(&scope, Change::Pools(News::Listed(vec![pool("a")])));
        assert!(cluster.synced());
        let members = cluster.members(&named("a")).unwrap();
        assert!(members.pool.is_some() && members.fault.is_none());
    }

    #[test]
    fn a_missing_pool_a_malformed_one_and_a_lost_server_are_told_apart() {
        let (mut cluster, scope) = cluster();
        cluster.apply(&scope, Change::Pods(News::Listed(Vec::new())));
        cluster.apply(&scope, Change::Pools(News::Listed(vec![pool("a")])));
        let fault = |cluster: &Cluster, name| cluster.members(&named(name)).unwrap().fault;
        assert_eq!(fault(&cluster, "b").unwrap(), "there is no InferencePool n/b");
        let bad = Named { read: Err("no ports".to_owned()), ..pool("a") };
        cluster.apply(&scope, Change::Pools(News::Changed(bad)));
        assert_eq!(fault(&cluster, "a").unwrap(), "InferencePool n/a is malformed: no ports");
        assert!(cluster.members(&named("a")).unwrap().pool.is_some());
        cluster.apply(&scope, Change::Pods(News::Lost("refused".to_owned())));
        assert_eq!(fault(&cluster, "a").unwrap(), "Pod not followed: refused");
    }

    #[test]
    fn kinds_of_llm_d_are_not_needed_to_begin() {
        let (mut cluster, scope) = cluster();
        cluster.apply(&scope, Change::Pods(News::Listed(Vec::new())));
        cluster.apply(&scope, Change::Pools(News::NotServed));
        cluster.apply(&scope, Change::Objectives(News::Lost("forbidden".to_owned())));
        assert!(cluster.synced());
        assert_eq!(cluster.fault(Kind::InferenceObjective, &scope), Some("forbidden"));
    }
}
