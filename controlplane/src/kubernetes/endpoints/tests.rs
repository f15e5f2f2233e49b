//! Which pods and ports are endpoints, where, and with which labels.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn pool(ports: &[u16]) -> InferencePool {
    let selector = BTreeMap::from([("app".to_owned(), "vllm".to_owned())]);
    InferencePool { selector, ports: ports.to_vec(), picker: None }
}

fn pod(name: &str, ip: &str) -> Pod {
    Pod {
        name: name.to_owned(),
        namespace: "n".to_owned(),
        node: Some("gpu-1".to_owned()),
        labels: BTreeMap::from([("app".to_owned(), "vllm".to_owned())]),
        ip: Some(ip.parse().unwrap()),
        ready: true,
        active_ports: None,
        declared_ports: BTreeSet::new(),
    }
}

fn worker(name: &str, ip: &str, index: &str) -> Pod {
    let mut pod = pod(name, ip);
    pod.labels.insert(WORKER_INDEX.to_owned(), index.to_owned());
    pod
}

fn of(pool: &InferencePool, pods: Vec<Pod>) -> Vec<Discovered> {
    endpoints(pool, &pods.into_iter().map(|pod| (pod.name.as_str().into(), Arc::new(pod))).collect())
}

fn addresses(found: &[Discovered]) -> Vec<&str> {
    found.iter().map(|endpoint| endpoint.address.as_str()).collect()
}

#[test]
fn every_port_of_every_selected_pod_is_an_endpoint() {
    let mut other = pod("c", "10.0.0.3");
    other.labels.insert("app".to_owned(), "other".to_owned());
    let found = of(&pool(&[8000, 8001]), vec![pod("a", "10.0.0.1"), pod("b", "fd00::2"), other]);
    assert_eq!(addresses(&found), ["10.0.0.1:8000", "10.0.0.1:8001", "[fd00::2]:8000", "[fd00::2]:8001"]);
}

#[test]
fn all_labels_of_the_selector_must_fit() {
    let mut strict = pool(&[8000]);
    strict.selector.insert("tier".to_owned(), "gold".to_owned());
    assert_eq!(of(&strict, vec![pod("a", "10.0.0.1")]), []);
}

#[test]
fn a_pod_that_is_not_ready_drains_and_one_without_an_address_is_none() {
    let unready = Pod { ready: false, ..pod("a", "10.0.0.1") };
    let unplaced = Pod { ip: None, ..pod("b", "10.0.0.2") };
    let found = of(&pool(&[8000]), vec![unready, unplaced]);
    assert_eq!(addresses(&found), ["10.0.0.1:8000"]);
    assert!(found[0].draining);
}

#[test]
fn labels_are_the_pods_and_say_where_it_is() {
    let mut decode = pod("a", "10.0.0.1");
    decode.labels.insert("llm-d.ai/role".to_owned(), "decode".to_owned());
    decode.labels.insert("node".to_owned(), "my own".to_owned());
    let labels = of(&pool(&[8000]), vec![decode]).remove(0).labels;
    let shown: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        shown,
        [("app", "vllm"), ("llm-d.ai/role", "decode"), ("namespace", "n"), ("node", "my own"), ("pod", "a")]
    );
}

#[test]
fn active_ports_restrict_the_pools_and_ranks_keep_their_place() {
    let some = Pod { active_ports: Some(BTreeSet::from([8001, 9999])), ..pod("a", "10.0.0.1") };
    let none = Pod { active_ports: Some(BTreeSet::new()), ..pod("b", "10.0.0.2") };
    let found = of(&pool(&[8000, 8001]), vec![some, none]);
    assert_eq!(addresses(&found), ["10.0.0.1:8001"]);
    assert_eq!(found[0].labels["rank"], "1");
}

#[test]
fn of_a_group_only_the_leader_serves() {
    let found = of(&pool(&[8000]), vec![worker("l", "10.0.0.1", "0"), worker("w", "10.0.0.2", "1")]);
    assert_eq!(addresses(&found), ["10.0.0.1:8000"]);
}

#[test]
fn a_worker_that_declares_a_port_of_the_pool_serves_too() {
    let serving = Pod { declared_ports: BTreeSet::from([8000, 5600]), ..worker("w", "10.0.0.2", "1") };
    let computing = Pod { declared_ports: BTreeSet::from([6379]), ..worker("x", "10.0.0.3", "2") };
    assert_eq!(addresses(&of(&pool(&[8000]), vec![serving, computing])), ["10.0.0.2:8000"]);
}

#[test]
fn a_selector_that_names_the_index_has_its_way() {
    let mut workers = pool(&[8000]);
    workers.selector.insert(WORKER_INDEX.to_owned(), "1".to_owned());
    let found = of(&workers, vec![worker("l", "10.0.0.1", "0"), worker("w", "10.0.0.2", "1")]);
    assert_eq!(addresses(&found), ["10.0.0.2:8000"]);
}

#[test]
fn an_address_that_two_pods_have_is_the_ready_ones() {
    for [first, second] in [[false, true], [true, false]] {
        let pods = vec![Pod { ready: first, ..pod("a", "10.0.0.1") }, Pod { ready: second, ..pod("b", "10.0.0.1") }];
        let found = of(&pool(&[8000]), pods);
        assert_eq!((found.len(), found[0].draining), (1, false));
        assert_eq!(found[0].labels["pod"], if first { "a" } else { "b" });
    }
}

proptest! {
    #[test]
    fn addresses_are_unique_and_of_the_pools_ports(
        pods in proptest::collection::vec((0_u8..4, any::<bool>(), proptest::option::of(0_u16..4)), 0..20),
        ports in proptest::collection::btree_set(0_u16..4, 1..4),
    ) {
        let ports: Vec<u16> = ports.into_iter().collect();
        let pods = pods.into_iter().enumerate().map(|(index, (ip, ready, active))| Pod {
            ready,
            active_ports: active.map(|port| BTreeSet::from([port])),
            ..pod(&index.to_string(), &format!("10.0.0.{ip}"))
        });
        let found = of(&pool(&ports), pods.collect());
        let unique: BTreeSet<&str> = addresses(&found).into_iter().collect();
        prop_assert_eq!(unique.len(), found.len());
        for endpoint in &found {
            let address: SocketAddr = endpoint.address.parse().unwrap();
            prop_assert!(ports.contains(&address.port()));
        }
    }
}
