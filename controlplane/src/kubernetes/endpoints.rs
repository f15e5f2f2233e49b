//! Pods → endpoints, pure: each port of each pod that a pool selects. Of a LeaderWorkerSet's group only the leader is an
//! endpoint, unless the worker declares one of the pool's ports itself (wide expert parallelism, where all serve) or
//! the pool's selector picks workers by their index. A pod that is not ready drains: it gets nothing new.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::collection::Objects;
use super::inference_pool::InferencePool;
use super::pod::Pod;
use crate::datastore::Discovered;

/// A pod's place in its LeaderWorkerSet group; `0` leads.
const WORKER_INDEX: &str = "leaderworkerset.sigs.k8s.io/worker-index";

/// The endpoints, by address. They carry their pods' labels, and `pod`, `namespace`, `node`, `rank` (the port's place in
/// the pool's list, when there are several) where no label has that name.
#[must_use]
pub fn endpoints(pool: &InferencePool, pods: &Objects<Pod>) -> Vec<Discovered> {
    let mut found: BTreeMap<String, Discovered> = BTreeMap::new();
    for pod in pods.values().filter(|pod| selects(pool, pod) && serves(pool, pod)) {
        for (rank, port) in active(pool, pod) {
            let Some(ip) = pod.ip else { continue };
            let address = SocketAddr::new(ip, port).to_string();
            let endpoint = Discovered {
                address: address.clone(),
                labels: labels(pool, pod, rank),
                draining: !pod.ready,
                metrics: None,
            };
            // An address may pass from pod to pod: the one that is ready has it.
            if found.get(&address).is_none_or(|other| other.draining) {
                found.insert(address, endpoint);
            }
        }
    }
    found.into_values().collect()
}

fn selects(pool: &InferencePool, pod: &Pod) -> bool {
    pool.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
}

/// Is it more than a worker that computes for its leader?
fn serves(pool: &InferencePool, pod: &Pod) -> bool {
    let leads = pod.labels.get(WORKER_INDEX).is_none_or(|index| index == "0");
    leads || pool.selector.contains_key(WORKER_INDEX) || pool.ports.iter().any(|port| pod.declared_ports.contains(port))
}

/// The pool's ports that serve on this pod, with their ranks.
fn active<'a>(pool: &'a InferencePool, pod: &'a Pod) -> impl Iterator<Item = (usize, u16)> + 'a {
    let listed = |port: u16| pod.active_ports.as_ref().is_none_or(|active| active.contains(&port));
    pool.ports.iter().copied().enumerate().filter(move |(_, port)| listed(*port))
}

fn labels(pool: &InferencePool, pod: &Pod, rank: usize) -> BTreeMap<String, String> {
    let mut labels = pod.labels.clone();
    let rank = (pool.ports.len() > 1).then(|| rank.to_string());
    let own = [
        ("pod", Some(pod.name.clone())),
        ("namespace", Some(pod.namespace.clone())),
        ("node", pod.node.clone()),
        ("rank", rank),
    ];
    for (key, value) in own {
        if let Some(value) = value {
            labels.entry(key.to_owned()).or_insert(value);
        }
    }
    labels
}

#[cfg(test)]
mod tests;
