//! InferencePools → pools, pure: those that are ours get one, unless the configuration has its own for them. A pool
//! whose InferencePool vanished stays for its drain grace, with endpoints that drain, and comes back as it was.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::kubernetes::{AutomaticPools, Kubernetes, Membership, Namespaces, Picker};
use crate::config::{Discovery, Pool};

use super::cluster::Cluster;
use super::collection::Scope;
use super::inference_pool::InferencePool;

/// The automatic pools of now, by name; `None` while the cluster's InferencePools are not known.
#[must_use]
pub fn pools(settings: &Kubernetes, configured: &[Pool], cluster: &Cluster) -> Option<BTreeMap<String, Pool>> {
    let Some(rules) = &settings.pools else { return Some(BTreeMap::new()) };
    if !cluster.synced() {
        return None;
    }
    let taken = Taken::of(configured, &cluster.own);
    let found =
        cluster.pools.namespaces().filter(|(namespace, _)| covers(&settings.namespaces, namespace, &cluster.own));
    let pools = found.flat_map(|(namespace, objects)| {
        objects.iter().filter(|(_, pool)| is_ours(rules, pool)).map(|(name, _)| rules.pool(namespace, name))
    });
    Some(pools.filter(|pool| !taken.has(pool)).map(|pool| (pool.name.clone(), pool)).collect())
}

/// What is to be watched for these settings; `own` is our namespace.
#[must_use]
pub fn scopes(settings: &Kubernetes, configured: &[Pool], own: &str) -> BTreeSet<Scope> {
    let named = |namespace: &str| Scope::Namespace(namespace.into());
    let mut scopes: BTreeSet<Scope> = configured
        .iter()
        .filter_map(|pool| match &pool.discovery {
            Discovery::Kubernetes(membership) => Some(named(membership.namespace(own))),
            Discovery::File { .. } | Discovery::Static(_) => None,
        })
        .collect();
    if settings.pools.is_some() {
        match &settings.namespaces {
            Namespaces::All => return BTreeSet::from([Scope::All]),
            Namespaces::Own => scopes.extend([named(own)]),
            Namespaces::Named(names) => scopes.extend(names.iter().map(|name| named(name))),
        }
    }
    scopes
}

fn is_ours(rules: &AutomaticPools, pool: &InferencePool) -> bool {
    match &rules.picker {
        Picker::Any => true,
        Picker::Service(service) => pool.picker.as_ref() == Some(service),
    }
}

fn covers(namespaces: &Namespaces, namespace: &str, own: &str) -> bool {
    match namespaces {
        Namespaces::All => true,
        Namespaces::Own => namespace == own,
        Namespaces::Named(names) => names.contains(namespace),
    }
}

/// What the configuration has its own pools for.
struct Taken<'a> {
    names: BTreeSet<&'a str>,
    inference_pools: BTreeSet<String>,
}

impl<'a> Taken<'a> {
    fn of(configured: &'a [Pool], own: &str) -> Self {
        let inference_pools = configured.iter().filter_map(|pool| match &pool.discovery {
            Discovery::Kubernetes(membership @ Membership::InferencePool { name, .. }) => {
                Some(format!("{}/{name}", membership.namespace(own)))
            }
            Discovery::Kubernetes(Membership::Selector { .. }) | Discovery::File { .. } | Discovery::Static(_) => None,
        });
        let names = configured.iter().map(|pool| pool.name.as_str()).collect();
        Self { names, inference_pools: inference_pools.collect() }
    }

    /// Automatic pools are called as their InferencePool is.
    fn has(&self, pool: &Pool) -> bool {
        self.names.contains(pool.name.as_str()) || self.inference_pools.contains(&pool.name)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::kubernetes::cluster::Change;
    use crate::kubernetes::collection::News;
    use crate::kubernetes::object::Named;

    fn cluster(pools: &[(&str, &str, Option<&str>)]) -> Cluster {
        let mut cluster = Cluster::new("own");
        let listed = pools.iter().map(|(namespace, name, picker)| {
            let selector = [("app".to_owned(), "vllm".to_owned())].into();
            let pool = InferencePool { selector, ports: vec![8000], picker: picker.map(str::to_owned) };
            Named { namespace: (*namespace).into(), name: (*name).into(), read: Ok(Arc::new(pool)) }
        });
        let listed = listed.collect();
        cluster.apply(&Scope::All, Change::Pods(News::Listed(Vec::new())));
        cluster.apply(&Scope::All, Change::Pools(News::Listed(listed)));
        cluster
    }

    fn names(config: &str, cluster: &Cluster) -> Vec<String> {
        let config = Config::parse(config, Path::new("/")).unwrap();
        pools(&config.kubernetes, &config.pools, cluster).unwrap().into_keys().collect()
    }

    #[test]
    fn pools_that_name_our_service_are_ours_in_the_namespaces_that_are_watched() {
        let cluster = cluster(&[
            ("own", "a", Some("kvasir")),
            ("own", "b", Some("other")),
            ("own", "c", None),
            ("far", "d", Some("kvasir")),
        ]);
        let picker = |more: &str| format!("kubernetes: {{pools: {{endpointPicker: kvasir}}{more}}}");
        assert_eq!(names(&picker(""), &cluster), ["own/a"]);
        assert_eq!(names(&picker(", namespaces: [far]"), &cluster), ["far/d"]);
        assert_eq!(names(&picker(", namespaces: ['*']"), &cluster), ["far/d", "own/a"]);
        assert_eq!(names("kubernetes: {pools: {endpointPicker: '*'}}", &cluster), ["own/a", "own/b", "own/c"]);
    }

    #[test]
    fn a_configured_pool_for_an_inference_pool_replaces_the_automatic_one() {
        let cluster = cluster(&[("own", "a", None), ("own", "b", None), ("own", "c", None)]);
        let config = "
kubernetes: {pools: {endpointPicker: '*'}}
pools:
- {name: mine, discovery: {kubernetes: {inferencePool: a}}}
- {name: own/b, discovery: {static: {endpoints: []}}}
";
        assert_eq!(names(config, &cluster), ["own/c"]);
    }

    #[test]
    fn settings_come_from_the_defaults_and_the_pods_from_the_inference_pool() {
        let config = "kubernetes: {pools: {endpointPicker: '*', drainGrace: 3s, defaults: {choices: 5}}}";
        let config = Config::parse(config, Path::new("/")).unwrap();
        let found = pools(&config.kubernetes, &[], &cluster(&[("own", "a", None)])).unwrap();
        let pool = &found["own/a"];
        assert_eq!((pool.settings.choices, pool.drain_grace.as_secs()), (5, 3));
        let membership = Membership::InferencePool { namespace: Some("own".to_owned()), name: "a".to_owned() };
        assert_eq!(pool.discovery, Discovery::Kubernetes(membership));
    }

    #[test]
    fn what_pools_need_is_watched_and_nothing_else() {
        let of = |config: &str| {
            let config = Config::parse(config, Path::new("/")).unwrap();
            scopes(&config.kubernetes, &config.pools, "own").into_iter().collect::<Vec<_>>()
        };
        let named = |name: &str| Scope::Namespace(name.into());
        let pool = |kubernetes: &str| format!("pools: [{{name: p, discovery: {{kubernetes: {kubernetes}}}}}]\n");
        let far = pool("{inferencePool: a, namespace: far}");
        assert_eq!(of(&pool("{selector: {a: b}, ports: [1]}")), [named("own")]);
        assert_eq!(of(&far), [named("far")]);
        assert_eq!(of(&format!("{far}kubernetes: {{pools: {{endpointPicker: k}}}}")), [named("far"), named("own")]);
        let all = "kubernetes: {namespaces: ['*'], pools: {endpointPicker: k}}";
        assert_eq!(of(&format!("{far}{all}")), [Scope::All]);
        assert_eq!(of("pools: [{name: p, discovery: {static: {endpoints: []}}}]"), []);
    }

    #[test]
    fn nothing_is_said_until_the_cluster_is_known() {
        let config = Config::parse("kubernetes: {pools: {endpointPicker: '*'}}", Path::new("/")).unwrap();
        let mut cluster = Cluster::new("own");
        cluster.expect(&Scope::All);
        assert!(pools(&config.kubernetes, &[], &cluster).is_none());
    }
}
